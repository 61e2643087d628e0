//! Deployments, and what a pod looks like from outside and from inside.

use integration::fixture::{container_statuses, describe};
use integration::lab::PATIENCE;
use integration::objects::{BUSYBOX, add_container, deployment, pod, script};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::LAB;

fn names(pods: &[Pod]) -> Vec<String> {
    pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect()
}

#[test]
fn a_deployment_scales_and_rolls() {
    LAB.run("deployment", async |_, ns| {
        ns.apply::<Deployment>(deployment("web", 2)).await?;
        let first = names(&ns.pods("app=web", 2).await?);
        ns.kubectl(&["scale", "deployment/web", "--replicas=4"]).await?;
        let four = names(&ns.pods("app=web", 4).await?);
        assert!(first.iter().all(|name| four.contains(name)), "scaling up replaced pods: {first:?} {four:?}");
        ns.kubectl(&["rollout", "restart", "deployment/web"]).await?;
        ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).await?;
        let rolled = names(&ns.pods("app=web", 4).await?);
        assert!(four.iter().all(|name| !rolled.contains(name)), "a pod outlived the rollout: {four:?} {rolled:?}");
        ns.kubectl(&["scale", "deployment/web", "--replicas=0"]).await?;
        ns.pods("app=web", 0).await.map(drop)
    });
}

#[test]
fn a_pod_tells_what_it_is() {
    LAB.run("status", async |lab, ns| {
        let mut manifest = pod("burst", json!({ "name": "main", "image": BUSYBOX, "command": ["sleep", "1000"] }), "Always");
        manifest["spec"]["containers"][0]["resources"] = json!({ "requests": { "cpu": "10m" }, "limits": { "memory": "64Mi" } });
        ns.apply::<Pod>(manifest).await?;
        let pod = ns.ready("burst").await?;
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let status = pod.status.clone().unwrap_or_default();
        assert_eq!(status.phase.as_deref(), Some("Running"));
        assert_eq!(status.qos_class.as_deref(), Some("Burstable"));
        assert_eq!(status.host_ip.as_deref(), Some("172.30.0.11"));
        assert!(status.pod_ip.as_deref().is_some_and(|address| address.starts_with("10.244.1.")), "{:?}", status.pod_ip);
        let addresses: Vec<String> = status.pod_ips.unwrap_or_default().into_iter().map(|address| address.ip).collect();
        assert!(addresses.len() == 2 && addresses[1].starts_with("fd00:244:1::"), "{addresses:?}");
        assert!(status.start_time.is_some());
        for kind in ["PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"] {
            let condition = status.conditions.iter().flatten().find(|condition| condition.type_ == kind);
            assert!(condition.is_some_and(|condition| condition.status == "True"), "{kind}: {condition:?}");
        }
        let container = container_statuses(&pod).next().cloned().unwrap_or_default();
        assert!(container.container_id.as_deref().is_some_and(|id| id.starts_with("containerd://")), "{container:?}");
        assert!(container.ready && container.started == Some(true) && container.restart_count == 0, "{container:?}");
        assert!(container.image_id.contains("sha256:") && container.image == BUSYBOX, "{container:?}");

        // From outside: in its own cgroup namespace a container sees itself at the root.
        let group = format!("/kubepods/burstable/pod{uid}");
        let look = async || match lab.node(0).processes_in(&group) {
            count if count >= 2 => Ok(()),
            count => Err(format!("{count} processes")),
        };
        lab.wait_for(&format!("the sandbox and the container in {group}"), PATIENCE, look).await?;
        for reason in ["Pulled", "Created", "Started"] {
            ns.event("burst", reason, &[]).await?;
        }
        let described = ns.kubectl(&["describe", "pod", "burst"]).await?;
        assert!(described.contains("Started") && described.contains("node-1/172.30.0.11"), "{described}");
        Ok(())
    });
}

