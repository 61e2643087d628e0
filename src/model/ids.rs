//! Ids as types of their own, so that a sandbox id is never passed where a pod UID is wanted.

use std::fmt;
use std::sync::Arc;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $name {
            fn from(s: &str) -> Self {
                Self(s.into())
            }
        }
        impl From<String> for $name {
            fn from(s: String) -> Self {
                Self(s.into())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

id!(
    /// A pod's UID as the API server gave it.
    PodUid
);
id!(
    /// A pod sandbox's id as the runtime gave it.
    SandboxId
);
id!(
    /// A container's id as the runtime gave it (without the `containerd://` prefix).
    ContainerId
);

/// Names one pod for people and for API calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodRef {
    /// The pod's namespace.
    pub namespace: Arc<str>,
    /// The pod's name.
    pub name: Arc<str>,
    /// The pod's UID: the same name may be another pod tomorrow.
    pub uid: PodUid,
}

impl PodRef {
    /// The reference of an API object. Missing parts become empty strings, as the API server never leaves them out.
    pub fn of(pod: &k8s_openapi::api::core::v1::Pod) -> Self {
        let text = |s: &Option<String>| -> Arc<str> { s.as_deref().unwrap_or_default().into() };
        Self {
            namespace: text(&pod.metadata.namespace),
            name: text(&pod.metadata.name),
            uid: pod.metadata.uid.as_deref().unwrap_or_default().into(),
        }
    }
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
