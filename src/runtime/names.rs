//! Labels, annotations and paths that tell whose a sandbox or container is.
//!
//! They are upstream's (pkg/kubelet/kuberuntime/labels.go, k8s.io/kubelet/pkg/types): a node can be switched from kubelet and back
//! with its containers running, and log collectors find what they know.

use std::path::{Path, PathBuf};

use crate::model::PodRef;

/// Label: the pod's name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Label: the pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label: the pod's UID.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// Label: the container's name in the pod spec.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";

/// Annotation: hash of the container's spec; see `model::hash`.
pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
/// Annotation: how often the container was started before.
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Annotation: where in the container the termination message is written.
pub const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// Annotation: `File` or `FallbackToLogsOnError`.
pub const TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// Annotation: the preStop hook as JSON.
pub const PRE_STOP_HANDLER: &str = "io.kubernetes.container.preStopHandler";
/// Annotation: the container's ports as JSON.
pub const CONTAINER_PORTS: &str = "io.kubernetes.container.ports";
/// Annotation: metadata.deletionGracePeriodSeconds, where set.
pub const DELETION_GRACE_PERIOD: &str = "io.kubernetes.pod.deletionGracePeriod";
/// Annotation: spec.terminationGracePeriodSeconds, where set.
pub const TERMINATION_GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";

/// Directory with all logs of one pod: `<pod_logs_dir>/<namespace>_<name>_<uid>`.
pub fn pod_log_dir(pod_logs_dir: &Path, pod: &PodRef) -> PathBuf {
    pod_logs_dir.join(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid))
}

/// A container's log file, relative to [`pod_log_dir`]: `<container>/<restart count>.log`.
pub fn container_log(container: &str, restart_count: u32) -> String {
    format!("{container}/{restart_count}.log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_upstreams() {
        let pod = PodRef { namespace: "shop".into(), name: "web".into(), uid: "1234-ab".into() };
        assert_eq!(pod_log_dir(Path::new("/var/log/pods"), &pod), Path::new("/var/log/pods/shop_web_1234-ab"));
        assert_eq!(container_log("app", 3), "app/3.log");
    }
}
