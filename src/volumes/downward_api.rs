//! Metadata and resources of the pod as files. Pure.

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, Pod};

use super::payload::{File, Payload};
use crate::model::downward;
use crate::model::node::NodeFacts;

/// Adds one file an item.
pub(super) fn add(
    payload: &mut Payload<'_>,
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: Option<i32>,
    pod: &Pod,
    node: &NodeFacts,
) -> Result<(), String> {
    for item in items.unwrap_or_default() {
        let value = value(item, pod, node).map_err(|e| format!("{}: {e}", item.path))?;
        payload.add(&item.path, File::new(value.into_bytes(), [item.mode, mode]))?;
    }
    Ok(())
}

fn value(item: &DownwardAPIVolumeFile, pod: &Pod, node: &NodeFacts) -> Result<String, downward::DownwardError> {
    if let Some(field) = &item.field_ref {
        return downward::metadata_value(pod, &field.field_path);
    }
    let Some(resource) = &item.resource_field_ref else { return Ok(String::new()) };
    let container = downward::container(pod, resource.container_name.as_deref().unwrap_or_default())?;
    downward::resource_value(pod, container, &resource.resource, resource.divisor.as_ref(), node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::tests::{node, pod};
    use serde_json::json;

    #[test]
    fn fields_and_resources() {
        let pod = pod(json!({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"memory": "64Mi"}}}]}));
        let items: Vec<DownwardAPIVolumeFile> = serde_json::from_value(json!([
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            {"path": "mem", "mode": 0o400, "resourceFieldRef": {"containerName": "c", "resource": "limits.memory", "divisor": "1Mi"}},
        ]))
        .unwrap();
        let mut payload = Payload::default();
        add(&mut payload, Some(&items), None, &pod, &node()).unwrap();
        assert_eq!(payload.get("labels").map(|f| &*f.data), Some(&b"app=\"web\""[..]));
        assert_eq!(payload.get("mem").map(|f| (&*f.data, f.mode)), Some((&b"64"[..], 0o400)));
    }

    #[test]
    fn what_is_not_offered_names_the_file() {
        let pod = pod(json!({"containers": []}));
        for wrong in [
            json!({"path": "f", "fieldRef": {"fieldPath": "status.podIP"}}),
            json!({"path": "f", "resourceFieldRef": {"containerName": "none", "resource": "limits.cpu"}}),
        ] {
            let item: DownwardAPIVolumeFile = serde_json::from_value(wrong).unwrap();
            let error = add(&mut Payload::default(), Some(&[item]), None, &pod, &node()).unwrap_err();
            assert!(error.starts_with("f: "), "{error}");
        }
    }
}
