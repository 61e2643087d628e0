//! Rules that look at more than one field, or further than type and range (`schema.rs` has those).
//!
//! Source: pkg/kubelet/apis/config/validation/validation.go and, for what upstream checks later at start-up, cmd/kubelet/app/server.go
//! and pkg/kubelet/eviction/helpers.go.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value};

use super::threshold::{SIGNALS, parse_reclaim, parse_reserved, parse_threshold};
use super::view::View;
use super::{cpu_list, duration, gated, gates, labels, tls_names};
use crate::model::quantity::Quantity;

const SECOND: Duration = Duration::from_secs(1);

/// Checks a complete configuration; adds one line for each broken rule.
pub(super) fn validate(config: &Map<String, Value>, problems: &mut Vec<String>) {
    let config = View(config);
    let mut found = Vec::new();
    gates::check(&config, &mut found);
    gated::check(&config, &mut found);
    tls_names::check(&config, &mut found);
    images_and_logs(&config, &mut found);
    node_allocatable(&config, &mut found);
    reserved_memory(&config, &mut found);
    eviction(&config, &mut found);
    taints(&config, &mut found);
    shutdown(&config, &mut found);
    runtime_and_server(&config, &mut found);
    problems.append(&mut found);
}

fn images_and_logs(config: &View, found: &mut Vec<String>) {
    let (low, high) = (config.int("imageGCLowThresholdPercent"), config.int("imageGCHighThresholdPercent"));
    if low >= high {
        found.push(format!("imageGCLowThresholdPercent ({low}) must be less than imageGCHighThresholdPercent ({high})"));
    }
    let (min, max) = (config.duration("imageMinimumGCAge"), config.duration("imageMaximumGCAge"));
    if !max.is_zero() && max <= min {
        found.push(format!(
            "imageMaximumGCAge ({}) must be more than imageMinimumGCAge ({})",
            duration::format(max),
            duration::format(min)
        ));
    }
    if config.is_on("serializeImagePulls") && config.int("maxParallelImagePulls") > 1 {
        found.push("maxParallelImagePulls above 1 needs serializeImagePulls: false".to_owned());
    }
    let policy = config.text("imagePullCredentialsVerificationPolicy");
    if !config.list("preloadedImagesVerificationAllowlist").is_empty() && policy != "NeverVerifyAllowlistedImages" {
        found.push(
            "preloadedImagesVerificationAllowlist needs imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages".to_owned(),
        );
    }
    for pattern in config.texts("preloadedImagesVerificationAllowlist") {
        if let Err(problem) = check_image_pattern(pattern) {
            found.push(format!("preloadedImagesVerificationAllowlist: {pattern:?} {problem}"));
        }
    }
    if config.duration("containerLogMonitorInterval") < 3 * SECOND {
        found.push("containerLogMonitorInterval must be 3s or more".to_owned());
    }
    let logs = config.text("podLogsDir");
    let clean =
        logs == "/" || (logs.starts_with('/') && logs.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != ".."));
    if !clean || !logs.is_ascii() {
        found.push(format!("podLogsDir must be an absolute path of ASCII letters without //, . or .., got {logs:?}"));
    }
    if config.is_on("enableSystemLogQuery") && !config.is_on("enableSystemLogHandler") {
        found.push("enableSystemLogQuery needs enableSystemLogHandler: true".to_owned());
    }
}

