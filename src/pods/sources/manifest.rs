//! From a manifest to a pod of this node (upstream: `config/common.go`).

use k8s_openapi::api::core::v1::{Pod, Toleration};
use serde_json::Value;

use super::{Source, defaults, references};
use crate::pods::spec;

/// What static UIDs begin with. Those of upstream's kubelet are hashes too, of something that no other program can make; this
/// tells them apart.
pub const UID_MARK: &str = "6b7273";

/// Reads all pods of a text: YAML or JSON, one pod or a list of them. `origin` is the file's path or the URL.
pub fn read(text: &str, source: Source, origin: &str, node: &str) -> Result<Vec<Pod>, String> {
    let document: Value = serde_saphyr::from_str(text).map_err(|error| format!("it is neither YAML nor JSON: {error}"))?;
    let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
    match (kind, source) {
        ("Pod", _) => Ok(vec![pod(document, source, origin, node)?]),
        ("PodList" | "List", Source::Http) => {
            let items = document.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
            items.into_iter().map(|item| pod(item, source, origin, node)).collect()
        }
        ("", _) => Err("it has no kind; a static pod is of kind Pod".to_owned()),
        (other, _) => Err(format!("it is of kind {other}; a static pod is of kind Pod")),
    }
}

fn pod(document: Value, source: Source, origin: &str, node: &str) -> Result<Pod, String> {
    let hash = hash(&document, source, origin, node);
    let mut pod: Pod = serde_json::from_value(document).map_err(|error| format!("invalid pod: {error}"))?;
    let meta = &mut pod.metadata;
    let name = meta.name.clone().filter(|name| !name.is_empty()).ok_or("invalid pod: name is needed for the pod")?;
    let uid = meta.uid.clone().filter(|uid| !uid.is_empty()).unwrap_or(hash);
    meta.name = Some(format!("{name}-{}", node.to_lowercase()));
    if meta.namespace.as_deref().is_none_or(str::is_empty) {
        meta.namespace = Some("default".to_owned());
    }
    meta.uid = Some(uid.clone());
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert("kubernetes.io/config.hash".to_owned(), uid);
    annotations.insert("kubernetes.io/config.source".to_owned(), source.as_str().to_owned());
    annotations.insert("kubernetes.io/config.seen".to_owned(), jiff::Timestamp::now().to_string());
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    if source == Source::File {
        let stays = Toleration { operator: Some("Exists".into()), effect: Some("NoExecute".into()), ..Toleration::default() };
        let tolerations = spec.tolerations.get_or_insert_default();
        if !tolerations.contains(&stays) {
            tolerations.push(stays);
        }
    }
    defaults::set(spec);
    pod.status = Some(k8s_openapi::api::core::v1::PodStatus { phase: Some("Pending".into()), ..Default::default() });
    check(&pod)?;
    if let Some(what) = references::of(&pod) {
        return Err(format!("static pods may not reference {what}"));
    }
    Ok(pod)
}

/// The mistakes that no API server has caught.
fn check(pod: &Pod) -> Result<(), String> {
    if let Some(name) = spec::bad_name(pod) {
        return Err(format!("invalid pod: {name:?} is no name"));
    }
    let containers = spec::containers(pod);
    if containers.is_empty() {
        return Err("invalid pod: spec.containers: Required value".to_owned());
    }
    let mut names = std::collections::BTreeSet::new();
    for container in spec::init_containers(pod).iter().chain(containers) {
        if !names.insert(&container.name) {
            return Err(format!("invalid pod: two containers have the name {:?}", container.name));
        }
        if container.image.as_deref().is_none_or(|image| image.trim().is_empty()) {
            return Err(format!("invalid pod: container {:?} has no image", container.name));
        }
    }
    if !spec::ephemeral_containers(pod).is_empty() {
        return Err("invalid pod: ephemeral containers not allowed in create".to_owned());
    }
    Ok(())
}

