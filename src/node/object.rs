//! The Node object's metadata and spec (pure): what to create, and what to put right on one that exists.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

use super::NodeSettings;
use crate::model::node::NodeFacts;

/// Tells the attach-detach controller that it, and not the node, attaches volumes (`k8s.io/kubernetes/pkg/volume/util`).
const ATTACH_DETACH: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
/// Tells an external cloud provider the given addresses (`k8s.io/cloud-provider/api`).
const PROVIDED_IP: &str = "alpha.kubernetes.io/provided-node-ip";
/// Removed by the cloud controller once it knows the node.
const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";

/// Labels that are put right on an object that exists already; all others belong to whoever set them.
const FORCED: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

/// Labels that are put right at any time (`pkg/kubelet/kubelet_node_status.go`, reconcileLabels).
const ALWAYS_FORCED: [&str; 2] = ["kubernetes.io/os", "kubernetes.io/arch"];

/// How much of an existing object is put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At registration: everything that is the agent's.
    Registering,
    /// Later: what nothing works without.
    Running,
}

/// The labels at creation: `--node-labels` win over the built-in ones.
pub fn labels(settings: &NodeSettings, hostname: &str, architecture: &str) -> BTreeMap<String, String> {
    let built_in = [
        ("kubernetes.io/hostname", hostname),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture),
    ];
    let mut labels: BTreeMap<_, _> = built_in.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    labels.extend(settings.labels.clone());
    labels
}

fn annotations(settings: &NodeSettings, facts: &NodeFacts) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    if settings.controller_attach_detach {
        annotations.insert(ATTACH_DETACH.to_owned(), "true".to_owned());
    }
    // An unspecified address only chooses the family: what was found for it is no order to the cloud controller.
    if settings.external_cloud_provider && settings.node_ips.first().is_some_and(|ip| !ip.is_unspecified()) {
        let ips: Vec<String> = facts.ips.iter().map(ToString::to_string).collect();
        annotations.insert(PROVIDED_IP.to_owned(), ips.join(","));
    }
    annotations
}

/// The object to create.
pub fn initial(settings: &NodeSettings, facts: &NodeFacts, architecture: &str, status: NodeStatus) -> Node {
    let mut taints = settings.taints.clone();
    if settings.external_cloud_provider {
        let value = Some("true".to_owned());
        taints.push(Taint { key: UNINITIALIZED.into(), value, effect: "NoSchedule".into(), time_added: None });
    }
    Node {
        metadata: ObjectMeta {
            name: Some(facts.name.clone()),
            labels: Some(labels(settings, &facts.name, architecture)),
            annotations: Some(annotations(settings, facts)),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: (!taints.is_empty()).then_some(taints),
            provider_id: Some(settings.provider_id.clone()).filter(|id| !id.is_empty()),
            ..NodeSpec::default()
        }),
        status: Some(status),
    }
}

