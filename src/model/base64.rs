//! Base64 as it comes from the outside: standard or URL-safe alphabet, with or without padding.

use k8s_openapi::ByteString;
use serde::Deserialize;
use serde::de::value::{Error, StrDeserializer};

/// The bytes, or `None` when the text is not base64.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim().trim_end_matches('=');
    let mut standard: String = digits.chars().map(|c| if c == '-' { '+' } else { c }).map(|c| if c == '_' { '/' } else { c }).collect();
    while !standard.len().is_multiple_of(4) {
        standard.push('=');
    }
    // The API types carry a decoder: one more crate for the same would only add code.
    ByteString::deserialize(StrDeserializer::<Error>::new(&standard)).ok().map(|bytes| bytes.0)
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn both_alphabets_with_and_without_padding() {
        for text in ["Pj4/Pz8=", "Pj4/Pz8", "Pj4_Pz8", " Pj4_Pz8=\n"] {
            assert_eq!(decode(text).as_deref(), Some(&b">>???"[..]), "{text:?}");
        }
        assert_eq!(decode("").as_deref(), Some(&b""[..]));
        for text in ["a", "Pj4*", "é", "Pj 4"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }
}
