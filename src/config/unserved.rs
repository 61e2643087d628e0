//! Fields that are accepted and checked, but that nothing in the agent acts on yet. A setting without effect is said once at start-up.

use serde_json::{Map, Value};

use super::Options;
use super::check::is_zero;
use super::schema::{self, Default};
use super::view::View;

/// Dotted paths. Whoever implements one takes it off this list.
const UNSERVED: &[&str] = &[
    "readOnlyPort",
    "tlsCurvePreferences",
    "rotateCertificates",
    "serverTLSBootstrap",
    "imagePullCredentialsVerificationPolicy",
    "preloadedImagesVerificationAllowlist",
    "enableContentionProfiling",
    "imageMinimumGCAge",
    "imageMaximumGCAge",
    "imageGCHighThresholdPercent",
    "imageGCLowThresholdPercent",
    "kubeletCgroups",
    "systemCgroups",
    "cpuManagerPolicy",
    "cpuManagerPolicyOptions",
    "memoryManagerPolicy",
    "topologyManagerPolicy",
    "topologyManagerPolicyOptions",
    "topologyManagerScope",
    "qosReserved",
    "podCIDR",
    "configMapAndSecretChangeDetectionStrategy",
    "kubeAPIQPS",
    "kubeAPIBurst",
    "volumePluginDir",
    "protectKernelDefaults",
    "featureGates",
    "memorySwap.swapBehavior",
    "kernelMemcgNotification",
    "enableSystemLogQuery",
    "shutdownGracePeriod",
    "shutdownGracePeriodByPodPriority",
    "reservedMemory",
    "memoryReservationPolicy",
    "tracing",
    "userNamespaces",
];

/// The warning about all that is set away from its default, if anything is.
pub(super) fn warning(config: &Map<String, Value>) -> Option<String> {
    let config = View(config);
    let is_set = |path: &&&str| {
        let default = schema::find(path).map(|field| &field.default);
        config.value(path).is_some_and(|value| match default {
            Some(Default::Json(json) | Default::ForZero(json)) => {
                serde_json::from_str::<Value>(json).is_ok_and(|default| default != *value)
            }
            Some(Default::Absent) | None => !is_zero(value),
        })
    };
    let set: Vec<&str> = UNSERVED.iter().filter(is_set).copied().collect();
    (!set.is_empty()).then(|| format!("settings that are accepted but not acted on yet: {}", set.join(", ")))
}

/// The warning about flags that set something nobody reads yet.
pub(super) fn flags_warning(options: &Options) -> Option<String> {
    let none = Options::default();
    let flags = [
        ("--bootstrap-kubeconfig", options.bootstrap_kubeconfig != none.bootstrap_kubeconfig),
        ("--minimum-container-ttl-duration", options.minimum_container_ttl != none.minimum_container_ttl),
        (
            "--maximum-dead-containers-per-container",
            options.maximum_dead_containers_per_container != none.maximum_dead_containers_per_container,
        ),
        ("--maximum-dead-containers", options.maximum_dead_containers != none.maximum_dead_containers),
    ];
    let set: Vec<&str> = flags.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect();
    (!set.is_empty()).then(|| format!("flags that are accepted but not acted on yet: {}", set.join(", ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::defaults;
    use super::*;

    #[test]
    fn only_what_differs_from_the_default_is_named() {
        assert!(UNSERVED.iter().all(|path| schema::find(path).is_some()));
        let mut config = Map::new();
        defaults::fill(&mut config);
        assert_eq!(warning(&config), None);
        config.insert("kubeletCgroups".to_owned(), json!("/agents"));
        config.insert("memorySwap".to_owned(), json!({"swapBehavior": "LimitedSwap"}));
        let said = warning(&config);
        assert_eq!(said.as_deref(), Some("settings that are accepted but not acted on yet: kubeletCgroups, memorySwap.swapBehavior"));
    }
}
