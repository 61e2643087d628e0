//! The host name and domain of a pod.

use k8s_openapi::api::core::v1::Pod;

/// Longest host name that is one DNS label.
const LABEL_MAX: usize = 63;
/// Longest node name of the kernel (`__NEW_UTS_LEN` in linux/utsname.h).
const KERNEL_MAX: usize = 64;
/// Longest DNS name (RFC 1123).
const DOMAIN_MAX: usize = 253;

/// Why a pod has no host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostnameError {
    /// A field of the spec can't be part of a name.
    #[error("spec.{field} {value:?} is not a DNS {kind}; use lower-case letters, digits and '-'")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// `label` or `name`.
        kind: &'static str,
    },
    /// The kernel can't hold the name that spec.setHostnameAsFQDN asks for. Upstream's tests read the words.
    #[error(
        "failed to construct FQDN from pod hostname and cluster domain, FQDN {0} is too long ({KERNEL_MAX} characters is the max, \
         {length} characters requested); shorten hostname or subdomain, or leave spec.setHostnameAsFQDN out",
        length = .0.len()
    )]
    TooLong(String),
}

/// A pod's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodHostname {
    /// Short name.
    pub name: String,
    /// Domain without a leading dot; empty for pods without a subdomain.
    pub domain: String,
}

impl PodHostname {
    /// The names that a pod's spec asks for. `spec.hostnameOverride` wins over everything and has no domain (KEP-4762).
    pub fn of(pod: &Pod, cluster_domain: &str) -> Result<Self, HostnameError> {
        let text = |s: Option<&Option<String>>| s.and_then(|s| s.clone()).filter(|s| !s.is_empty());
        let spec = pod.spec.as_ref();
        let check = |field, value: &str, kind, fits: fn(&str) -> bool| {
            if fits(value) { Ok(()) } else { Err(HostnameError::Invalid { field, value: value.to_owned(), kind }) }
        };
        if let Some(name) = spec.and_then(|s| s.hostname_override.as_ref()) {
            check("hostnameOverride", name, "name", is_dns_name)?;
            return Ok(Self { name: cut(name), domain: String::new() });
        }
        let name = match text(spec.map(|s| &s.hostname)) {
            Some(name) => {
                check("hostname", &name, "label", is_dns_label)?;
                name
            }
            None => pod.metadata.name.clone().unwrap_or_default(),
        };
        let domain = match text(spec.map(|s| &s.subdomain)) {
            Some(subdomain) => {
                check("subdomain", &subdomain, "label", is_dns_label)?;
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                format!("{subdomain}.{namespace}.svc.{cluster_domain}")
            }
            None => String::new(),
        };
        Ok(Self { name: cut(&name), domain })
    }

    /// What `uname -n` tells in the pod: the short name, or with `fqdn` (spec.setHostnameAsFQDN) the name with its domain.
    pub fn kernel_name(self, fqdn: bool) -> Result<String, HostnameError> {
        if !fqdn || self.domain.is_empty() {
            return Ok(self.name);
        }
        let full = format!("{}.{}", self.name, self.domain);
        if full.len() > KERNEL_MAX { Err(HostnameError::TooLong(full)) } else { Ok(full) }
    }
}

/// Pod names may be longer than a host name; what is left must not end in a separator.
fn cut(name: &str) -> String {
    if name.len() <= LABEL_MAX {
        return name.to_owned();
    }
    let ends = name.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = ends.take_while(|end| *end <= LABEL_MAX).last().unwrap_or(0);
    name.get(..end).unwrap_or_default().trim_end_matches(['-', '.']).to_owned()
}

fn is_dns_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.len() <= LABEL_MAX && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_dns_name(text: &str) -> bool {
    text.len() <= DOMAIN_MAX && text.split('.').all(is_dns_label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn pod(name: &str, hostname: &str, subdomain: &str, hostname_override: Option<&str>) -> Pod {
        let some = |s: &str| Some(s.to_owned()).filter(|s| !s.is_empty());
        Pod {
            metadata: ObjectMeta { name: some(name), namespace: some("shop"), ..Default::default() },
            spec: Some(PodSpec {
                hostname: some(hostname),
                subdomain: some(subdomain),
                hostname_override: hostname_override.map(str::to_owned),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn names_and_domains() {
        let long = format!("{}-.{}", "p".repeat(62), "rest");
        let table = [
            (pod("web", "", "", None), "web", ""),
            (pod("web", "front", "", None), "front", ""),
            (pod("web", "", "sub", None), "web", "sub.shop.svc.cluster.local"),
            (pod("web", "front", "sub", None), "front", "sub.shop.svc.cluster.local"),
            (pod("web", "front", "sub", Some("db.example.org")), "db.example.org", ""),
            (pod(&long, "", "", None), &"p".repeat(62), ""),
        ];
        for (pod, name, domain) in table {
            assert_eq!(PodHostname::of(&pod, "cluster.local"), Ok(PodHostname { name: name.into(), domain: domain.into() }));
        }
    }

    #[test]
    fn bad_fields_are_named() {
        for (pod, field) in [
            (pod("web", "Front", "", None), "spec.hostname "),
            (pod("web", "", "a.b", None), "spec.subdomain "),
            (pod("web", "", "", Some("a..b")), "spec.hostnameOverride "),
            (pod("web", "", "", Some("")), "spec.hostnameOverride "),
        ] {
            let error = PodHostname::of(&pod, "cluster.local").expect_err(field).to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }

    #[test]
    fn kernel_names() {
        let host = |name: &str, domain: &str| PodHostname { name: name.into(), domain: domain.into() };
        assert_eq!(host("web", "sub.shop.svc.x").kernel_name(false).as_deref(), Ok("web"));
        assert_eq!(host("web", "sub.shop.svc.x").kernel_name(true).as_deref(), Ok("web.sub.shop.svc.x"));
        assert_eq!(host("web", "").kernel_name(true).as_deref(), Ok("web"));
        assert_eq!(host("w", &"d".repeat(62)).kernel_name(true).map(|n| n.len()), Ok(64));
        assert!(host("w", &"d".repeat(63)).kernel_name(true).is_err());
    }
}
