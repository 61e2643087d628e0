//! The hash by which a running container is known to have been made from the present spec.
//!
//! It is kept in the container's annotation `io.kubernetes.container.hash`. Upstream's kubelet must find the same value there, or it
//! restarts the container when a node is switched back (pkg/kubelet/container/helpers.go, HashContainer): FNV-1a (32 bit) over Go's
//! print-out of the bytes of a JSON object with image and name.

use k8s_openapi::api::core::v1::Container;

/// Hash of a container's image and name, as hexadecimal digits without leading zeros.
pub fn container_hash(container: &Container) -> String {
    let json = format!(
        "{{\"image\":{},\"name\":{}}}",
        go_json_string(container.image.as_deref().unwrap_or_default()),
        go_json_string(&container.name)
    );
    let mut hash = Fnv1a32::new();
    hash.write(b"([]uint8)[");
    for (index, byte) in json.bytes().enumerate() {
        if index > 0 {
            hash.write(b" ");
        }
        hash.write(byte.to_string().as_bytes());
    }
    hash.write(b"]");
    format!("{:x}", hash.0)
}

/// A JSON string the way Go's encoding/json writes it: it also escapes what HTML would take for its own.
fn go_json_string(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\u{8}' => json.push_str("\\b"),
            '\u{c}' => json.push_str("\\f"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            other => json.push(other),
        }
    }
    json.push('"');
    json
}

struct Fnv1a32(u32);

impl Fnv1a32 {
    const fn new() -> Self {
        Self(0x811c_9dc5)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_as_upstream() {
        let table = [
            ("c", "b", "68febf75"),
            ("nginx", "nginx:1.25", "5d0e8bc9"),
            ("kube-apiserver", "registry.k8s.io/kube-apiserver:v1.36.3", "75fd0cc4"),
        ];
        for (name, image, hash) in table {
            let container = Container { name: name.into(), image: Some(image.into()), ..Default::default() };
            assert_eq!(container_hash(&container), hash, "{name}");
        }
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        assert_eq!(go_json_string("a\"b\\c<d>&e\n\u{1}\u{2028}é"), "\"a\\\"b\\\\c\\u003cd\\u003e\\u0026e\\n\\u0001\\u2028é\"");
    }
}
