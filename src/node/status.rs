//! NodeStatus (pure): computed from the machine, the configuration and the runtime's health; and the patch that changes only what is new.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeStatus, NodeSwapStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::machine::Machine;
use super::probe::RuntimeView;
use super::{NodeSettings, Pressure};
use crate::model::node::{NodeFacts, Totals};
use crate::model::quantity::binary;

/// Names of one image in the status (`pkg/kubelet/nodestatus`, MaxNamesPerImageInNodeStatus).
const NAMES_OF_AN_IMAGE: usize = 5;

/// The condition that says whether pods may come.
pub const READY: &str = "Ready";

type Resources = BTreeMap<String, Quantity>;

/// What the status is made of.
pub struct Inputs<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// Name, addresses, resources.
    pub facts: &'a NodeFacts,
    /// Configuration.
    pub settings: &'a NodeSettings,
    /// The runtime.
    pub runtime: &'a RuntimeView,
    /// Why the node is not ready, besides the runtime.
    pub not_ready: &'a [String],
    /// What the node is short of.
    pub pressures: &'a BTreeSet<Pressure>,
}

/// What the agent does of the features that the scheduler and the API server ask a node for (KEP-5328), in order. Without them no pod with
/// such a rule comes here, and no such resize is let through. ExtendWebSocketsToKubelet is not among them: see `server::upgrade`.
const DECLARED: [&str; 3] =
    ["InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers", "RestartAllContainersOnContainerExits"];

/// The status to report, given the one that the API server has.
pub fn compute(inputs: &Inputs<'_>, old: &NodeStatus, now: Timestamp) -> NodeStatus {
    let capacity = capacity(inputs, old);
    NodeStatus {
        addresses: Some(addresses(inputs, old)),
        allocatable: Some(allocatable(inputs, &capacity)),
        capacity: Some(capacity),
        conditions: Some(conditions(inputs, old, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(inputs.settings.server_port) }),
        }),
        declared_features: Some(DECLARED.map(str::to_owned).to_vec()),
        features: inputs
            .runtime
            .health
            .as_ref()
            .map(|health| NodeFeatures { supplemental_groups_policy: Some(health.supplemental_groups_policy) }),
        images: Some(images(inputs)),
        node_info: Some(info(inputs)),
        runtime_handlers: handlers(inputs),
        // Of other writers, and never part of a patch.
        ..NodeStatus::default()
    }
}

/// Whether a status says that the node is ready.
pub fn is_ready(status: &NodeStatus) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == READY && c.status == "True")
}

fn addresses(inputs: &Inputs<'_>, old: &NodeStatus) -> Vec<NodeAddress> {
    let address = |type_: &str, address: String| NodeAddress { type_: type_.to_owned(), address };
    let hostname = address("Hostname", inputs.facts.name.clone());
    if inputs.settings.external_cloud_provider {
        match &old.addresses {
            Some(theirs) if !theirs.is_empty() => return theirs.clone(),
            _ if inputs.settings.node_ips.is_empty() => return vec![hostname],
            _ => {}
        }
    }
    let ips = inputs.facts.ips.iter().map(|ip| address("InternalIP", ip.to_string()));
    ips.chain([hostname]).collect()
}

fn resources(totals: &Totals) -> Resources {
    let cpu = if totals.milli_cpu % 1000 == 0 { (totals.milli_cpu / 1000).to_string() } else { format!("{}m", totals.milli_cpu) };
    let all = [
        ("cpu", cpu),
        ("memory", binary(totals.memory)),
        ("ephemeral-storage", binary(totals.ephemeral_storage)),
        ("pods", totals.pods.to_string()),
    ];
    all.into_iter().map(|(name, text)| (name.to_owned(), Quantity(text))).collect()
}

fn is_ours(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory" | "ephemeral-storage" | "pods") || resource.starts_with("hugepages-")
}

