//! A node that is short of something takes no pods that would make it worse (upstream: `eviction_manager.go`, `Admit`).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, Taint};

use super::{Rejection, tolerates};
use crate::model::qos::QosClass;
use crate::node::Pressure;
use crate::pods::spec;

/// Critical pods come in always. Short of memory alone the node takes all but BestEffort pods, and those too that tolerate it.
pub(super) fn check(pod: &Pod, pressures: &BTreeSet<Pressure>) -> Result<(), Rejection> {
    if pressures.is_empty() || spec::is_critical(pod) {
        return Ok(());
    }
    let memory_only = pressures.iter().eq([&Pressure::Memory]);
    if memory_only && (QosClass::of(pod) != QosClass::BestEffort || tolerates_it(pod)) {
        return Ok(());
    }
    let names: Vec<&str> = pressures.iter().map(|pressure| pressure.as_str()).collect();
    Err(Rejection::new("Evicted", format!("The node had condition: [{}]. ", names.join(" "))))
}

fn tolerates_it(pod: &Pod) -> bool {
    let taint = Taint { key: "node.kubernetes.io/memory-pressure".to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() };
    pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten()).any(|toleration| tolerates(toleration, &taint))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        let mut spec = spec;
        let containers = json!([{"name": "c", "resources": {"requests": spec.as_object_mut().and_then(|s| s.remove("requests"))}}]);
        spec.as_object_mut().expect("an object").insert("containers".into(), containers);
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod")
    }

    #[test]
    fn who_comes_in() {
        let tolerant = json!({"tolerations": [{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]});
        let (memory, disk) = (BTreeSet::from([Pressure::Memory]), BTreeSet::from([Pressure::Disk]));
        let both = &memory | &disk;
        let table = [
            (json!({}), [false, false, false]),
            (json!({"requests": {"memory": "1Mi"}}), [true, false, false]),
            (tolerant, [true, false, false]),
            (json!({"priority": 2_000_000_000}), [true, true, true]),
        ];
        for (spec, want) in table {
            let is_in = [&memory, &disk, &both].map(|pressures| check(&pod(spec.clone()), pressures).is_ok());
            assert_eq!(is_in, want, "{spec}");
            assert_eq!(check(&pod(spec), &BTreeSet::new()), Ok(()));
        }
        let rejection = check(&pod(json!({})), &both).expect_err("rejected");
        assert_eq!((&*rejection.reason, &*rejection.message), ("Evicted", "The node had condition: [MemoryPressure DiskPressure]. "));
    }
}
