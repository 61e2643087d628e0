//! Secrets as files. Pure.

use k8s_openapi::api::core::v1::{KeyToPath, Secret};

use super::payload::Payload;

/// Adds a Secret's keys; `None` stands for an optional one that does not exist.
pub(super) fn add<'a>(
    payload: &mut Payload<'a>,
    name: &str,
    object: Option<&'a Secret>,
    items: Option<&[KeyToPath]>,
    mode: Option<i32>,
    optional: bool,
) -> Result<(), String> {
    let Some(object) = object else { return Ok(()) };
    let get = |key: &str| object.data.as_ref()?.get(key).map(|b| b.0.as_slice());
    payload.add_keys(&format!("secret {name:?}"), items, mode, optional, get, object.data.iter().flat_map(|d| d.keys()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    #[test]
    fn keys_become_files() {
        let object = Secret { data: Some([("tls.key".to_owned(), ByteString(b"k".to_vec()))].into()), ..Default::default() };
        let item = KeyToPath { key: "tls.key".into(), path: "server/key".into(), mode: Some(0o400) };
        let mut payload = Payload::default();
        add(&mut payload, "s", Some(&object), Some(&[item]), Some(0o644), false).unwrap();
        assert_eq!(payload.get("server/key").map(|f| (&*f.data, f.mode)), Some((&b"k"[..], 0o400)));
    }
}
