//! Changed resources of pods that run (KEP-1287, KEP-5419, KEP-2837; upstream: `pkg/kubelet/allocation`, `kuberuntime_manager.go`).
//!
//! What a spec asks for is *desired*. What the node has granted is *allocated*: the manager puts it into the pod before a worker
//! sees it. What the runtime was told is *in force*. Survives a restart: a pod's status, which says what was allocated.

mod due;
mod queue;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde_json::json;

use super::spec;
use crate::model::resources::{amount, text};

pub use due::{Due, Given, due, given};
pub use queue::Queue;

type List = BTreeMap<String, Text>;

/// Why a resize has not been granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// `Deferred`: it may be later. `Infeasible`: never on this node.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// What a worker knows of its pod's resources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resize {
    /// What is allocated to each container.
    pub wanted: BTreeMap<String, Given>,
    /// The allocation has changed, and not all of the change is in force.
    pub changed: bool,
    /// What is desired and not allocated.
    pub pending: Option<Pending>,
}

/// Nothing ever changed.
#[cfg(test)]
pub static NONE: Resize = Resize { wanted: BTreeMap::new(), changed: false, pending: None };

/// The resources of a pod: its own, and those of its init and regular containers by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resources {
    pod: Option<ResourceRequirements>,
    containers: BTreeMap<String, Option<ResourceRequirements>>,
}

fn lasting(pod: &Pod) -> impl Iterator<Item = &Container> {
    spec::init_containers(pod).iter().chain(spec::containers(pod))
}

impl Resources {
    /// What a spec says.
    pub fn of(pod: &Pod) -> Self {
        let containers = lasting(pod).map(|c| (c.name.clone(), c.resources.clone()));
        Self { pod: pod.spec.as_ref().and_then(|s| s.resources.clone()), containers: containers.collect() }
    }

    /// What was allocated to a pod that an agent before this one has let in, as far as its status tells; else what its spec says.
    pub fn restored(pod: &Pod) -> Self {
        let mut all = Self::of(pod);
        let Some(status) = &pod.status else { return all };
        for (name, resources) in &mut all.containers {
            let Some(known) = spec::container_status(status, name) else { continue };
            let (Some(allocated), Some(in_force)) = (&known.allocated_resources, &known.resources) else { continue };
            let desired = resources.as_ref().and_then(|r| r.requests.as_ref());
            if desired != Some(allocated) {
                *resources = Some(ResourceRequirements { requests: Some(allocated.clone()), ..in_force.clone() });
            }
        }
        // The status tells of all that the pod has: of it, what the pod itself asks for, and without its overhead.
        let overhead = pod.spec.as_ref().and_then(|s| s.overhead.as_ref());
        if let (Some(own), Some(allocated)) = (&mut all.pod, &status.allocated_resources) {
            keep_as_allocated(&mut own.requests, allocated, overhead);
            if let Some(in_force) = status.resources.as_ref().and_then(|r| r.limits.as_ref()) {
                keep_as_allocated(&mut own.limits, in_force, overhead);
            }
        }
        all
    }

    /// Puts them in the place of what a spec says. Containers that they don't name stay as they are.
    pub fn put_into(&self, pod: &mut Pod) {
        let Some(spec) = &mut pod.spec else { return };
        if spec.resources.is_some() {
            spec.resources.clone_from(&self.pod);
        }
        let all = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
        for container in all {
            if let Some(resources) = self.containers.get(&container.name) {
                container.resources.clone_from(resources);
            }
        }
    }
}

fn keep_as_allocated(own: &mut Option<List>, allocated: &List, overhead: Option<&List>) {
    for (name, desired) in own.iter_mut().flatten() {
        let Some(known) = amount(Some(allocated), name) else { continue };
        let known = known - amount(overhead, name).unwrap_or_default();
        if desired.0.parse() != Ok(known) {
            *desired = text(name, known);
        }
    }
}

/// The message of a resize's event (upstream: `events/resize.go`). `what`: `started`, `completed`, `Deferred`, …
pub fn message(what: &str, pod: &Pod, error: Option<&str>) -> String {
    let list = |containers: &[Container]| -> Vec<serde_json::Value> {
        containers.iter().map(|c| json!({"name": c.name, "resources": c.resources.clone().unwrap_or_default()})).collect()
    };
    let mut summary = json!({"containers": list(spec::containers(pod)), "generation": pod.metadata.generation.unwrap_or_default()});
    if !spec::init_containers(pod).is_empty() {
        summary["initContainers"] = list(spec::init_containers(pod)).into();
    }
    if let Some(error) = error {
        summary["error"] = error.into();
    }
    format!("Pod resize {what}: {summary}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(cpu: &str, status: serde_json::Value) -> Pod {
        let resources = json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
        let spec = json!({"containers": [{"name": "a", "resources": resources}]});
        serde_json::from_value(json!({"metadata": {"generation": 3}, "spec": spec, "status": status})).unwrap()
    }

    fn cpu(resources: &Resources) -> String {
        let mut pod = pod("9", json!({}));
        resources.put_into(&mut pod);
        let own = pod.spec.unwrap().containers[0].resources.clone().unwrap();
        format!("{} {}", own.requests.unwrap()["cpu"].0, own.limits.unwrap()["cpu"].0)
    }

    #[test]
    fn an_agent_that_starts_goes_on_from_what_was_allocated() {
        let status = |cpu: &str| {
            let resources = json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
            json!({"containerStatuses": [{"name": "a", "allocatedResources": {"cpu": cpu}, "resources": resources,
                "image": "", "imageID": "", "ready": true, "restartCount": 0}]})
        };
        assert_eq!(cpu(&Resources::restored(&pod("2", status("1")))), "1 1", "a resize that was not granted yet");
        assert_eq!(cpu(&Resources::restored(&pod("2", status("2")))), "2 2");
        assert_eq!(cpu(&Resources::restored(&pod("2", json!({})))), "2 2", "a new pod");
    }

    #[test]
    fn what_the_pod_itself_was_allocated_is_told_by_the_sum_of_all() {
        let spec = json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "3"}}, "overhead": {"cpu": "100m"},
            "containers": [{"name": "a", "resources": {"requests": {"memory": "1Mi"}}}]});
        let status = |requests: &str, limits: &str| json!({"allocatedResources": {"cpu": requests, "memory": "1Mi"}, "resources": {"limits": {"cpu": limits}}});
        let own = |status| {
            let pod: Pod = serde_json::from_value(json!({"spec": spec, "status": status})).unwrap();
            Resources::restored(&pod).pod
        };
        let wanted = |requests: &str, limits: &str| {
            serde_json::from_value(json!({"requests": {"cpu": requests}, "limits": {"cpu": limits}})).unwrap()
        };
        assert_eq!(own(status("2100m", "3100m")), wanted("2", "3"), "as desired");
        assert_eq!(own(status("1100m", "1600m")), wanted("1", "1500m"), "a resize that was not granted yet");
    }

    #[test]
    fn events_name_what_is_asked_for() {
        let text = message("started", &pod("1", json!({})), None);
        assert_eq!(
            text,
            r#"Pod resize started: {"containers":[{"name":"a","resources":{"limits":{"cpu":"1"},"requests":{"cpu":"1"}}}],"generation":3}"#
        );
    }
}