fn node_allocatable(config: &View, found: &mut Vec<String>) {
    for field in ["systemReserved", "kubeReserved"] {
        for (key, problem) in parse_reserved(&config.map(field)).err().into_iter().flatten() {
            found.push(format!("{field}[{key:?}]: {problem}"));
        }
    }
    let levels = config.texts("enforceNodeAllocatable");
    let unique: BTreeSet<_> = levels.iter().collect();
    if unique.len() < levels.len() {
        found.push("enforceNodeAllocatable: the same level is named twice".to_owned());
    }
    if unique.contains(&"none") && unique.len() > 1 {
        found.push("enforceNodeAllocatable: \"none\" must stand alone".to_owned());
    }
    for (level, cgroup) in [("system-reserved", "systemReservedCgroup"), ("kube-reserved", "kubeReservedCgroup")] {
        let compressible = format!("{level}-compressible");
        let (both, cpu_only) = (unique.contains(&level), unique.contains(&compressible.as_str()));
        if both && cpu_only {
            found.push(format!("enforceNodeAllocatable: {level:?} and {compressible:?} exclude each other"));
        }
        if (both || cpu_only) && config.text(cgroup).is_empty() {
            found.push(format!("enforceNodeAllocatable: {level:?} needs {cgroup}"));
        }
    }
    if !config.is_on("cgroupsPerQOS") && unique.iter().any(|level| **level != "none") {
        found.push("cgroupsPerQOS: false needs enforceNodeAllocatable: [\"none\"]".to_owned());
    }
    let cpus = config.text("reservedSystemCPUs");
    if !cpus.is_empty() {
        if !(config.text("systemReservedCgroup").is_empty() && config.text("kubeReservedCgroup").is_empty()) {
            found.push("reservedSystemCPUs excludes systemReservedCgroup and kubeReservedCgroup".to_owned());
        }
        if cpu_list::count(cpus).is_none() {
            found.push(format!("reservedSystemCPUs must be a list such as \"0-3,8\", got {cpus:?}"));
        }
    }
    if !config.text("systemCgroups").is_empty() && config.text("cgroupRoot").is_empty() {
        found.push("systemCgroups needs cgroupRoot".to_owned());
    }
    let period = config.duration("cpuCFSQuotaPeriod");
    if period < Duration::from_millis(1) || period > SECOND {
        found.push(format!("cpuCFSQuotaPeriod must be from 1ms to 1s, got {}", duration::format(period)));
    }
}

fn reserved_memory(config: &View, found: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (index, entry) in config.list("reservedMemory").iter().enumerate() {
        let node = entry.get("numaNode").and_then(Value::as_i64).unwrap_or_default();
        for (resource, amount) in entry.get("limits").and_then(Value::as_object).into_iter().flatten() {
            let mut problem = |what: &str| found.push(format!("reservedMemory[{index}].limits[{resource:?}]: {what}"));
            if resource != "memory" && !resource.starts_with("hugepages-") {
                problem("can't be reserved; what can be: memory, hugepages-<size>");
            }
            if amount.as_str().and_then(|text| text.parse::<Quantity>().ok()).is_none_or(|amount| amount.milli_value() == 0) {
                problem("must not be zero");
            }
            if !seen.insert((node, resource)) {
                problem(&format!("is given twice for NUMA node {node}"));
            }
        }
    }
}

/// An image without tag and digest, or all images below a path (pkg/kubelet/images/pullmanager/image_pull_policies.go).
fn check_image_pattern(pattern: &str) -> Result<(), &'static str> {
    let (path, is_wildcard) = pattern.strip_suffix('*').filter(|path| path.ends_with('/')).map_or((pattern, false), |path| (path, true));
    let last = path.rsplit('/').next().unwrap_or_default();
    match () {
        () if pattern.trim() != pattern => Err("must not begin or end with blanks"),
        () if path.is_empty() || path == "/" => Err("names no image and no registry"),
        () if path.contains('*') => Err("may have a wildcard only as its end: /*"),
        () if is_wildcard => Ok(()),
        () if path.contains('@') || last.contains(':') => Err("must have neither tag nor digest"),
        () if last.is_empty() || path.contains(char::is_whitespace) => Err("is no image's name"),
        () => Ok(()),
    }
}

