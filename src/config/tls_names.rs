//! Names of cipher suites and numbers of key exchanges that upstream accepts (Go's crypto/tls).

use super::nearest::nearest;
use super::view::View;

/// IANA's names, and two that are kept for old configurations. Which of them are spoken is for the server to say.
const SUITES: &str = "TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256 TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA \
    TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA \
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 \
    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 \
    TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305 TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305 TLS_RSA_WITH_RC4_128_SHA \
    TLS_RSA_WITH_3DES_EDE_CBC_SHA TLS_RSA_WITH_AES_128_CBC_SHA TLS_RSA_WITH_AES_256_CBC_SHA TLS_RSA_WITH_AES_128_CBC_SHA256 \
    TLS_RSA_WITH_AES_128_GCM_SHA256 TLS_RSA_WITH_AES_256_GCM_SHA384 TLS_ECDHE_ECDSA_WITH_RC4_128_SHA TLS_ECDHE_RSA_WITH_RC4_128_SHA \
    TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256 TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256";
/// P-256, P-384, P-521, X25519, and the hybrids with ML-KEM: P-256, X25519, P-384.
const CURVES: [i64; 7] = [23, 24, 25, 29, 4587, 4588, 4589];

/// Adds one line for each name and number that doesn't exist.
pub(super) fn check(config: &View, found: &mut Vec<String>) {
    for name in config.texts("tlsCipherSuites") {
        if !SUITES.split(' ').any(|known| known == name) {
            found.push(match nearest(name, SUITES.split(' ')) {
                Some(close) => format!("tlsCipherSuites: there is no cipher suite {name:?}; did you mean {close:?}?"),
                None => format!("tlsCipherSuites: there is no cipher suite {name:?}"),
            });
        }
    }
    let curves: Vec<i64> = config.list("tlsCurvePreferences").iter().filter_map(serde_json::Value::as_i64).collect();
    for (index, curve) in curves.iter().enumerate() {
        if !CURVES.contains(curve) {
            found.push(format!("tlsCurvePreferences: {curve} is not supported; known are {CURVES:?}"));
        } else if curves.iter().take(index).any(|earlier| earlier == curve) {
            found.push(format!("tlsCurvePreferences: {curve} is given twice"));
        }
    }
}
