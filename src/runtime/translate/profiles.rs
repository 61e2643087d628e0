//! Seccomp and AppArmor profiles.

use std::path::{Component, Path};

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, SecurityContext};
use proto::cri::SecurityProfile;
use proto::cri::security_profile::ProfileType;

use super::{TranslateError, TranslateSettings};

/// The profile that the runtime brings along.
pub(super) const RUNTIME_DEFAULT: SecurityProfile =
    SecurityProfile { profile_type: ProfileType::RuntimeDefault as i32, localhost_ref: String::new() };
/// No profile.
const UNCONFINED: SecurityProfile = SecurityProfile { profile_type: ProfileType::Unconfined as i32, localhost_ref: String::new() };

/// Prefix of the annotation that named a container's AppArmor profile before the API had a field for it.
pub const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// The container's seccomp profile: its own, else the pod's, else the node's default.
pub(super) fn seccomp(
    pod: &PodSecurityContext,
    own: &SecurityContext,
    settings: &TranslateSettings,
) -> Result<SecurityProfile, TranslateError> {
    let Some(profile) = own.seccomp_profile.as_ref().or(pod.seccomp_profile.as_ref()) else {
        return Ok(if settings.seccomp_default { RUNTIME_DEFAULT } else { UNCONFINED });
    };
    match profile.type_.as_str() {
        "RuntimeDefault" => Ok(RUNTIME_DEFAULT),
        "Unconfined" => Ok(UNCONFINED),
        "Localhost" => {
            let name = profile.localhost_profile.as_deref().unwrap_or_default();
            if !below(name) {
                let (field, expected) = ("seccompProfile.localhostProfile", "a path below <root-dir>/seccomp, without ..");
                return Err(TranslateError::Invalid { field, value: name.to_owned(), expected });
            }
            let path = settings.root_dir.join("seccomp").join(name);
            Ok(localhost(path.to_string_lossy().into_owned()))
        }
        other => Err(unknown("seccompProfile.type", other)),
    }
}

/// The container's AppArmor profile: its own field, else the old annotation, which static pods may still have, else the pod's field.
pub(super) fn apparmor(
    pod: &Pod,
    of_pod: &PodSecurityContext,
    container: &Container,
    own: &SecurityContext,
) -> Result<Option<SecurityProfile>, TranslateError> {
    if own.app_armor_profile.is_none()
        && let Some(profile) = from_annotation(pod, container)
    {
        return Ok(Some(profile));
    }
    let Some(profile) = own.app_armor_profile.as_ref().or(of_pod.app_armor_profile.as_ref()) else { return Ok(None) };
    match profile.type_.as_str() {
        "RuntimeDefault" => Ok(Some(RUNTIME_DEFAULT)),
        "Unconfined" => Ok(Some(UNCONFINED)),
        "Localhost" => match profile.localhost_profile.as_deref().filter(|n| !n.is_empty()) {
            Some(name) => Ok(Some(localhost(name.to_owned()))),
            None => {
                let (field, expected) = ("appArmorProfile.localhostProfile", "the name of a loaded profile");
                Err(TranslateError::Invalid { field, value: String::new(), expected })
            }
        },
        other => Err(unknown("appArmorProfile.type", other)),
    }
}

/// The same profile as runtimes before CRI's `apparmor` field read it.
pub(super) fn old_apparmor(profile: &SecurityProfile) -> String {
    match ProfileType::try_from(profile.profile_type) {
        Ok(ProfileType::RuntimeDefault) => "runtime/default".into(),
        Ok(ProfileType::Localhost) => format!("localhost/{}", profile.localhost_ref),
        _ => "unconfined".into(),
    }
}

fn from_annotation(pod: &Pod, container: &Container) -> Option<SecurityProfile> {
    let key = format!("{APPARMOR_ANNOTATION}{}", container.name);
    match pod.metadata.annotations.as_ref()?.get(&key)?.as_str() {
        "runtime/default" => Some(RUNTIME_DEFAULT),
        "unconfined" => Some(UNCONFINED),
        other => Some(localhost(other.strip_prefix("localhost/")?.to_owned())),
    }
}

fn localhost(name: String) -> SecurityProfile {
    SecurityProfile { profile_type: ProfileType::Localhost.into(), localhost_ref: name }
}

fn below(path: &str) -> bool {
    let plain = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
    !path.is_empty() && Path::new(path).components().all(plain)
}

fn unknown(field: &'static str, value: &str) -> TranslateError {
    TranslateError::Invalid { field, value: value.to_owned(), expected: "RuntimeDefault, Localhost or Unconfined" }
}