#[test]
fn environment_and_arguments_are_expanded() {
    LAB.run("environment", async |_, ns| {
        let container = json!({
            "name": "main", "image": BUSYBOX,
            "command": ["sh", "-c"],
            "args": ["echo '$(GREETING), $(WHOLE), $$(GREETING), $(UNKNOWN),' $0 $1; echo $MY_NAME $MY_IP $MY_NODE $MY_MEMORY", "$(GREETING)", "last"],
            "resources": { "limits": { "memory": "32Mi" } },
            "env": [
                { "name": "GREETING", "value": "hello" },
                { "name": "WHOLE", "value": "$(GREETING) world" },
                { "name": "MY_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                { "name": "MY_IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
                { "name": "MY_NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } },
                { "name": "MY_MEMORY", "valueFrom": { "resourceFieldRef": { "resource": "limits.memory" } } },
            ],
        });
        ns.apply::<Pod>(pod("env", container, "Never")).await?;
        assert_eq!(ns.ended("env").await?, "Succeeded");
        let log = ns.kubectl(&["logs", "env"]).await?;
        // What is doubled is left alone, and so is what nobody defined.
        assert!(log.starts_with("hello, hello world, $(GREETING), $(UNKNOWN), hello last\n"), "{log}");
        assert!(log.contains("env 10.244.1.") && log.contains(" node-1 33554432"), "{log}");
        Ok(())
    });
}

#[test]
fn services_that_were_there_first_are_in_the_environment() {
    LAB.run("service-env", async |_, ns| {
        ns.apply::<Pod>(script("env", "echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT")).await?;
        assert_eq!(ns.ended("env").await?, "Succeeded");
        assert_eq!(ns.kubectl(&["logs", "env"]).await?.trim(), "10.96.0.1:443");
        Ok(())
    });
}

#[test]
fn containers_of_a_pod_share_network_and_names() {
    LAB.run("shared", async |lab, ns| {
        let mut manifest = pod(
            "two",
            json!({ "name": "web", "image": BUSYBOX, "command": ["sh", "-c", "hostname > /tmp/index.html; httpd -f -p 8080 -h /tmp"] }),
            "Always",
        );
        let asker = json!({ "name": "asker", "image": BUSYBOX, "command": ["sleep", "1000"] });
        add_container(&mut manifest, asker);
        ns.apply::<Pod>(manifest).await?;
        ns.ready("two").await?;
        let ask = async || {
            ns.kubectl(&["exec", "two", "-c", "asker", "--", "wget", "-qO-", "http://localhost:8080/"])
                .await
                .map_err(|error| error.to_string())
        };
        let answer = lab.wait_for("an answer on the shared loopback", PATIENCE, ask).await?;
        assert_eq!(answer.trim(), "two", "the host name is the pod's");
        let hosts = ns.kubectl(&["exec", "two", "-c", "asker", "--", "cat", "/etc/hosts", "/etc/resolv.conf"]).await?;
        assert!(hosts.lines().any(|line| line.starts_with("10.244.1.") && line.ends_with("two")), "{hosts}");
        assert!(hosts.contains("nameserver 10.96.0.10") && hosts.contains("shared.svc.cluster.local"), "{hosts}");
        Ok(())
    });
}

#[test]
fn a_pod_without_an_api_object_any_more_is_removed() {
    LAB.run("forced", async |lab, ns| {
        ns.apply::<Pod>(pod("gone", json!({ "name": "main", "image": BUSYBOX, "command": ["sleep", "1000"] }), "Always")).await?;
        let pod = ns.ready("gone").await?;
        let id = container_statuses(&pod).next().and_then(|status| status.container_id.clone()).unwrap_or_default();
        let id = id.trim_start_matches("containerd://").to_owned();
        ns.kubectl(&["delete", "pod", "gone", "--force", "--grace-period=0"]).await?;
        let look = async || {
            let left = lab.node(0).containers(lab.tools(), "").map_err(|error| error.to_string())?;
            if left.contains(&id) { Err(format!("{id} of {} is still there", describe(&pod))) } else { Ok(()) }
        };
        lab.wait_for("its container to be gone", PATIENCE, look).await
    });
}
