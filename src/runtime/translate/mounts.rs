//! What is mounted into a container.

use std::cell::RefCell;
use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use proto::cri::{Mount, MountPropagation};

use super::TranslateError;
use super::container::{ContainerInput, TERMINATION_MESSAGE_PATH};
use super::expansion::expand;
use crate::network::hosts;
use crate::volumes::MountedVolume;

/// Whether a container gets a hosts file from the agent: the pod has an address (its own or the node's), and the container brings
/// no file of its own.
pub fn mounts_hosts_file(pod: &Pod, container: &Container, has_address: bool) -> bool {
    let host_network = pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
    let own = container.volume_mounts.iter().flatten().any(|m| m.mount_path == hosts::CONTAINER_PATH);
    (has_address || host_network) && !own
}

/// All mounts: volumes in the order of the spec, the hosts file, the file for the termination message.
pub(super) fn mounts(input: ContainerInput<'_>) -> Result<Vec<Mount>, TranslateError> {
    let volume_mounts = input.container.volume_mounts.iter().flatten();
    let mut out = volume_mounts.enumerate().map(|(n, m)| volume(n, m, input)).collect::<Result<Vec<_>, _>>()?;
    // The runtime relabels these two files where SELinux is on; they belong to one pod.
    let file = |path: &str, host: &std::path::Path| Mount {
        container_path: absolute(path),
        host_path: host.to_string_lossy().into_owned(),
        selinux_relabel: true,
        ..Default::default()
    };
    out.extend(input.hosts_file.map(|host| file(hosts::CONTAINER_PATH, host)));
    let message_path = input.container.termination_message_path.as_deref().unwrap_or(TERMINATION_MESSAGE_PATH);
    out.extend(input.termination_log.map(|host| file(message_path, host)));
    Ok(out)
}

/// Whether a container may ask for mounts that are read-only with everything below them: what the runtime can do matters to it then.
pub fn wants_recursive_read_only(container: &Container) -> bool {
    container.volume_mounts.iter().flatten().any(|m| m.recursive_read_only.as_deref().is_some_and(|mode| mode != "Disabled"))
}

/// Which part of its volume a mount shows, from its `subPath` or `subPathExpr`; `None`: all of it (upstream: `kubelet_pods.go`, makeMounts).
pub fn sub_path(mount: &VolumeMount, environment: &[(String, Vec<u8>)]) -> Result<Option<String>, TranslateError> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let path = match given(&mount.sub_path_expr) {
        Some(text) => {
            let missing = RefCell::new(BTreeSet::new());
            let value = |name: &str| {
                let value = environment.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_slice());
                // Nothing in place of a name would be another directory.
                value.filter(|value| !value.is_empty()).or_else(|| {
                    missing.borrow_mut().insert(name.to_owned());
                    None
                })
            };
            let path = String::from_utf8_lossy(&expand(&text, value)).into_owned();
            let missing: Vec<_> = missing.into_inner().into_iter().collect();
            if !missing.is_empty() {
                return Err(TranslateError::SubPath(format!("missing value for {}", missing.join(", "))));
            }
            path
        }
        None => match given(&mount.sub_path) {
            Some(path) => path,
            None => return Ok(None),
        },
    };
    let refused = |why: &str| Err(TranslateError::SubPath(format!("unable to provision SubPath `{path}`: {why}")));
    if path.starts_with('/') {
        return refused("must not be an absolute path");
    }
    if path.split('/').any(|part| part == "..") {
        return refused("must not contain '..'");
    }
    Ok(Some(path))
}

fn volume(index: usize, mount: &VolumeMount, input: ContainerInput<'_>) -> Result<Mount, TranslateError> {
    let ContainerInput { container, volumes, .. } = input;
    let missing = || TranslateError::MissingVolume { volume: mount.name.clone(), container: container.name.clone() };
    let MountedVolume { host_path, read_only } = volumes.get(&mount.name).ok_or_else(missing)?;
    let host_path = input.sub_paths.get(&index).unwrap_or(host_path);
    Ok(Mount {
        container_path: absolute(&mount.mount_path),
        host_path: host_path.to_string_lossy().into_owned(),
        readonly: *read_only || mount.read_only == Some(true),
        propagation: propagation(mount.mount_propagation.as_deref())?.into(),
        recursive_read_only: recursive_read_only(mount, input.recursive_read_only)?,
        ..Default::default()
    })
}

/// KEP-3857 (upstream: `kubelet_pods.go`, resolveRecursiveReadOnly).
fn recursive_read_only(mount: &VolumeMount, supported: bool) -> Result<bool, TranslateError> {
    let refused = |why: &str| {
        let volume = &mount.name;
        Err(TranslateError::RecursiveReadOnly(format!("volume {volume:?} requested recursive read-only mode, but it is {why}")))
    };
    let mode = match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => return Ok(false),
        Some(mode) => mode,
    };
    if mount.read_only != Some(true) {
        return refused("not read-only");
    }
    if let Some(propagation) = mount.mount_propagation.as_deref().filter(|p| *p != "None") {
        return refused(&format!("not compatible with propagation {propagation:?}"));
    }
    match mode {
        "IfPossible" => Ok(supported),
        "Enabled" if supported => Ok(true),
        "Enabled" => refused("not supported by the runtime"),
        other => Err(TranslateError::Invalid {
            field: "recursiveReadOnly",
            value: other.to_owned(),
            expected: "Disabled, IfPossible or Enabled",
        }),
    }
}

fn propagation(mode: Option<&str>) -> Result<MountPropagation, TranslateError> {
    match mode {
        None | Some("None") => Ok(MountPropagation::PropagationPrivate),
        Some("HostToContainer") => Ok(MountPropagation::PropagationHostToContainer),
        Some("Bidirectional") => Ok(MountPropagation::PropagationBidirectional),
        Some(other) => Err(TranslateError::Invalid {
            field: "mountPropagation",
            value: other.to_owned(),
            expected: "None, HostToContainer or Bidirectional",
        }),
    }
}

/// Paths in a container without a leading slash count from its root.
fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}
