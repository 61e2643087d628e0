//! Pods that ask for an AppArmor profile, on a host that may have none (upstream: `pkg/security/apparmor/validate.go`).

use std::path::Path;

use k8s_openapi::api::core::v1::{AppArmorProfile, Pod};

use super::Rejection;
use crate::pods::spec;
use crate::runtime::translate::APPARMOR_ANNOTATION;

/// Whether the kernel enforces profiles, as runc sees it.
pub(super) fn enabled() -> bool {
    let parameter = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    Path::new("/sys/kernel/security/apparmor").exists() && parameter.is_ok_and(|text| text.starts_with('Y'))
}

/// A pod whose profile can't be enforced does not run without it. A profile that is not loaded is the runtime's error.
pub(super) fn check(pod: &Pod, enabled: bool) -> Result<(), Rejection> {
    if enabled || !is_asked_for(pod) {
        return Ok(());
    }
    Err(Rejection::new("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"))
}

fn is_asked_for(pod: &Pod) -> bool {
    let confines = |profile: Option<&AppArmorProfile>| profile.is_some_and(|profile| profile.type_ != "Unconfined");
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()).and_then(|context| context.app_armor_profile.as_ref());
    let mut contexts = (spec::init_containers(pod).iter().chain(spec::containers(pod)).map(|c| &c.security_context))
        .chain(spec::ephemeral_containers(pod).iter().map(|c| &c.security_context));
    confines(of_pod)
        || contexts.any(|context| confines(context.as_ref().and_then(|context| context.app_armor_profile.as_ref())))
        || pod.metadata.annotations.iter().flatten().any(|(key, value)| key.starts_with(APPARMOR_ANNOTATION) && value != "unconfined")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(annotations: Value, of_pod: Value, of_container: Value) -> Pod {
        let containers = json!([{"name": "c", "securityContext": {"appArmorProfile": of_container}}]);
        let spec = json!({"containers": containers, "securityContext": {"appArmorProfile": of_pod}});
        serde_json::from_value(json!({"metadata": {"annotations": annotations}, "spec": spec})).expect("a pod")
    }

    #[test]
    fn who_asks_for_a_profile_needs_a_kernel_that_has_them() {
        let key = format!("{APPARMOR_ANNOTATION}c");
        let (none, default) = (json!(null), json!({"type": "RuntimeDefault"}));
        let free = json!({"type": "Unconfined"});
        for (pod, asks) in [
            (pod(json!({}), none.clone(), none.clone()), false),
            (pod(json!({}), free.clone(), free), false),
            (pod(json!({key.clone(): "unconfined"}), none.clone(), none.clone()), false),
            (pod(json!({key: "runtime/default"}), none.clone(), none.clone()), true),
            (pod(json!({}), default.clone(), none.clone()), true),
            (pod(json!({}), none, default), true),
        ] {
            assert!(check(&pod, true).is_ok());
            assert_eq!(check(&pod, false).err().map(|r| r.reason), asks.then_some("AppArmor".into()), "{pod:?}");
        }
    }
}
