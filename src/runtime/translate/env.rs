//! The environment of a container.

mod file;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, FileKeySelector, Pod, Secret};

use super::expansion::expand;
use super::links::service_links;
use crate::model::downward::{self, DownwardError};
use crate::model::node::NodeFacts;
use crate::model::service::ServiceMap;

/// A ConfigMap or Secret that a container's environment is made from. It is in the pod's namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// ConfigMap.
    ConfigMap,
    /// Secret.
    Secret,
}

/// One object that [`environment`] needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRef {
    /// Kind.
    pub kind: ObjectKind,
    /// Name, in the pod's namespace.
    pub name: String,
    /// Whether the container starts without it; false as soon as one of the references says so.
    pub optional: bool,
}

/// The objects that were found. What is missing here does not exist.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// ConfigMaps by name.
    pub config_maps: BTreeMap<String, Arc<ConfigMap>>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Arc<Secret>>,
    /// Files of volumes, by volume and path; without those of volumes that the pod has not. An error says why a file can't be read.
    pub files: BTreeMap<(String, String), Result<String, String>>,
}

/// Why a container has no environment. Upstream shows these as `CreateContainerConfigError`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// A ConfigMap that is not optional does not exist.
    #[error("configmap {0:?} not found")]
    NoConfigMap(String),
    /// A Secret that is not optional does not exist.
    #[error("secret {0:?} not found")]
    NoSecret(String),
    /// An object lacks a key.
    #[error("couldn't find key {key} in {kind:?} {namespace}/{name}")]
    NoKey {
        /// The key.
        key: String,
        /// The object's kind.
        kind: ObjectKind,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A field or an amount can't be had.
    #[error("variable {variable}: {source}")]
    Downward {
        /// The variable.
        variable: String,
        /// Why.
        source: DownwardError,
    },
    /// A variable comes from a file of a volume that the pod has not.
    #[error("cannot find the volume {0:?} referenced by FileKeyRef")]
    NoVolume(String),
    /// A file of variables can't be read, or is none.
    #[error("couldn't parse env file {path:?} of volume {volume:?}: {message}")]
    BadFile {
        /// The volume.
        volume: String,
        /// The file's path in it.
        path: String,
        /// Why.
        message: String,
    },
    /// A file of variables lacks one.
    #[error("environment variable key {key:?} not found in file {path:?} of volume {volume:?}")]
    NoVariable {
        /// The variable's name in the file.
        key: String,
        /// The volume.
        volume: String,
        /// The file's path in it.
        path: String,
    },
}

/// The ConfigMaps and Secrets that must be read before [`environment`] is called; each once, in the order of the spec.
pub fn references(container: &Container) -> Vec<ObjectRef> {
    let mut out: Vec<ObjectRef> = Vec::new();
    let mut add = |kind, name: &str, optional: Option<bool>| {
        let optional = optional == Some(true);
        match out.iter_mut().find(|r| r.kind == kind && r.name == name) {
            Some(known) => known.optional &= optional,
            None => out.push(ObjectRef { kind, name: name.to_owned(), optional }),
        }
    };
    for from in container.env_from.iter().flatten() {
        if let Some(r) = &from.config_map_ref {
            add(ObjectKind::ConfigMap, &r.name, r.optional);
        } else if let Some(r) = &from.secret_ref {
            add(ObjectKind::Secret, &r.name, r.optional);
        }
    }
    for source in container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
        if let Some(r) = &source.config_map_key_ref {
            add(ObjectKind::ConfigMap, &r.name, r.optional);
        }
        if let Some(r) = &source.secret_key_ref {
            add(ObjectKind::Secret, &r.name, r.optional);
        }
    }
    out
}

/// Files of volumes, by volume and path, that must be read too.
pub fn files(container: &Container) -> impl Iterator<Item = (&str, &str)> {
    let sources = container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref());
    sources.filter_map(|source| source.file_key_ref.as_ref()).map(|file| (file.volume_name.as_str(), file.path.as_str()))
}

/// What variables are made from, beside the container's own spec.
#[derive(Debug, Clone, Copy)]
pub struct EnvSources<'a> {
    /// The objects that [`references`] named, as far as they exist.
    pub objects: &'a Objects,
    /// Services with a cluster IP.
    pub services: &'a ServiceMap,
    /// The node.
    pub facts: &'a NodeFacts,
    /// The pod's addresses in the order of its status.
    pub pod_ips: &'a [IpAddr],
}

/// The environment of a container, sorted by name.
///
/// A later source wins over an earlier one: service links, `envFrom` in its order, `env` in its order. A value of `env` may refer
/// to everything that is known at its place: `$(NAME)`.
pub fn environment(pod: &Pod, container: &Container, sources: EnvSources<'_>) -> Result<Vec<(String, Vec<u8>)>, EnvError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let objects = Lookup { objects: sources.objects, namespace };
    let spec = pod.spec.as_ref();
    let links = spec.and_then(|s| s.enable_service_links).unwrap_or(true);
    let links: BTreeMap<String, Vec<u8>> =
        service_links(sources.services, namespace, links).into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
    let mut own = env_from(container, objects)?;
    for variable in container.env.iter().flatten() {
        let value = match (variable.value.as_deref().filter(|v| !v.is_empty()), &variable.value_from) {
            (Some(text), _) => Some(expand(text, |name| own.get(name).or_else(|| links.get(name)).map(Vec::as_slice))),
            (None, Some(source)) => value_from(pod, container, &variable.name, source, objects, sources)?,
            (None, None) => Some(Vec::new()),
        };
        if let Some(value) = value {
            own.insert(variable.name.clone(), value);
        }
    }
    let mut all = links;
    all.extend(own);
    Ok(all.into_iter().collect())
}