fn eviction(config: &View, found: &mut Vec<String>) {
    let unknown = || format!("unknown signal; known are {}", SIGNALS.join(", "));
    let soft_graces = config.map("evictionSoftGracePeriod");
    for field in ["evictionHard", "evictionSoft"] {
        for (signal, text) in config.map(field) {
            if !SIGNALS.contains(&signal.as_str()) {
                found.push(format!("{field}[{signal:?}]: {}", unknown()));
            } else if let Err(problem) = parse_threshold(&text) {
                found.push(format!("{field}[{signal:?}]: {problem}"));
            } else if field == "evictionSoft" && !soft_graces.contains_key(&signal) {
                found.push(format!("{field}[{signal:?}]: needs a grace period in evictionSoftGracePeriod"));
            }
        }
    }
    for (signal, text) in config.map("evictionMinimumReclaim") {
        if !SIGNALS.contains(&signal.as_str()) {
            found.push(format!("evictionMinimumReclaim[{signal:?}]: {}", unknown()));
        } else if let Err(problem) = parse_reclaim(&text) {
            found.push(format!("evictionMinimumReclaim[{signal:?}]: {problem}"));
        }
    }
    for (signal, text) in soft_graces {
        if !SIGNALS.contains(&signal.as_str()) {
            found.push(format!("evictionSoftGracePeriod[{signal:?}]: {}", unknown()));
        } else if !matches!(duration::parse_signed(&text), Some((false, _))) {
            found.push(format!("evictionSoftGracePeriod[{signal:?}]: expected a duration such as \"2m0s\", got {text:?}"));
        }
    }
}

fn taints(config: &View, found: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (index, taint) in config.list("registerWithTaints").iter().enumerate() {
        let text = |name: &str| taint.get(name).and_then(Value::as_str).unwrap_or_default();
        let (key, effect) = (text("key"), text("effect"));
        let mut problem = |what: String| found.push(format!("registerWithTaints[{index}]: {what}"));
        if let Err(what) = labels::check_key(key).and_then(|()| labels::check_value(text("value"))) {
            problem(what);
        }
        if effect.is_empty() {
            problem("effect is missing; expected NoSchedule, PreferNoSchedule or NoExecute".to_owned());
        }
        if !text("timeAdded").is_empty() {
            problem("timeAdded can't be given".to_owned());
        }
        if !seen.insert((key, effect)) {
            problem(format!("{key:?} with effect {effect:?} is given twice"));
        }
    }
}

fn shutdown(config: &View, found: &mut Vec<String>) {
    let (all, critical) = (config.duration("shutdownGracePeriod"), config.duration("shutdownGracePeriodCriticalPods"));
    if critical > all {
        found.push("shutdownGracePeriodCriticalPods is a part of shutdownGracePeriod and can't be longer".to_owned());
    }
    for (name, period) in [("shutdownGracePeriod", all), ("shutdownGracePeriodCriticalPods", critical)] {
        if !period.is_zero() && period < SECOND {
            found.push(format!("{name} must be 0s or at least 1s, got {}", duration::format(period)));
        }
    }
    let has_periods = !all.is_zero() || !critical.is_zero();
    if has_periods && !config.list("shutdownGracePeriodByPodPriority").is_empty() {
        found.push("shutdownGracePeriodByPodPriority excludes shutdownGracePeriod and shutdownGracePeriodCriticalPods".to_owned());
    }
}

