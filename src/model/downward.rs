//! The downward API: what a pod may learn about itself through environment variables and files. Pure.
//!
//! Rules from pkg/fieldpath and pkg/api/v1/resource of Kubernetes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::node::NodeFacts;
use super::quantity::{NotAQuantity, Quantity};

/// Why a field can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownwardError {
    /// The path names nothing that the downward API offers there.
    #[error("field {0:?} is not offered by the downward API; see fieldRef in the Pod reference for those that are")]
    UnknownField(String),
    /// The resource is not one of those that the downward API offers.
    #[error(
        "resource {0:?} is not offered by the downward API; write limits. or requests. and cpu, memory, ephemeral-storage or hugepages-SIZE"
    )]
    UnknownResource(String),
    /// The pod has no such container.
    #[error("resourceFieldRef names container {0:?}, which the pod does not have")]
    UnknownContainer(String),
    /// An amount can't be read.
    #[error("resource {resource}: {source}")]
    Quantity {
        /// The resource asked for.
        resource: String,
        /// Why.
        source: NotAQuantity,
    },
    /// Dividing by less than one step.
    #[error("resource {0}: the divisor must be more than 0")]
    Divisor(String),
}

/// A field of the pod as an environment variable gets it (`fieldRef.fieldPath`).
///
/// `pod_ips` are the pod's addresses in the order of its status; with none, `status.podIP` is empty, as a host-network pod's
/// addresses are only known to the caller.
pub fn field_value(pod: &Pod, path: &str, pod_ips: &[IpAddr], node: &NodeFacts) -> Result<String, DownwardError> {
    let spec = pod.spec.as_ref();
    let text = |s: Option<&String>| Ok(s.cloned().unwrap_or_default());
    match path {
        // `spec.host` is what clients of the first years sent.
        "spec.nodeName" | "spec.host" => text(spec.and_then(|s| s.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.hostIP" => Ok(first(&node.ips)),
        "status.hostIPs" => Ok(joined(&node.ips)),
        "status.podIP" => Ok(first(pod_ips)),
        "status.podIPs" => Ok(joined(pod_ips)),
        _ => metadata_value(pod, path),
    }
}

/// A field of the pod as a downward API volume gets it: metadata only, because files are kept up to date and the rest is not.
pub fn metadata_value(pod: &Pod, path: &str) -> Result<String, DownwardError> {
    let meta = &pod.metadata;
    if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(DownwardError::UnknownField(path.to_owned())),
        };
        return Ok(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    match path {
        "metadata.name" => Ok(meta.name.clone().unwrap_or_default()),
        "metadata.namespace" => Ok(meta.namespace.clone().unwrap_or_default()),
        "metadata.uid" => Ok(meta.uid.clone().unwrap_or_default()),
        "metadata.labels" => Ok(meta.labels.as_ref().map(lines).unwrap_or_default()),
        "metadata.annotations" => Ok(meta.annotations.as_ref().map(lines).unwrap_or_default()),
        _ => Err(DownwardError::UnknownField(path.to_owned())),
    }
}

/// The container or init container of this name.
pub fn container<'a>(pod: &'a Pod, name: &str) -> Result<&'a Container, DownwardError> {
    let spec = pod.spec.as_ref();
    let all = spec.into_iter().flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
    let mut found = all.filter(|c| c.name == name);
    found.next().ok_or_else(|| DownwardError::UnknownContainer(name.to_owned()))
}

/// An amount of a container's resources (`resourceFieldRef`), in whole divisors, rounded up.
///
/// A limit that the container does not set is the pod's (KEP-2837), and without one the node's allocatable amount, so that a program
/// can size itself by it. A request that is not set is 0.
pub fn resource_value(
    pod: &Pod,
    container: &Container,
    resource: &str,
    divisor: Option<&Text>,
    node: &NodeFacts,
) -> Result<String, DownwardError> {
    let unknown = || DownwardError::UnknownResource(resource.to_owned());
    let parse = |q: &Text| q.0.parse::<Quantity>().map_err(|source| DownwardError::Quantity { resource: resource.to_owned(), source });
    let (side, name) = resource.split_once('.').ok_or_else(unknown)?;
    let limit = match side {
        "limits" => true,
        "requests" => false,
        _ => return Err(unknown()),
    };
    // CPU is counted in thousandths, everything else in whole units: so is the divisor.
    let count = |q: Quantity| if name == "cpu" { q.milli_value() } else { q.value() };
    let allocatable = match name {
        "cpu" => node.allocatable.milli_cpu,
        "memory" => node.allocatable.memory,
        "ephemeral-storage" => node.allocatable.ephemeral_storage,
        _ if name.starts_with("hugepages-") => 0,
        _ => return Err(unknown()),
    };
    let amount = |resources: Option<&ResourceRequirements>| -> Result<Option<i64>, DownwardError> {
        let list = resources.and_then(|r| if limit { r.limits.as_ref() } else { r.requests.as_ref() });
        let amount = list.and_then(|l| l.get(name)).map(parse).transpose()?.map(count);
        Ok(amount.filter(|a| *a != 0))
    };
    let mut value = amount(container.resources.as_ref())?;
    if value.is_none() && limit {
        value = amount(pod.spec.as_ref().and_then(|s| s.resources.as_ref()))?.or(Some(allocatable));
    }
    let one = if name == "cpu" { 1000 } else { 1 };
    let divisor = divisor.map(parse).transpose()?.map(count).filter(|d| *d != 0).unwrap_or(one);
    if divisor < 0 {
        return Err(DownwardError::Divisor(resource.to_owned()));
    }
    let value = value.unwrap_or(0);
    Ok((value / divisor + i64::from(value % divisor > 0)).to_string())
}

