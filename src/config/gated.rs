//! Fields that a feature gate must allow, or that the want of a gate forbids.
//!
//! Source: pkg/kubelet/apis/config/validation/validation.go and k8s.io/component-base/logs/api/v1/options.go. Fields whose gate can't
//! be switched off any more have no rule here.

use std::time::Duration;

use serde_json::Value;

use super::view::View;
use super::{check, gates};
use crate::model::quantity::Quantity;

/// Adds one line for each field that its gate forbids.
pub(super) fn check(config: &View, found: &mut Vec<String>) {
    let is_set = |path: &str| config.value(path).is_some_and(|value| !check::is_zero(value));
    // Where the configuration has the default filled in, only another value shows that somebody wants the feature.
    let differs = |path: &str, default: Duration| config.duration(path) != default;
    let policy = config.text("imagePullCredentialsVerificationPolicy");
    let buffer = |path: &str| config.text(path).parse::<Quantity>().is_ok_and(|size| size.value() != 0);
    let rules = [
        ("shutdownGracePeriod", "GracefulNodeShutdown", is_set("shutdownGracePeriod")),
        ("shutdownGracePeriodCriticalPods", "GracefulNodeShutdown", is_set("shutdownGracePeriodCriticalPods")),
        (
            "shutdownGracePeriodByPodPriority",
            "GracefulNodeShutdownBasedOnPodPriority",
            !config.list("shutdownGracePeriodByPodPriority").is_empty(),
        ),
        (
            "crashLoopBackOff.maxContainerRestartPeriod",
            "KubeletCrashLoopBackOffMax",
            differs("crashLoopBackOff.maxContainerRestartPeriod", Duration::from_secs(300)),
        ),
        ("cpuCFSQuotaPeriod", "CustomCPUCFSQuotaPeriod", differs("cpuCFSQuotaPeriod", Duration::from_millis(100))),
        ("serverTLSBootstrap", "RotateKubeletServerCertificate", config.is_on("serverTLSBootstrap")),
        ("imagePullCredentialsVerificationPolicy", "KubeletEnsureSecretPulledImages", !matches!(policy, "" | "NeverVerifyPreloadedImages")),
        (
            "memoryReservationPolicy",
            "MemoryQoS",
            config.value("memoryReservationPolicy").and_then(Value::as_str) == Some("TieredReservation"),
        ),
        ("logging.options.text.splitStream", "LoggingAlphaOptions", config.is_on("logging.options.text.splitStream")),
        ("logging.options.json.splitStream", "LoggingAlphaOptions", config.is_on("logging.options.json.splitStream")),
        ("logging.options.text.infoBufferSize", "LoggingAlphaOptions", buffer("logging.options.text.infoBufferSize")),
        ("logging.options.json.infoBufferSize", "LoggingAlphaOptions", buffer("logging.options.json.infoBufferSize")),
    ];
    for (field, gate, wanted) in rules {
        if wanted && !gates::is_on(config, gate) {
            found.push(format!("{field} needs the feature gate {gate}"));
        }
    }
}