fn env_from(container: &Container, objects: Lookup<'_>) -> Result<BTreeMap<String, Vec<u8>>, EnvError> {
    let mut out = BTreeMap::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let mut add = |key: &String, value: &[u8]| out.insert(format!("{prefix}{key}"), value.to_owned());
        if let Some(r) = &from.config_map_ref {
            if let Some(map) = objects.config_map(&r.name, r.optional)? {
                map.data.iter().flatten().for_each(|(key, value)| drop(add(key, value.as_bytes())));
            }
        } else if let Some(r) = &from.secret_ref
            && let Some(secret) = objects.secret(&r.name, r.optional)?
        {
            for (key, value) in secret.data.iter().flatten() {
                add(key, &value.0);
            }
        }
    }
    Ok(out)
}

/// `None` when an optional source is not there: the variable is left out then.
fn value_from(
    pod: &Pod,
    container: &Container,
    variable: &str,
    source: &EnvVarSource,
    objects: Lookup<'_>,
    sources: EnvSources<'_>,
) -> Result<Option<Vec<u8>>, EnvError> {
    let downward = |source| EnvError::Downward { variable: variable.to_owned(), source };
    if let Some(field) = &source.field_ref {
        // A pod in the host's network has the node's addresses.
        let host_network = pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
        let ips = if host_network && sources.pod_ips.is_empty() { &sources.facts.ips } else { sources.pod_ips };
        let value = downward::field_value(pod, &field.field_path, ips, sources.facts);
        return value.map(|text| Some(text.into_bytes())).map_err(downward);
    }
    if let Some(r) = &source.resource_field_ref {
        let of = match r.container_name.as_deref().filter(|n| !n.is_empty()) {
            Some(name) => downward::container(pod, name).map_err(downward)?,
            None => container,
        };
        let value = downward::resource_value(pod, of, &r.resource, r.divisor.as_ref(), sources.facts);
        return value.map(|text| Some(text.into_bytes())).map_err(downward);
    }
    if let Some(r) = &source.config_map_key_ref {
        let Some(map) = objects.config_map(&r.name, r.optional)? else { return Ok(None) };
        let value = map.data.as_ref().and_then(|d| d.get(&r.key)).map(|v| v.clone().into_bytes());
        return objects.required(value, ObjectKind::ConfigMap, &r.name, &r.key, r.optional);
    }
    if let Some(r) = &source.secret_key_ref {
        let Some(secret) = objects.secret(&r.name, r.optional)? else { return Ok(None) };
        let value = secret.data.as_ref().and_then(|d| d.get(&r.key)).map(|v| v.0.clone());
        return objects.required(value, ObjectKind::Secret, &r.name, &r.key, r.optional);
    }
    if let Some(selector) = &source.file_key_ref {
        return objects.variable(selector);
    }
    Ok(Some(Vec::new()))
}

/// The objects, with the errors that missing ones make.
#[derive(Clone, Copy)]
struct Lookup<'a> {
    objects: &'a Objects,
    namespace: &'a str,
}

impl<'a> Lookup<'a> {
    fn config_map(self, name: &str, optional: Option<bool>) -> Result<Option<&'a ConfigMap>, EnvError> {
        match self.objects.config_maps.get(name) {
            Some(map) => Ok(Some(map)),
            None if optional == Some(true) => Ok(None),
            None => Err(EnvError::NoConfigMap(name.to_owned())),
        }
    }

    fn secret(self, name: &str, optional: Option<bool>) -> Result<Option<&'a Secret>, EnvError> {
        match self.objects.secrets.get(name) {
            Some(secret) => Ok(Some(secret)),
            None if optional == Some(true) => Ok(None),
            None => Err(EnvError::NoSecret(name.to_owned())),
        }
    }

    fn variable(self, selector: &FileKeySelector) -> Result<Option<Vec<u8>>, EnvError> {
        let FileKeySelector { volume_name: volume, path, key, optional } = selector.clone();
        let Some(content) = self.objects.files.get(&(volume.clone(), path.clone())) else { return Err(EnvError::NoVolume(volume)) };
        let found = content.as_deref().map_err(Clone::clone).and_then(|text| file::value(text, &key).map_err(|error| error.to_string()));
        match found {
            Ok(Some(value)) => Ok(Some(value.as_bytes().to_vec())),
            Ok(None) if optional == Some(true) => Ok(None),
            Ok(None) => Err(EnvError::NoVariable { key, volume, path }),
            // Also where it is optional: that says the variable may be missing, not the file.
            Err(message) => Err(EnvError::BadFile { volume, path, message }),
        }
    }

    fn required(
        self,
        value: Option<Vec<u8>>,
        kind: ObjectKind,
        name: &str,
        key: &str,
        optional: Option<bool>,
    ) -> Result<Option<Vec<u8>>, EnvError> {
        if value.is_none() && optional != Some(true) {
            return Err(EnvError::NoKey { key: key.to_owned(), kind, namespace: self.namespace.to_owned(), name: name.to_owned() });
        }
        Ok(value)
    }
}

#[cfg(test)]
#[path = "env/tests.rs"]
mod tests;