/// What to patch on an object that exists already; `None` when it is as it should be.
pub fn reconcile(existing: &ObjectMeta, settings: &NodeSettings, facts: &NodeFacts, architecture: &str, when: When) -> Option<Value> {
    let none = BTreeMap::new();
    let (has_labels, has_annotations) = (existing.labels.as_ref().unwrap_or(&none), existing.annotations.as_ref().unwrap_or(&none));
    let wanted = labels(settings, &facts.name, architecture);
    let mut labels = Map::new();
    let forced = match when {
        When::Registering => FORCED.as_slice(),
        When::Running => ALWAYS_FORCED.as_slice(),
    };
    for name in forced.iter().copied() {
        match (wanted.get(name), has_labels.get(name)) {
            (Some(want), has) if has != Some(want) => drop(labels.insert(name.to_owned(), json!(want))),
            (None, Some(has)) if has.is_empty() => drop(labels.insert(name.to_owned(), Value::Null)),
            _ => {}
        }
    }
    let wanted = self::annotations(settings, facts);
    let mut annotations = Map::new();
    for name in [ATTACH_DETACH, PROVIDED_IP] {
        match (wanted.get(name), has_annotations.get(name)) {
            (Some(want), has) if has != Some(want) => drop(annotations.insert(name.to_owned(), json!(want))),
            (None, Some(_)) => drop(annotations.insert(name.to_owned(), Value::Null)),
            _ => {}
        }
    }
    let parts = [("labels", labels), ("annotations", annotations)];
    let metadata: Map<_, _> = parts.into_iter().filter(|(_, m)| !m.is_empty()).map(|(k, m)| (k.to_owned(), Value::Object(m))).collect();
    (!metadata.is_empty()).then(|| json!({ "metadata": metadata }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::status::tests::{facts, settings};

    #[test]
    fn a_new_object_has_labels_taints_and_annotation() {
        let mut settings = settings();
        settings.labels = BTreeMap::from([("kubernetes.io/hostname".into(), "other".into()), ("a/b".into(), "c".into())]);
        settings.external_cloud_provider = true;
        settings.node_ips = facts().ips;
        let node = initial(&settings, &facts(), "arm64", NodeStatus::default());
        let labels = node.metadata.labels.expect("labels");
        let of = |name: &str| labels.get(name).map(String::as_str);
        assert_eq!((of("kubernetes.io/hostname"), of("a/b"), of("beta.kubernetes.io/arch")), (Some("other"), Some("c"), Some("arm64")));
        let annotations = node.metadata.annotations.expect("annotations");
        assert_eq!(annotations.get(PROVIDED_IP).map(String::as_str), Some("10.0.0.5"));
        assert_eq!(annotations.get(ATTACH_DETACH).map(String::as_str), Some("true"));
        let taints = node.spec.expect("spec").taints.expect("taints");
        assert_eq!(taints.first().map(|t| t.key.as_str()), Some(UNINITIALIZED));
    }

    #[test]
    fn annotations_follow_the_settings() {
        let mut settings = settings();
        settings.external_cloud_provider = true;
        let right = |settings: &NodeSettings| initial(settings, &facts(), "amd64", NodeStatus::default()).metadata.annotations;
        for family in ["0.0.0.0", "::"] {
            settings.node_ips = vec![family.parse().expect("address")];
            assert_eq!(right(&settings), Some(BTreeMap::from([(ATTACH_DETACH.to_owned(), "true".to_owned())])));
        }
        settings.controller_attach_detach = false;
        assert_eq!(right(&settings), Some(BTreeMap::new()));
        let mut existing = initial(&settings, &facts(), "amd64", NodeStatus::default()).metadata;
        existing.annotations = Some(BTreeMap::from([(ATTACH_DETACH.into(), "true".into()), (PROVIDED_IP.into(), "1.2.3.4".into())]));
        let patch = json!({"metadata": {"annotations": {ATTACH_DETACH: null, PROVIDED_IP: null}}});
        assert_eq!(reconcile(&existing, &settings, &facts(), "amd64", When::Running), Some(patch));
    }

    #[test]
    fn only_what_is_wrong_is_patched() {
        let settings = settings();
        let right = initial(&settings, &facts(), "amd64", NodeStatus::default()).metadata;
        assert_eq!(reconcile(&right, &settings, &facts(), "amd64", When::Registering), None);

        let mut foreign = right.clone();
        let labels = foreign.labels.as_mut().expect("labels");
        labels.insert("someone/else".into(), "x".into());
        labels.insert("topology.kubernetes.io/zone".into(), "z1".into());
        assert_eq!(reconcile(&foreign, &settings, &facts(), "amd64", When::Registering), None);

        let mut wrong = right.clone();
        let labels = wrong.labels.as_mut().expect("labels");
        labels.insert("kubernetes.io/os".into(), "plan9".into());
        labels.remove("kubernetes.io/arch");
        wrong.annotations.as_mut().expect("annotations").insert(PROVIDED_IP.into(), "1.2.3.4".into());
        wrong.labels.as_mut().expect("labels").insert("kubernetes.io/hostname".into(), "other".into());
        let running = json!({"metadata": {
            "labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
            "annotations": {PROVIDED_IP: null},
        }});
        assert_eq!(reconcile(&wrong, &settings, &facts(), "amd64", When::Running), Some(running));
        let want = json!({"metadata": {
            "labels": {"kubernetes.io/hostname": "node-a", "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
            "annotations": {PROVIDED_IP: null},
        }});
        assert_eq!(reconcile(&wrong, &settings, &facts(), "amd64", When::Registering), Some(want));
        assert!(reconcile(&ObjectMeta::default(), &settings, &facts(), "amd64", When::Running).is_some());
    }
}