fn first(ips: &[IpAddr]) -> String {
    ips.first().map(IpAddr::to_string).unwrap_or_default()
}

fn joined(ips: &[IpAddr]) -> String {
    ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",")
}

/// One `key="value"` a line, sorted by key, the last line without an end.
fn lines(map: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    for (key, value) in map {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(key);
        out.push('=');
        quote(&mut out, value);
    }
    out
}

/// Quotes as Go's `strconv.Quote` does, because scripts in the field parse that form.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            ' '..='~' => out.push(c),
            _ if printable(c) => out.push(c),
            _ if u32::from(c) < 0x80 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            _ if u32::from(c) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
}

/// Letters, marks, numbers, punctuation and symbols. The standard library decides by the same Unicode categories when it escapes
/// text for debugging; the leading letter keeps it from escaping combining marks, which it does only at the start.
fn printable(c: char) -> bool {
    let mut pair = String::from("x");
    pair.push(c);
    pair.escape_debug().nth(2).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn pod() -> Pod {
        let map = |pairs: &[(&str, &str)]| Some(pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect());
        Pod {
            metadata: ObjectMeta {
                name: Some("web".into()),
                namespace: Some("shop".into()),
                uid: Some("u1".into()),
                labels: map(&[("b", "2"), ("a", "one")]),
                annotations: map(&[("note", "say \"hi\"\n\tπ \u{200b}\x01"), ("x/y", "z")]),
                ..Default::default()
            },
            spec: Some(PodSpec { node_name: Some("n1".into()), service_account_name: Some("default".into()), ..Default::default() }),
            status: None,
        }
    }

    fn node() -> NodeFacts {
        NodeFacts {
            name: "n1".into(),
            ips: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            capacity: Default::default(),
            allocatable: Default::default(),
            cgroup_v2: true,
        }
    }

    #[test]
    fn fields() {
        let ips: Vec<IpAddr> = vec!["10.1.0.2".parse().unwrap(), "fd01::2".parse().unwrap()];
        let table = [
            ("metadata.name", "web"),
            ("metadata.namespace", "shop"),
            ("metadata.uid", "u1"),
            ("metadata.labels", "a=\"one\"\nb=\"2\""),
            ("metadata.labels['a']", "one"),
            ("metadata.labels['none']", ""),
            ("metadata.annotations['x/y']", "z"),
            ("metadata.annotations", "note=\"say \\\"hi\\\"\\n\\tπ \\u200b\\x01\"\nx/y=\"z\""),
            ("spec.nodeName", "n1"),
            ("spec.serviceAccountName", "default"),
            ("status.hostIP", "10.0.0.1"),
            ("status.hostIPs", "10.0.0.1,fd00::1"),
            ("status.podIP", "10.1.0.2"),
            ("status.podIPs", "10.1.0.2,fd01::2"),
        ];
        for (path, want) in table {
            assert_eq!(field_value(&pod(), path, &ips, &node()).as_deref(), Ok(want), "{path}");
        }
    }

    #[test]
    fn resources() {
        let list = |pairs: &[(&str, &str)]| Some(pairs.iter().map(|(k, v)| ((*k).to_owned(), Text((*v).into()))).collect());
        let resources = ResourceRequirements {
            limits: list(&[("cpu", "1500m"), ("hugepages-2Mi", "4Mi")]),
            requests: list(&[("cpu", "250m"), ("memory", "1Gi"), ("ephemeral-storage", "x")]),
            ..Default::default()
        };
        let c = Container { name: "c".into(), resources: Some(resources), ..Default::default() };
        let mut pod = pod();
        let spec = pod.spec.get_or_insert_default();
        spec.resources = Some(ResourceRequirements { limits: list(&[("memory", "3Gi")]), ..Default::default() });
        spec.init_containers = Some(vec![c]);
        let mut node = node();
        node.allocatable = super::super::node::Totals { milli_cpu: 4000, memory: 8 << 30, ephemeral_storage: 1001, pods: 110 };
        let c = container(&pod, "c").unwrap();
        let table = [
            ("limits.cpu", "", "2"),
            ("limits.cpu", "1m", "1500"),
            ("limits.cpu", "0", "2"),
            ("requests.cpu", "1", "1"),
            ("requests.cpu", "100m", "3"),
            ("requests.memory", "1Mi", "1024"),
            ("limits.memory", "1Gi", "3"),
            ("limits.ephemeral-storage", "1k", "2"),
            ("requests.hugepages-2Mi", "", "0"),
            ("limits.hugepages-2Mi", "1Mi", "4"),
            ("limits.hugepages-1Gi", "1Mi", "0"),
        ];
        for (resource, divisor, want) in table {
            let divisor = Some(Text(divisor.to_owned())).filter(|d| !d.0.is_empty());
            assert_eq!(resource_value(&pod, c, resource, divisor.as_ref(), &node).as_deref(), Ok(want), "{resource} {divisor:?}");
        }
        for resource in ["cpu", "limits.", "limits.gpu", "x.cpu", "requests.ephemeral-storage"] {
            assert!(resource_value(&pod, c, resource, None, &node).is_err(), "{resource}");
        }
        assert!(resource_value(&pod, c, "limits.cpu", Some(&Text("-1".into())), &node).is_err());
        assert_eq!(container(&pod, "d"), Err(DownwardError::UnknownContainer("d".into())));
    }

    #[test]
    fn unknown_fields_are_errors_that_name_the_path() {
        for path in ["", "metadata", "metadata.labels[a]", "spec.nodeName['x']", "status.phase.x", "['a']", "']"] {
            let error = field_value(&pod(), path, &[], &node()).expect_err(path);
            assert_eq!(error, DownwardError::UnknownField(path.to_owned()));
        }
        assert!(metadata_value(&pod(), "status.podIP").is_err());
    }
}
