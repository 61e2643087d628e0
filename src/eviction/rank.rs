//! Who goes first (`pkg/kubelet/eviction/helpers.go`). Pure.

use std::cmp::Reverse;

use k8s_openapi::api::core::v1::Pod;

use super::signal::{Resource, Signal};
use super::usage::{Part, PodUsage};
use crate::model::quantity::Quantity;
use crate::model::resources::PodResources;

/// The file systems of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disks {
    /// All is on one.
    One,
    /// Images, and what containers write, are on another one.
    Images,
    /// Images alone are on another one (KEP-4191).
    ImagesAlone,
}

impl Disks {
    /// What a pod holds on the file system of a signal, apart from images.
    pub fn parts(self, signal: Signal) -> &'static [Part] {
        let of_images = matches!(signal, Signal::ImageFs | Signal::ImageFsInodes);
        match self {
            Self::One => &[Part::Writable, Part::Logs, Part::Volumes],
            Self::Images if of_images => &[Part::Writable],
            Self::Images => &[Part::Logs, Part::Volumes],
            Self::ImagesAlone if of_images => &[],
            Self::ImagesAlone => &[Part::Logs, Part::Volumes, Part::Writable],
        }
    }

    /// Whether removing images helps.
    pub fn holds_images(self, signal: Signal) -> bool {
        match signal {
            Signal::ImageFs | Signal::ImageFsInodes => true,
            Signal::NodeFs | Signal::NodeFsInodes => self == Self::One,
            Signal::Memory | Signal::AllocatableMemory | Signal::Pid => false,
        }
    }
}

/// Sorts pods, the first one to go first: who uses more than it asked for, then the less important, then who uses the most beyond its
/// request. Of a pod that can't be measured the worst is assumed. Process ids can't be asked for: there only the last two count.
pub fn rank<T: AsRef<Pod>>(pods: &mut [(T, Option<PodUsage>)], signal: Signal, disks: Disks) {
    let resource = signal.resource();
    pods.sort_by_cached_key(|(pod, usage)| {
        let priority = pod.as_ref().spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        let Some(usage) = usage else { return (false, false, priority, Reverse(i64::MAX)) };
        let requests = PodResources::of(pod.as_ref()).requests;
        let asked = |name: &str| requests.get(name).copied().map_or(0, Quantity::value);
        let (used, asked) = match resource {
            Resource::Memory => (usage.memory, asked("memory")),
            Resource::Storage => (usage.held(disks.parts(signal)).bytes, asked("ephemeral-storage")),
            Resource::Inodes => (usage.held(disks.parts(signal)).inodes, 0),
            Resource::Pids => (usage.pids, i64::MAX),
        };
        let beyond = if resource == Resource::Pids { used } else { used.saturating_sub(asked) };
        (true, used <= asked, priority, Reverse(beyond))
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::eviction::usage::{ContainerUsage, Held};

    fn pod(name: &str, priority: i32, requests: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"priority": priority, "containers": [{"name": "c", "resources": {"requests": requests}}]}
        }))
        .unwrap()
    }

    fn ranked(mut pods: Vec<(Box<Pod>, Option<PodUsage>)>, signal: Signal, disks: Disks) -> Vec<String> {
        rank(&mut pods, signal, disks);
        pods.into_iter().map(|(pod, _)| pod.metadata.name.unwrap()).collect()
    }

    #[test]
    fn memory() {
        let one = |name, priority, asked: &str, used: i64| {
            (Box::new(pod(name, priority, json!({"memory": asked}))), Some(PodUsage { memory: used << 20, ..PodUsage::default() }))
        };
        let mut pods = vec![
            one("within", 0, "100Mi", 100),
            one("much", 0, "100Mi", 200),
            one("more", 0, "10Mi", 120),
            one("important", 100, "10Mi", 500),
            one("within-important", 100, "100Mi", 1),
        ];
        pods.push((Box::new(pod("unknown", 100, json!({}))), None));
        let order = ranked(pods, Signal::Memory, Disks::One);
        assert_eq!(order, ["unknown", "more", "much", "important", "within", "within-important"]);
    }

    #[test]
    fn disks_and_processes() {
        let held = |bytes| Held { bytes, inodes: 1000 - bytes };
        let one = |name, writable, logs, pids| {
            let container = ContainerUsage { writable: held(writable), logs: held(logs), ..ContainerUsage::default() };
            let usage = PodUsage { containers: vec![container], pids, ..PodUsage::default() };
            (Box::new(pod(name, 0, json!({}))), Some(usage))
        };
        let pods = || vec![one("writer", 100, 1, 3), one("talker", 2, 50, 2), one("forker", 1, 1, 9)];
        let by = |signal, disks| ranked(pods(), signal, disks);
        assert_eq!(by(Signal::NodeFs, Disks::One), ["writer", "talker", "forker"]);
        assert_eq!(by(Signal::NodeFs, Disks::Images), ["talker", "writer", "forker"]);
        assert_eq!(by(Signal::ImageFs, Disks::Images), ["writer", "talker", "forker"]);
        assert_eq!(by(Signal::ImageFsInodes, Disks::Images), ["forker", "talker", "writer"]);
        assert_eq!(by(Signal::Pid, Disks::One), ["forker", "writer", "talker"]);
        assert!(!Disks::Images.holds_images(Signal::NodeFs) && Disks::One.holds_images(Signal::NodeFs));
    }
}