/// Ours, and what others advertise through the status (extended resources).
fn capacity(inputs: &Inputs<'_>, old: &NodeStatus) -> Resources {
    let mut all: Resources = old.capacity.clone().unwrap_or_default().into_iter().filter(|(name, _)| !is_ours(name)).collect();
    all.extend(resources(&inputs.facts.capacity));
    all.extend(inputs.machine.hugepages.iter().map(|(size, total)| (format!("hugepages-{}", binary(*size)), Quantity(binary(*total)))));
    all
}

fn allocatable(inputs: &Inputs<'_>, capacity: &Resources) -> Resources {
    let mut all = capacity.clone();
    all.extend(resources(&inputs.facts.allocatable));
    all
}

fn info(inputs: &Inputs<'_>) -> NodeSystemInfo {
    let machine = inputs.machine;
    let runtime = inputs.runtime.version.as_ref();
    NodeSystemInfo {
        machine_id: machine.machine_id.clone(),
        system_uuid: machine.system_uuid.clone(),
        boot_id: machine.boot_id.clone(),
        kernel_version: machine.kernel_version.clone(),
        os_image: machine.os_image.clone(),
        container_runtime_version: runtime.map_or_else(|| "://Unknown".into(), |v| format!("{}://{}", v.name, v.version)),
        kubelet_version: inputs.settings.version.clone(),
        kube_proxy_version: String::new(),
        operating_system: "linux".into(),
        architecture: machine.architecture.to_owned(),
        swap: (machine.swap > 0).then_some(NodeSwapStatus { capacity: Some(machine.swap) }),
    }
}

/// The largest images first.
fn images(inputs: &Inputs<'_>) -> Vec<ContainerImage> {
    let mut all: Vec<_> = inputs.runtime.images.iter().collect();
    all.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let most = usize::try_from(inputs.settings.max_images).unwrap_or(usize::MAX);
    let entry = |image: &crate::runtime::Image| ContainerImage {
        names: Some(image.digests.iter().chain(&image.tags).take(NAMES_OF_AN_IMAGE).cloned().collect()),
        size_bytes: i64::try_from(image.size).ok(),
    };
    all.into_iter().take(most).map(entry).collect()
}

fn handlers(inputs: &Inputs<'_>) -> Option<Vec<NodeRuntimeHandler>> {
    let mut all = inputs.runtime.health.as_ref()?.handlers.clone();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let entry = |handler: crate::runtime::RuntimeHandler| NodeRuntimeHandler {
        name: Some(handler.name),
        features: Some(NodeRuntimeHandlerFeatures {
            recursive_read_only_mounts: Some(handler.recursive_read_only_mounts),
            user_namespaces: Some(handler.user_namespaces),
        }),
    };
    Some(all.into_iter().map(entry).collect())
}

