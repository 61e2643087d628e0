//! Flags that set one of the [`Options`]: what no config file can say.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::super::{Options, duration, labels};

type Outcome = Result<(), String>;

pub(super) fn kubeconfig(options: &mut Options, text: &str) -> Outcome {
    options.kubeconfig = path(text);
    Ok(())
}

pub(super) fn bootstrap_kubeconfig(options: &mut Options, text: &str) -> Outcome {
    options.bootstrap_kubeconfig = path(text);
    Ok(())
}

pub(super) fn hostname_override(options: &mut Options, text: &str) -> Outcome {
    options.hostname_override = Some(text.to_owned());
    Ok(())
}

pub(super) fn service_proxy(options: &mut Options, text: &str) -> Outcome {
    options.service_proxy = text.parse().map_err(|_| format!("expected true or false, got {text:?}"))?;
    Ok(())
}

pub(super) fn root_dir(options: &mut Options, text: &str) -> Outcome {
    options.root_dir = absolute(text)?;
    Ok(())
}

pub(super) fn cert_dir(options: &mut Options, text: &str) -> Outcome {
    options.cert_dir = absolute(text)?;
    Ok(())
}

pub(super) fn cloud_provider(options: &mut Options, text: &str) -> Outcome {
    options.external_cloud_provider = match text {
        "" => false,
        "external" => true,
        other => return Err(format!("expected external or nothing (cloud providers are no part of the agent any more), got {other:?}")),
    };
    Ok(())
}

/// One address, or one of each family.
pub(super) fn node_ip(options: &mut Options, text: &str) -> Outcome {
    let mut ips = Vec::<IpAddr>::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        ips.push(part.parse().map_err(|_| format!("expected an IP address, got {part:?}"))?);
    }
    match ips.as_slice() {
        [] | [_] => {}
        [a, b] if a.is_unspecified() || b.is_unspecified() => return Err("0.0.0.0 and :: can only stand alone".to_owned()),
        [a, b] if a.is_ipv4() != b.is_ipv4() => {}
        _ => return Err(format!("expected one address, or one of each family, got {text:?}")),
    }
    options.node_ips = ips;
    Ok(())
}

pub(super) fn node_labels(options: &mut Options, text: &str) -> Outcome {
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (key.trim(), value.trim());
        labels::check_node_label(key, value)?;
        options.node_labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(())
}

pub(super) fn minimum_container_ttl(options: &mut Options, text: &str) -> Outcome {
    options.minimum_container_ttl = match duration::parse_signed(text) {
        Some((false, length)) => length,
        _ => return Err(format!("expected a duration such as \"2m0s\", got {text:?}")),
    };
    Ok(())
}

pub(super) fn maximum_dead_containers_per_container(options: &mut Options, text: &str) -> Outcome {
    options.maximum_dead_containers_per_container = number(text)?;
    Ok(())
}

pub(super) fn maximum_dead_containers(options: &mut Options, text: &str) -> Outcome {
    options.maximum_dead_containers = number(text)?;
    Ok(())
}

fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// These paths are handed to the runtime, whose working directory is another one.
fn absolute(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|error| format!("expected a directory, got {text:?}: {error}"))
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("expected a whole number, got {text:?}"))
}
