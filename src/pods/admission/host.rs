//! What the host must be for a pod, and what kind of pod it is.

use k8s_openapi::api::core::v1::{Node, Pod};

use super::Rejection;
use crate::pods::spec;

/// The label that a pod may ask for.
const OS_LABEL: &str = "kubernetes.io/os";

/// The pod's own label and `spec.os`, if it has them, must name this system.
pub(super) fn os(pod: &Pod) -> Result<(), Rejection> {
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(OS_LABEL));
    if label.is_some_and(|os| os != "linux") {
        let message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Err(Rejection::new("PodOSSelectorNodeLabelDoesNotMatch", message));
    }
    let field = pod.spec.as_ref().and_then(|s| s.os.as_ref());
    if field.is_some_and(|os| os.name != "linux") {
        return Err(Rejection::new("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"));
    }
    Ok(())
}

/// supplementalGroupsPolicy Strict needs a runtime that knows it (KEP-3619).
pub(super) fn groups_policy(pod: &Pod, node: Option<&Node>) -> Result<(), Rejection> {
    let policy = pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|c| c.supplemental_groups_policy.as_deref());
    let features = node.and_then(|n| n.status.as_ref()).and_then(|s| s.features.as_ref());
    let supported = node.is_none() || features.and_then(|f| f.supplemental_groups_policy).unwrap_or(false);
    if policy == Some("Strict") && !supported {
        let message = "SupplementalGroupsPolicy=Strict is not supported in this node";
        return Err(Rejection::new("SupplementalGroupsPolicyNotSupported", message));
    }
    Ok(())
}

/// What the scheduler asks a node's declared features for (KEP-5328): of all that a pod can need, the agent lacks user namespaces in the
/// host's network alone.
pub(super) fn features(pod: &Pod) -> Result<(), Rejection> {
    let own_users = pod.spec.as_ref().and_then(|s| s.host_users) == Some(false);
    if own_users && spec::host_network(pod) {
        let message = "Pod requires node features that are not available: UserNamespacesHostNetworkSupport";
        return Err(Rejection::new("PodFeatureUnsupported", message));
    }
    Ok(())
}
