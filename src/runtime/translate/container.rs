//! The config of a container.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use proto::cri::{ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig};

use super::expansion::expand;
use super::{TranslateError, TranslateSettings, mounts, resources, security};
use crate::model::ContainerId;
use crate::model::hash::container_hash;
use crate::runtime::{Image, names};
use crate::volumes::PodVolumes;

/// What a container config is made from, beside the node's settings.
#[derive(Debug, Clone, Copy)]
pub struct ContainerInput<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container, one of the pod's containers or init containers.
    pub container: &'a Container,
    /// How often it was started before.
    pub restart_count: u32,
    /// Its image, which is present.
    pub image: &'a Image,
    /// Its environment, from [`super::env::environment`].
    pub environment: &'a [(String, Vec<u8>)],
    /// The pod's volumes, which are set up.
    pub volumes: &'a PodVolumes,
    /// Parts of volumes on the host, by the mount's number among the container's.
    pub sub_paths: &'a BTreeMap<usize, PathBuf>,
    /// The hosts file, which is written; `None` when the container brings its own or the pod has no address.
    pub hosts_file: Option<&'a Path>,
    /// The file that takes the termination message, which is made; `None` when the container wants none.
    pub termination_log: Option<&'a Path>,
    /// The instance whose processes it sees, of an ephemeral container.
    pub target: Option<&'a ContainerId>,
    /// Whether its runtime handler can make mounts read-only with everything below them.
    pub recursive_read_only: bool,
}

/// Where a container writes its last words, when its spec doesn't say (API default).
pub(crate) const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";

/// The config of a container.
pub fn container_config(input: ContainerInput<'_>, settings: &TranslateSettings) -> Result<ContainerConfig, TranslateError> {
    let ContainerInput { pod, container, .. } = input;
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    if container.volume_devices.as_ref().is_some_and(|d| !d.is_empty()) {
        return Err(TranslateError::Unsupported { field: "volumeDevices" });
    }

    let known: BTreeMap<&str, &[u8]> = input.environment.iter().map(|(k, v)| (k.as_str(), v.as_slice())).collect();
    let expanded = |word: &String| String::from_utf8_lossy(&expand(word, |name| known.get(name).copied())).into_owned();
    let words = |list: &Option<Vec<String>>| list.iter().flatten().map(expanded).collect();
    let envs = input.environment.iter().map(|(k, v)| KeyValue { key: k.clone(), value: v.clone() });
    let image = ImageSpec {
        image: input.image.id.clone(),
        user_specified_image: container.image.clone().unwrap_or_default(),
        ..Default::default()
    };
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: container.name.clone(), attempt: input.restart_count }),
        image: Some(image),
        command: words(&container.command),
        args: words(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: envs.collect(),
        mounts: mounts::mounts(input)?,
        devices: vec![],
        labels: labels(pod, container),
        annotations: annotations(pod, container, input.restart_count),
        log_path: names::container_log(&container.name, input.restart_count),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(LinuxContainerConfig {
            resources: Some(resources::container(pod, container, settings)),
            security_context: Some(security::container(pod, spec, container, input.image, input.target, settings)?),
        }),
        cdi_devices: vec![],
    })
}

fn labels(pod: &Pod, container: &Container) -> BTreeMap<String, String> {
    let text = |s: &Option<String>| s.clone().unwrap_or_default();
    let all = [
        (names::POD_NAME, text(&pod.metadata.name)),
        (names::POD_NAMESPACE, text(&pod.metadata.namespace)),
        (names::POD_UID, text(&pod.metadata.uid)),
        (names::CONTAINER_NAME, container.name.clone()),
    ];
    all.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

/// What the agent wants to know about the container when the pod's spec is gone, or when the agent was restarted.
fn annotations(pod: &Pod, container: &Container, restart_count: u32) -> BTreeMap<String, String> {
    let message_path = container.termination_message_path.as_deref().unwrap_or(TERMINATION_MESSAGE_PATH);
    let message_policy = container.termination_message_policy.as_deref().unwrap_or("File");
    // Values of these types always have a JSON form.
    let pre_stop = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()).and_then(|h| serde_json::to_string(h).ok());
    let ports = container.ports.as_ref().filter(|p| !p.is_empty()).and_then(|p| serde_json::to_string(p).ok());
    let all = [
        (names::CONTAINER_HASH, Some(container_hash(container))),
        (names::RESTART_COUNT, Some(restart_count.to_string())),
        (names::TERMINATION_MESSAGE_PATH, Some(message_path.to_owned())),
        (names::TERMINATION_MESSAGE_POLICY, Some(message_policy.to_owned())),
        (names::DELETION_GRACE_PERIOD, pod.metadata.deletion_grace_period_seconds.map(|s| s.to_string())),
        (names::TERMINATION_GRACE_PERIOD, pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).map(|s| s.to_string())),
        (names::PRE_STOP_HANDLER, pre_stop),
        (names::CONTAINER_PORTS, ports),
    ];
    all.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?))).collect()
}
