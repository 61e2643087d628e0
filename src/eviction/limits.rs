//! What a pod may hold on the node's disk, and whether it holds more (`eviction_manager.go`, `localStorageEviction`). Pure.

use k8s_openapi::api::core::v1::{Container, Pod, Volume};

use super::usage::{Part, PodUsage};
use crate::model::quantity::Quantity;
use crate::model::resources::{PodResources, amount, text};
use crate::pods::spec;

const STORAGE: &str = "ephemeral-storage";

/// Whether a pod has any such limit: others need not be measured.
pub fn has_any(pod: &Pod) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(size_limit).next().is_some()
        || spec::containers(pod).iter().chain(spec::init_containers(pod)).any(|c| of(c).is_some())
}

/// The limit of a container.
fn of(container: &Container) -> Option<Quantity> {
    amount(container.resources.as_ref()?.limits.as_ref(), STORAGE)
}

/// The size limit of an emptyDir, and how it is written.
fn size_limit(volume: &Volume) -> Option<(Quantity, &str)> {
    let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
    let size: Quantity = limit.0.parse().ok()?;
    size.is_positive().then_some((size, &limit.0))
}

/// Why the pod has to go, if it has. `shared`: what containers write is on the same file system as everything else.
pub fn exceeded(pod: &Pod, usage: &PodUsage, shared: bool) -> Option<String> {
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let (name, used) = (&volume.name, usage.volumes.get(&volume.name));
        if let (Some((limit, written)), Some(used)) = (size_limit(volume), used)
            && used.bytes > limit.value()
        {
            return Some(format!("Usage of EmptyDir volume {name:?} exceeds the limit {written:?}. "));
        }
    }
    if let Some(limit) = PodResources::of(pod).limits.get(STORAGE)
        && usage.held(&[Part::Writable, Part::Logs, Part::Volumes]).bytes > limit.value()
    {
        let limit = text(STORAGE, *limit).0;
        return Some(format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "));
    }
    for container in &usage.containers {
        let used = container.logs.bytes + if shared { container.writable.bytes } else { 0 };
        let limit = spec::containers(pod).iter().find(|c| c.name == container.name).and_then(of).filter(|limit| limit.is_positive());
        if let Some(limit) = limit.filter(|limit| used > limit.value()) {
            let (name, limit) = (&container.name, text(STORAGE, limit).0);
            return Some(format!("Container {name} exceeded its local ephemeral storage limit {limit:?}. "));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::eviction::usage::{ContainerUsage, Held};

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn usage(volume: i64, a: [i64; 2], b: i64) -> PodUsage {
        let held = |bytes| Held { bytes: bytes << 20, inodes: 1 };
        let container =
            |name: &str, writable, logs| ContainerUsage { name: name.into(), memory: 0, writable: held(writable), logs: held(logs) };
        PodUsage {
            containers: vec![container("a", a[0], a[1]), container("b", b, 0)],
            volumes: [("v".to_owned(), held(volume))].into(),
            ..PodUsage::default()
        }
    }

    #[test]
    fn the_first_limit_that_is_exceeded_is_told() {
        let limited = |size: &str| json!({"limits": {"ephemeral-storage": size}});
        let spec = json!({
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "10Mi"}}, {"name": "w", "emptyDir": {}}],
            "containers": [{"name": "a", "resources": limited("20Mi")}, {"name": "b", "resources": limited("20Mi")}]
        });
        let pod = pod(spec);
        assert!(has_any(&pod));
        let say = |usage: PodUsage, shared| exceeded(&pod, &usage, shared);
        assert_eq!(say(usage(10, [10, 10], 10), true), None);
        assert_eq!(say(usage(11, [10, 10], 10), true).unwrap(), "Usage of EmptyDir volume \"v\" exceeds the limit \"10Mi\". ");
        let total = say(usage(9, [10, 10], 12), true);
        assert_eq!(total.unwrap(), "Pod ephemeral local storage usage exceeds the total limit of containers 40Mi. ");
        let container = say(usage(9, [10, 11], 10), true);
        assert_eq!(container.unwrap(), "Container a exceeded its local ephemeral storage limit \"20Mi\". ");
        assert_eq!(say(usage(9, [10, 11], 10), false), None, "what it writes is elsewhere");
    }

    #[test]
    fn others_are_not_measured() {
        for volume in [json!({"emptyDir": {}}), json!({"emptyDir": {"sizeLimit": "0"}}), json!({"hostPath": {"path": "/"}})] {
            let mut volume = volume;
            volume.as_object_mut().unwrap().insert("name".into(), json!("v"));
            let pod = pod(json!({"volumes": [volume], "containers": [{"name": "a", "resources": {"limits": {"memory": "1Mi"}}}]}));
            assert!(!has_any(&pod));
            assert_eq!(exceeded(&pod, &usage(1000, [1000, 1000], 1000), true), None);
        }
    }
}
