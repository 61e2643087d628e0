//! Syntax of labels and taints, and which labels a node may give itself.

/// Labels of the reserved domains that a node may set (k8s.io/kubelet/pkg/apis/well_known_labels.go; the NodeRestriction
/// admission plug-in refuses all others).
const OWN_LABELS: [&str; 11] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const OWN_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// Checks one pair of `--node-labels`.
pub(super) fn check_node_label(key: &str, value: &str) -> Result<(), String> {
    check_key(key)?;
    check_value(value)?;
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let within = |domain: &str, of: &str| domain.strip_suffix(of).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let reserved = within(domain, "kubernetes.io") || within(domain, "k8s.io");
    let own = OWN_LABELS.contains(&key) || OWN_DOMAINS.iter().any(|of| within(domain, of));
    if reserved && !own {
        return Err(format!(
            "a node can't give itself the label {key:?}; in the domains kubernetes.io and k8s.io it may set those below {} and: {}",
            OWN_DOMAINS.join(", "),
            OWN_LABELS.join(", ")
        ));
    }
    Ok(())
}

/// A qualified name: `[domain/]name`.
pub(super) fn check_key(key: &str) -> Result<(), String> {
    let (domain, name) = key.split_once('/').map_or((None, key), |(domain, name)| (Some(domain), name));
    let domain_ok = domain.is_none_or(|domain| !domain.is_empty() && domain.len() <= 253 && domain.split('.').all(is_dns_label));
    if domain_ok && !name.is_empty() && is_short_word(name) {
        return Ok(());
    }
    Err(format!("{key:?} is not a label key; expected [domain/]name with at most 63 letters, digits, '-', '_' or '.' in the name"))
}

/// A label's or taint's value.
pub(super) fn check_value(value: &str) -> Result<(), String> {
    if value.is_empty() || is_short_word(value) {
        return Ok(());
    }
    Err(format!("{value:?} is not a label value; expected at most 63 letters, digits, '-', '_' or '.', a letter or digit at both ends"))
}

fn is_short_word(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && ends(text.chars().next())
        && ends(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn is_dns_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_labels_a_node_may_set() {
        for key in [
            "disk",
            "example.com/disk",
            "kubernetes.io/os",
            "node.kubernetes.io/anything",
            "a.kubelet.kubernetes.io/b",
            "mykubernetes.io/x",
        ] {
            assert_eq!(check_node_label(key, "x"), Ok(()), "{key}");
        }
        for key in ["node-role.kubernetes.io/worker", "kubernetes.io/x", "x.k8s.io/y", "", "/x", "a/b/c", "-x", "Up.com/x", "x y"] {
            assert!(check_node_label(key, "x").is_err(), "{key}");
        }
        assert!(check_node_label("a", "-").is_err());
        assert_eq!(check_node_label("a", ""), Ok(()));
        assert!(check_node_label("a", &"x".repeat(64)).is_err());
    }
}