fn runtime_and_server(config: &View, found: &mut Vec<String>) {
    for field in ["containerRuntimeEndpoint", "imageServiceEndpoint"] {
        let endpoint = config.text(field);
        if !endpoint.is_empty() && !endpoint.strip_prefix("unix://").unwrap_or(endpoint).starts_with('/') {
            found.push(format!("{field}: expected a socket such as \"unix:///run/containerd/containerd.sock\", got {endpoint:?}"));
        }
    }
    if config.text("tlsCertFile").is_empty() != config.text("tlsPrivateKeyFile").is_empty() {
        found.push("tlsCertFile and tlsPrivateKeyFile must be set together".to_owned());
    }
    if config.is_on("runOnce") {
        found.push("runOnce was removed upstream and can't be set".to_owned());
    }
    let restart = config.duration("crashLoopBackOff.maxContainerRestartPeriod");
    if restart < SECOND || restart > 300 * SECOND {
        found.push(format!("crashLoopBackOff.maxContainerRestartPeriod must be from 1s to 5m, got {}", duration::format(restart)));
    }
    let throttling = config.value("memoryThrottlingFactor").and_then(Value::as_f64).unwrap_or_default();
    if !(throttling > 0.0 && throttling <= 1.0) {
        found.push(format!("memoryThrottlingFactor must be more than 0 and at most 1, got {throttling}"));
    }
    let ids = config.int("userNamespaces.idsPerPod");
    if ids % 65536 != 0 {
        found.push(format!("userNamespaces.idsPerPod must be a multiple of 65536, got {ids}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::defaults;
    use super::*;

    fn problems(config: Value) -> Vec<String> {
        let Value::Object(mut config) = config else { panic!("an object") };
        defaults::fill(&mut config);
        let mut problems = Vec::new();
        validate(&config, &mut problems);
        problems
    }

    fn allowing(image: &str) -> Value {
        json!({
            "preloadedImagesVerificationAllowlist": [image],
            "imagePullCredentialsVerificationPolicy": "NeverVerifyAllowlistedImages",
        })
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(problems(json!({})), Vec::<String>::new());
        for image in ["docker.io/library/*", "registry:5000/a/b", "nginx"] {
            assert_eq!(problems(allowing(image)), Vec::<String>::new(), "{image}");
        }
    }

    /// One broken rule each, and a word that its message must hold.
    #[test]
    fn each_rule_is_enforced() {
        let table = [
            (json!({"imageGCLowThresholdPercent": 90}), "less than"),
            (json!({"imageMaximumGCAge": "1m"}), "imageMaximumGCAge (1m0s)"),
            (json!({"serializeImagePulls": true, "maxParallelImagePulls": 2}), "serializeImagePulls: false"),
            (json!({"preloadedImagesVerificationAllowlist": ["a"]}), "NeverVerifyAllowlistedImages"),
            (json!({"containerLogMonitorInterval": "2s"}), "3s or more"),
            (allowing("docker.io/library/nginx:1"), "neither tag nor digest"),
            (allowing("docker.io/*/nginx"), "/*"),
            (allowing("/*"), "no registry"),
            (allowing(" a"), "blanks"),
            (json!({"podLogsDir": "/var//log"}), "podLogsDir"),
            (json!({"featureGates": {"NoSuchGate": true}}), "unrecognized feature gate: NoSuchGate"),
            (json!({"shutdownGracePeriod": "10s", "featureGates": {"GracefulNodeShutdown": false}}), "GracefulNodeShutdown"),
            (
                json!({"crashLoopBackOff": {"maxContainerRestartPeriod": "1m"}, "featureGates": {"KubeletCrashLoopBackOffMax": false}}),
                "KubeletCrashLoopBackOffMax",
            ),
            (json!({"serverTLSBootstrap": true, "featureGates": {"AllBeta": false}}), "RotateKubeletServerCertificate"),
            (json!({"logging": {"options": {"json": {"splitStream": true}}}}), "LoggingAlphaOptions"),
            (json!({"logging": {"options": {"text": {"infoBufferSize": "1Ki"}}}}), "LoggingAlphaOptions"),
            (json!({"tlsCipherSuites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA25"]}), "did you mean"),
            (json!({"tlsCurvePreferences": [29, 29]}), "twice"),
            (json!({"tlsCurvePreferences": [7]}), "not supported"),
            (json!({"reservedMemory": [{"numaNode": 0, "limits": {"cpu": "1"}}]}), "can't be reserved"),
            (json!({"reservedMemory": [{"numaNode": 0, "limits": {"memory": "0"}}]}), "zero"),
            (
                json!({"reservedMemory": [{"numaNode": 0, "limits": {"memory": "1"}}, {"numaNode": 0, "limits": {"memory": "1"}}]}),
                "twice for NUMA node 0",
            ),
            (json!({"evictionMinimumReclaim": {"memory.free": "1Gi"}}), "unknown signal"),
            (json!({"evictionMinimumReclaim": {"memory.available": "-1"}}), "negative"),
            (json!({"evictionMinimumReclaim": {"memory.available": "0%"}}), "above 0%"),
            (json!({"evictionSoftGracePeriod": {"memory.free": "1m"}}), "unknown signal"),
            (json!({"podLogsDir": "/var/lög"}), "ASCII"),
            (json!({"enableSystemLogQuery": true, "enableSystemLogHandler": false}), "enableSystemLogHandler"),
            (json!({"systemReserved": {"cpu": "-1"}}), "systemReserved[\"cpu\"]"),
            (json!({"kubeReserved": {"gpu": "1"}}), "kubeReserved[\"gpu\"]"),
            (json!({"enforceNodeAllocatable": ["pods", "pods"]}), "twice"),
            (json!({"enforceNodeAllocatable": ["none", "pods"]}), "stand alone"),
            (json!({"enforceNodeAllocatable": ["kube-reserved"]}), "kubeReservedCgroup"),
            (
                json!({"enforceNodeAllocatable": ["system-reserved", "system-reserved-compressible"], "systemReservedCgroup": "/s"}),
                "exclude each other",
            ),
            (json!({"cgroupsPerQOS": false}), "cgroupsPerQOS: false"),
            (json!({"reservedSystemCPUs": "0-3", "kubeReservedCgroup": "/k"}), "excludes"),
            (json!({"reservedSystemCPUs": "3-0"}), "0-3,8"),
            (json!({"systemCgroups": "/s"}), "cgroupRoot"),
            (json!({"cpuCFSQuotaPeriod": "2s"}), "1ms to 1s"),
            (json!({"cpuCFSQuotaPeriod": "0s"}), "1ms to 1s"),
            (json!({"evictionHard": {"memory.free": "1Gi"}}), "unknown signal"),
            (json!({"evictionHard": {"memory.available": "some"}}), "quantity"),
            (json!({"evictionSoft": {"memory.available": "1Gi"}}), "grace period"),
            (json!({"evictionSoftGracePeriod": {"memory.available": "soon"}}), "duration"),
            (json!({"registerWithTaints": [{"key": "a"}]}), "effect is missing"),
            (json!({"registerWithTaints": [{"key": "-", "effect": "NoSchedule"}]}), "label key"),
            (json!({"registerWithTaints": [{"key": "a", "effect": "NoSchedule", "timeAdded": "2020-01-01T00:00:00Z"}]}), "timeAdded"),
            (json!({"registerWithTaints": [{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"}]}), "twice"),
            (json!({"shutdownGracePeriod": "10s", "shutdownGracePeriodCriticalPods": "20s"}), "longer"),
            (json!({"shutdownGracePeriod": "100ms"}), "at least 1s"),
            (
                json!({"shutdownGracePeriod": "10s", "shutdownGracePeriodByPodPriority": [{"priority": 1, "shutdownGracePeriodSeconds": 1}]}),
                "ByPodPriority",
            ),
            (json!({"containerRuntimeEndpoint": "tcp://x:1"}), "unix:///run"),
            (json!({"tlsCertFile": "/c"}), "together"),
            (json!({"runOnce": true}), "runOnce"),
            (json!({"crashLoopBackOff": {"maxContainerRestartPeriod": "6m"}}), "1s to 5m"),
            (json!({"memoryThrottlingFactor": 1.5}), "at most 1"),
            (json!({"memoryReservationPolicy": "TieredReservation"}), "MemoryQoS"),
            (json!({"userNamespaces": {"idsPerPod": 65537}}), "multiple"),
        ];
        for (config, word) in table {
            let found = problems(config.clone());
            assert!(matches!(found.as_slice(), [one] if one.contains(word)), "{config}: {found:?}");
        }
    }
}
