//! What an API server would have filled in (upstream: `pkg/apis/core/v1/defaults.go`), as far as a node acts on it.

use k8s_openapi::api::core::v1::{Container, PodSpec, Probe};

/// Fills a spec in.
pub fn set(spec: &mut PodSpec) {
    let host_network = spec.host_network == Some(true);
    spec.restart_policy.get_or_insert_with(|| "Always".to_owned());
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".to_owned());
    spec.enable_service_links.get_or_insert(true);
    spec.scheduler_name.get_or_insert_with(|| "default-scheduler".to_owned());
    spec.security_context.get_or_insert_default();
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        set_container(container, host_network);
    }
    for volume in spec.volumes.iter_mut().flatten() {
        if let Some(host_path) = &mut volume.host_path {
            host_path.type_.get_or_insert_with(String::new);
        }
        if let Some(downward) = &mut volume.downward_api {
            downward.default_mode.get_or_insert(0o644);
        }
        if let Some(projected) = &mut volume.projected {
            projected.default_mode.get_or_insert(0o644);
        }
    }
}

fn set_container(container: &mut Container, host_network: bool) {
    container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".to_owned());
    container.termination_message_policy.get_or_insert_with(|| "File".to_owned());
    let latest = container.image.as_deref().is_some_and(is_latest);
    container.image_pull_policy.get_or_insert_with(|| if latest { "Always" } else { "IfNotPresent" }.to_owned());
    for port in container.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
        if host_network {
            port.host_port.get_or_insert(port.container_port);
        }
    }
    if let Some(resources) = &mut container.resources {
        // Who sets a limit alone asks for as much.
        for (name, limit) in resources.limits.clone().unwrap_or_default() {
            resources.requests.get_or_insert_default().entry(name).or_insert(limit);
        }
    }
    for probe in [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe].into_iter().flatten() {
        set_probe(probe);
    }
}

fn set_probe(probe: &mut Probe) {
    probe.timeout_seconds.get_or_insert(1);
    probe.period_seconds.get_or_insert(10);
    probe.success_threshold.get_or_insert(1);
    probe.failure_threshold.get_or_insert(3);
    if let Some(get) = &mut probe.http_get {
        get.path.get_or_insert_with(|| "/".to_owned());
        get.scheme.get_or_insert_with(|| "HTTP".to_owned());
    }
}

/// No tag and no digest, or the tag `latest`.
fn is_latest(image: &str) -> bool {
    let last = image.rsplit('/').next().unwrap_or(image);
    !image.contains('@') && last.rsplit_once(':').is_none_or(|(_, tag)| tag == "latest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_without_a_tag_are_asked_for_each_time() {
        for (image, latest) in
            [("a", true), ("a:latest", true), ("a:1", false), ("h:5000/a", true), ("h:5000/a:1", false), ("a@sha256:0", false)]
        {
            assert_eq!(is_latest(image), latest, "{image}");
        }
    }
}
