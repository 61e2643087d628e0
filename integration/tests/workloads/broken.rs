//! Pods that can't run say why, and hold nobody up.

use std::time::Duration;

use integration::fixture::{container_statuses, describe};
use integration::objects::{BUSYBOX, WHOAMI, pod};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::LAB;

fn container(image: &str) -> Value {
    json!({ "name": "main", "image": image, "command": ["sleep", "1000"] })
}

/// A pod with one volume, mounted.
fn with_volume(name: &str, volume: Value) -> Value {
    let mut container = container(BUSYBOX);
    container["volumeMounts"] = json!([{ "name": "volume", "mountPath": "/volume" }]);
    let mut manifest = pod(name, container, "Always");
    manifest["spec"]["volumes"] = json!([volume]);
    manifest
}

/// What a pod's first container waits for: its reason must be one of `reasons`, its message must hold `words`.
fn waits_for(pod: &Pod, reasons: &[&str], words: &str) -> Result<(), String> {
    let waiting = container_statuses(pod).find_map(|status| status.state.clone()?.waiting).unwrap_or_default();
    let good =
        waiting.reason.as_deref().is_some_and(|reason| reasons.contains(&reason)) && waiting.message.unwrap_or_default().contains(words);
    if good { Ok(()) } else { Err(describe(pod)) }
}

#[test]
fn each_broken_pod_says_why_and_a_good_one_runs_at_once() {
    LAB.run("broken", async |_, ns| {
        let mut no_config = container(BUSYBOX);
        no_config["env"] = json!([{ "name": "COLOUR", "valueFrom": { "configMapKeyRef": { "name": "missing-map", "key": "colour" } } }]);
        let mut never = container(WHOAMI);
        never["image"] = json!("kubelet-rs.io/not-there:1");
        never["imagePullPolicy"] = json!("Never");
        ns.apply::<Pod>(pod("no-registry", container("registry.invalid/nothing:1"), "Always")).await?;
        ns.apply::<Pod>(pod("bad-reference", container("Not_A:::reference"), "Always")).await?;
        ns.apply::<Pod>(pod("never-pulled", never, "Always")).await?;
        ns.apply::<Pod>(pod("no-config", no_config, "Always")).await?;
        ns.apply::<Pod>(with_volume("no-map", json!({ "name": "volume", "configMap": { "name": "missing-map" } }))).await?;
        ns.apply::<Pod>(with_volume("no-secret", json!({ "name": "volume", "secret": { "secretName": "missing-secret" } }))).await?;
        ns.apply::<Pod>(with_volume("wrong-type", json!({ "name": "volume", "hostPath": { "path": "/etc", "type": "File" } }))).await?;
        ns.apply::<Pod>(pod("no-program", json!({ "name": "main", "image": BUSYBOX, "command": ["/no/such/program"] }), "Always")).await?;

        ns.apply::<Pod>(pod("good", container(BUSYBOX), "Always")).await?;
        let start = Instant::now();
        ns.ready("good").await?;
        assert!(start.elapsed() < Duration::from_secs(30), "a good pod waited {:?} for the broken ones", start.elapsed());

        ns.wait_for("no-registry", |pod: &Pod| waits_for(pod, &["ErrImagePull", "ImagePullBackOff"], "registry.invalid/nothing:1")).await?;
        ns.event("no-registry", "Failed", &["registry.invalid/nothing:1"]).await?;
        ns.wait_for("bad-reference", |pod: &Pod| waits_for(pod, &["InvalidImageName"], "Not_A:::reference")).await?;
        ns.event("bad-reference", "InspectFailed", &["Not_A:::reference"]).await?;
        ns.wait_for("never-pulled", |pod: &Pod| waits_for(pod, &["ErrImageNeverPull"], "kubelet-rs.io/not-there:1")).await?;
        ns.event("never-pulled", "ErrImageNeverPull", &["kubelet-rs.io/not-there:1"]).await?;
        ns.wait_for("no-config", |pod: &Pod| waits_for(pod, &["CreateContainerConfigError"], "missing-map")).await?;
        ns.event("no-config", "Failed", &["missing-map"]).await?;
        ns.wait_for("no-map", |pod: &Pod| waits_for(pod, &["ContainerCreating"], "")).await?;
        ns.event("no-map", "FailedMount", &["missing-map"]).await?;
        ns.event("no-secret", "FailedMount", &["missing-secret"]).await?;
        ns.event("wrong-type", "FailedMount", &["/etc"]).await?;
        ns.wait_for("no-program", |pod: &Pod| waits_for(pod, &["RunContainerError", "CrashLoopBackOff"], "")).await?;
        ns.event("no-program", "Failed", &["/no/such/program"]).await
    });
}

#[test]
fn what_was_missing_is_found_when_it_comes() {
    LAB.run("repaired", async |_, ns| {
        ns.apply::<Pod>(with_volume("waiting", json!({ "name": "volume", "configMap": { "name": "late" } }))).await?;
        ns.event("waiting", "FailedMount", &["late"]).await?;
        ns.apply::<k8s_openapi::api::core::v1::ConfigMap>(json!({ "metadata": { "name": "late" }, "data": { "key": "value" } })).await?;
        ns.ready("waiting").await.map(drop)
    });
}

#[test]
fn a_broken_pod_can_be_deleted() {
    LAB.run("broken-deleted", async |_, ns| {
        ns.apply::<Pod>(pod("no-registry", container("registry.invalid/nothing:1"), "Always")).await?;
        ns.apply::<Pod>(with_volume("no-map", json!({ "name": "volume", "configMap": { "name": "missing-map" } }))).await?;
        ns.event("no-map", "FailedMount", &[]).await?;
        ns.event("no-registry", "Failed", &[]).await?;
        ns.delete_pod("no-registry").await?;
        ns.delete_pod("no-map").await
    });
}