/// FNV-1a of 128 bits over the manifest in canonical form, the node and the place: the same file is the same pod.
fn hash(document: &Value, source: Source, origin: &str, node: &str) -> String {
    let place = match source {
        Source::File => format!("host:{node}file:{origin}"),
        Source::Http => format!("url:{origin}"),
    };
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    // The keys of a Value are sorted.
    for byte in document.to_string().bytes().chain(place.bytes()) {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    let digits = format!("{hash:032x}");
    format!("{UID_MARK}{}", &digits[UID_MARK.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "kind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: a, image: 'a:1', ports: [{containerPort: 80}]}]}\n";

    fn one(text: &str) -> Result<Pod, String> {
        read(text, Source::File, "/etc/m/web.yaml", "Node-1").map(|mut pods| pods.remove(0))
    }

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node() {
        let pod = one(WEB).unwrap();
        let meta = &pod.metadata;
        assert_eq!((meta.name.as_deref(), meta.namespace.as_deref()), (Some("web-node-1"), Some("default")));
        let annotations = meta.annotations.as_ref().unwrap();
        assert_eq!(annotations["kubernetes.io/config.source"], "file");
        assert_eq!(Some(&annotations["kubernetes.io/config.hash"]), meta.uid.as_ref());
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!((spec.node_name.as_deref(), spec.restart_policy.as_deref()), (Some("Node-1"), Some("Always")));
        assert_eq!(spec.containers[0].ports.as_ref().unwrap()[0].protocol.as_deref(), Some("TCP"));
        assert!(spec.tolerations.as_ref().unwrap().iter().any(|t| t.effect.as_deref() == Some("NoExecute")));
    }

    #[test]
    fn the_same_content_at_the_same_place_is_the_same_pod() {
        let uid = |pod: Pod| pod.metadata.uid.unwrap();
        let json = r#"{"spec": {"containers": [{"ports": [{"containerPort": 80}], "image": "a:1", "name": "a"}]}, "metadata": {"name": "web"}, "kind": "Pod"}"#;
        let first = uid(one(WEB).unwrap());
        assert_eq!((first.len(), first.starts_with(UID_MARK)), (32, true));
        assert_eq!(first, uid(one(json).unwrap()), "written in another way");
        assert_ne!(first, uid(one(&WEB.replace("a:1", "a:2")).unwrap()));
        assert_ne!(first, uid(read(WEB, Source::File, "/etc/m/other.yaml", "Node-1").unwrap().remove(0)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, word) in [
            ("a: [", "neither YAML nor JSON"),
            ("kind: Service", "kind Service"),
            ("metadata: {name: a}", "no kind"),
            ("kind: Pod\nspec: {containers: []}", "name is needed"),
            ("kind: Pod\nmetadata: {name: a}\nspec: {containers: []}", "spec.containers: Required"),
            ("kind: Pod\nmetadata: {name: a/b}\nspec: {containers: [{name: a, image: i}]}", "is no name"),
            ("kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: i}, {name: a, image: i}]}", "two containers"),
            ("kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a}]}", "has no image"),
            (
                "kind: Pod\nmetadata: {name: a}\nspec: {serviceAccountName: sa, containers: [{name: a, image: i}]}",
                "may not reference serviceaccounts",
            ),
            (
                "kind: Pod\nmetadata: {name: a}\nspec: {volumes: [{name: v, secret: {secretName: s}}], containers: [{name: a, image: i}]}",
                "may not reference secrets (via secret volumes)",
            ),
            (
                "kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: i, envFrom: [{configMapRef: {name: c}}]}]}",
                "may not reference configmaps",
            ),
        ] {
            let error = one(text).map(drop).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_server_may_send_a_list() {
        let list = format!(
            "{{\"kind\": \"PodList\", \"items\": [{}]}}",
            r#"{"kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "i"}]}}"#
        );
        assert_eq!(read(&list, Source::Http, "http://x", "n").unwrap().len(), 1);
        assert!(read(&list, Source::File, "/x", "n").is_err());
    }
}
