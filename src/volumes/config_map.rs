//! ConfigMaps as files. Pure.

use k8s_openapi::api::core::v1::{ConfigMap, KeyToPath};

use super::payload::Payload;

/// Adds a ConfigMap's keys; `None` stands for an optional one that does not exist.
pub(super) fn add<'a>(
    payload: &mut Payload<'a>,
    name: &str,
    object: Option<&'a ConfigMap>,
    items: Option<&[KeyToPath]>,
    mode: Option<i32>,
    optional: bool,
) -> Result<(), String> {
    let Some(object) = object else { return Ok(()) };
    let text = |key: &str| object.data.as_ref()?.get(key).map(String::as_bytes);
    let binary = |key: &str| object.binary_data.as_ref()?.get(key).map(|b| b.0.as_slice());
    let keys = object.data.iter().flat_map(|d| d.keys()).chain(object.binary_data.iter().flat_map(|d| d.keys()));
    payload.add_keys(&format!("configmap {name:?}"), items, mode, optional, |key| text(key).or_else(|| binary(key)), keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    #[test]
    fn text_and_binary_keys() {
        let object = ConfigMap {
            data: Some([("a".to_owned(), "text".to_owned())].into()),
            binary_data: Some([("b".to_owned(), ByteString(vec![0, 255]))].into()),
            ..Default::default()
        };
        let mut payload = Payload::default();
        add(&mut payload, "c", Some(&object), None, None, false).unwrap();
        assert_eq!(payload.get("a").map(|f| &*f.data), Some(&b"text"[..]));
        assert_eq!(payload.get("b").map(|f| &*f.data), Some(&[0, 255][..]));

        let mut payload = Payload::default();
        add(&mut payload, "c", None, None, None, true).unwrap();
        assert_eq!(payload, Payload::default());
    }
}
