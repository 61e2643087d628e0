//! What a static pod may not refer to: it runs without an API server (KEP-5440; upstream: `podutil.HasAPIObjectReference`).

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Volume};

/// The first kind of API object that a pod refers to.
pub fn of(pod: &Pod) -> Option<&'static str> {
    let spec = pod.spec.as_ref()?;
    let named = |name: &Option<String>| name.as_deref().is_some_and(|name| !name.is_empty());
    if named(&spec.service_account_name) || named(&spec.service_account) {
        return Some("serviceaccounts");
    }
    let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
    if spec.image_pull_secrets.as_ref().is_some_and(|s| !s.is_empty()) || containers().any(uses_secret) {
        return Some("secrets");
    }
    if containers().any(uses_config_map) {
        return Some("configmaps");
    }
    if spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        return Some("resourceclaims");
    }
    volumes(spec)
}

fn uses_secret(container: &Container) -> bool {
    let variables = container.env.iter().flatten().filter_map(|e| e.value_from.as_ref());
    variables.into_iter().any(|v| v.secret_key_ref.is_some()) || container.env_from.iter().flatten().any(|e| e.secret_ref.is_some())
}

fn uses_config_map(container: &Container) -> bool {
    let variables = container.env.iter().flatten().filter_map(|e| e.value_from.as_ref());
    variables.into_iter().any(|v| v.config_map_key_ref.is_some()) || container.env_from.iter().flatten().any(|e| e.config_map_ref.is_some())
}

fn volumes(spec: &PodSpec) -> Option<&'static str> {
    spec.volumes.iter().flatten().find_map(volume)
}

fn volume(v: &Volume) -> Option<&'static str> {
    let plain = [
        (v.config_map.is_some(), "configmaps (via configmap volumes)"),
        (v.secret.is_some(), "secrets (via secret volumes)"),
        (v.csi.is_some(), "csidrivers (via CSI volumes)"),
        (v.glusterfs.is_some(), "endpoints (via glusterFS volumes)"),
        (v.persistent_volume_claim.is_some(), "persistentvolumeclaims"),
        (v.ephemeral.is_some(), "persistentvolumeclaims (via ephemeral volumes)"),
        (v.azure_file.is_some(), "secrets (via azureFile volumes)"),
    ];
    let projected = v.projected.iter().flat_map(|p| p.sources.iter().flatten()).find_map(|source| {
        let kinds = [
            (source.config_map.is_some(), "configmaps (via projected volumes)"),
            (source.secret.is_some(), "secrets (via projected volumes)"),
            (source.service_account_token.is_some(), "serviceaccounts (via projected volumes)"),
            (source.cluster_trust_bundle.is_some(), "clustertrustbundles"),
            (source.pod_certificate.is_some(), "podcertificates"),
        ];
        kinds.into_iter().find(|(is, _)| *is).map(|(_, what)| what)
    });
    plain.into_iter().find(|(is, _)| *is).map(|(_, what)| what).or(projected)
}