/// Pressure first, Ready last: some readers of the API rely on it (`pkg/kubelet/kubelet_node_status.go`).
fn conditions(inputs: &Inputs<'_>, old: &NodeStatus, now: Timestamp) -> Vec<NodeCondition> {
    let reasons: Vec<String> = inputs.runtime.problems().into_iter().chain(inputs.not_ready.iter().cloned()).collect();
    let ready = match reasons.as_slice() {
        [] => ("True", "KubeletReady", "kubelet is posting ready status".to_owned()),
        [one] => ("False", "KubeletNotReady", one.clone()),
        more => ("False", "KubeletNotReady", format!("[{}]", more.join(", "))),
    };
    let of = |pressure: Pressure, short: (&'static str, &str), fine: (&'static str, &str)| {
        let holds = inputs.pressures.contains(&pressure);
        let (reason, message) = if holds { short } else { fine };
        (pressure.as_str(), (if holds { "True" } else { "False" }, reason, message.to_owned()))
    };
    let all = [
        of(
            Pressure::Memory,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        of(
            Pressure::Disk,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        of(
            Pressure::Pid,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        (READY, ready),
    ];
    let time = Some(Time(now));
    let condition = |(type_, (status, reason, message)): (&str, (&str, &str, String))| {
        let same = old.conditions.iter().flatten().find(|c| c.type_ == type_ && c.status == status);
        NodeCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: time.clone(),
            last_transition_time: same.map_or_else(|| time.clone(), |c| c.last_transition_time.clone()),
        }
    };
    all.into_iter().map(condition).collect()
}

/// The patch from `old` to `new`; `None` when nothing but heartbeat times differs, unless `heartbeat` asks for them.
pub fn patch(old: &NodeStatus, new: &NodeStatus, heartbeat: bool) -> Option<Value> {
    let mut status = Map::new();
    let mut set = |name: &str, value: Value| drop(status.insert(name.to_owned(), value));
    if let Some(addresses) = new.addresses.as_ref().filter(|new| Some(*new) != old.addresses.as_ref()) {
        // The list's merge key is `type`, of which there may be two: it can only be replaced as a whole.
        let mut list: Vec<Value> = addresses.iter().map(to_json).collect();
        list.push(json!({ "$patch": "replace" }));
        set("addresses", list.into());
    }
    for (name, old, new) in [("capacity", &old.capacity, &new.capacity), ("allocatable", &old.allocatable, &new.allocatable)] {
        let changes = map_changes(old.as_ref(), new.as_ref());
        if !changes.is_empty() {
            set(name, changes.into());
        }
    }
    // What the runtime was not asked for yet stays as it was said before.
    let fields = [
        ("daemonEndpoints", to_json(&old.daemon_endpoints), to_json(&new.daemon_endpoints)),
        ("declaredFeatures", to_json(&old.declared_features), to_json(&new.declared_features)),
        ("features", to_json(&old.features), to_json(&new.features.as_ref().or(old.features.as_ref()))),
        ("images", to_json(&old.images), to_json(&new.images)),
        ("nodeInfo", to_json(&old.node_info), to_json(&new.node_info)),
        ("runtimeHandlers", to_json(&old.runtime_handlers), to_json(&new.runtime_handlers.as_ref().or(old.runtime_handlers.as_ref()))),
    ];
    for (name, old, new) in fields {
        if without_blanks(&old) != without_blanks(&new) {
            set(name, new);
        }
    }
    let known = old.conditions.as_deref().unwrap_or_default();
    let changed = |c: &NodeCondition| {
        let has = known.iter().find(|k| k.type_ == c.type_);
        has.is_none_or(|k| (&k.status, &k.reason, &k.message) != (&c.status, &c.reason, &c.message))
    };
    let conditions = new.conditions.as_deref().unwrap_or_default();
    if heartbeat || conditions.iter().any(changed) || !status.is_empty() {
        status.insert("conditions".to_owned(), to_json(&conditions));
    }
    (!status.is_empty()).then(|| json!({ "status": status }))
}

/// The server leaves some empty fields out and fills others in: nothing, "", [] and {} are all the same, and become null here.
fn without_blanks(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept: Map<_, _> = map.iter().map(|(name, v)| (name.clone(), without_blanks(v))).filter(|(_, v)| !v.is_null()).collect();
            if kept.is_empty() { Value::Null } else { kept.into() }
        }
        Value::Array(all) if !all.is_empty() => all.iter().map(without_blanks).collect(),
        Value::String(text) if !text.is_empty() => value.clone(),
        Value::Number(_) | Value::Bool(_) => value.clone(),
        _ => Value::Null,
    }
}

/// The server writes quantities its own way (`56403987000` comes back as `56403987k`).
fn same_amount(a: Option<&Quantity>, b: &Quantity) -> bool {
    let amount = |q: &Quantity| q.0.parse::<crate::model::quantity::Quantity>();
    a.is_some_and(|a| a == b || matches!((amount(a), amount(b)), (Ok(a), Ok(b)) if a == b))
}

fn map_changes(old: Option<&Resources>, new: Option<&Resources>) -> Map<String, Value> {
    let none = Resources::new();
    let (old, new) = (old.unwrap_or(&none), new.unwrap_or(&none));
    let changed =
        new.iter().filter(|(name, value)| !same_amount(old.get(*name), value)).map(|(name, value)| (name.clone(), to_json(value)));
    let gone = old.keys().filter(|name| !new.contains_key(*name)).map(|name| (name.clone(), Value::Null));
    changed.chain(gone).collect()
}

fn to_json(value: &impl Serialize) -> Value {
    // API types always serialise.
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
pub mod tests;
