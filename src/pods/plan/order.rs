//! The order in which a pod's containers end: sidecars after all regular ones, and a sidecar after those that were started after it
//! (upstream: `kuberuntime_termination_order.go`).

use k8s_openapi::api::core::v1::Pod;

use super::Action;
use crate::model::ContainerId;
use crate::pods::spec;

/// Says of each stop in a plan that ends the whole pod which other ones come before it.
pub(super) fn set(pod: &Pod, actions: &mut [Action]) {
    let stopped: Vec<(String, ContainerId)> = actions
        .iter()
        .filter_map(|action| match action {
            Action::StopContainer { id, name, .. } => Some((name.clone(), id.clone())),
            _ => None,
        })
        .collect();
    let ids = |name: &str| stopped.iter().filter(|(n, _)| n == name).map(|(_, id)| id.clone()).collect::<Vec<_>>();
    let regular: Vec<ContainerId> = spec::containers(pod).iter().flat_map(|c| ids(&c.name)).collect();
    // From the last sidecar to the first: each waits for the one after it, which waits for those after that.
    let mut later: Vec<ContainerId> = vec![];
    for sidecar in spec::init_containers(pod).iter().rev().filter(|c| spec::is_sidecar(c)) {
        for action in actions.iter_mut() {
            if let Action::StopContainer { name, after, .. } = action
                && *name == sidecar.name
            {
                after.clone_from(&regular);
                after.extend(later.iter().cloned());
            }
        }
        later = ids(&sidecar.name);
    }
}
