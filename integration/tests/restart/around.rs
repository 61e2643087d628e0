//! What is around the agent goes away and comes back: containerd, the API server.

use std::time::Duration;

use integration::Agent;
use integration::fixture::served;
use integration::fixture::{ANSWER, container_statuses, describe};
use integration::lab::PATIENCE;
use integration::objects::{pod, whoami_container};
use integration::traffic::Traffic;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::sleep;

use crate::{LAB, agent_is_back, containers, in_containerd};

#[test]
fn containerd_restarts_under_it() {
    LAB.run("containerd", async |lab, ns| {
        let address = served(lab, &ns).await?;
        let (before, known) = (containers(&ns).await?, in_containerd(lab, &ns)?);
        let traffic = Traffic::start(&lab.node(0).place().connector(), address);
        lab.node(0).kill_containerd().await?;
        sleep(Duration::from_secs(2)).await;
        lab.node(0).start_containerd().await?;
        agent_is_back(lab, "after-containerd").await?;
        lab.nodes_ready().await?;
        traffic.stop().await?;
        assert_eq!(containers(&ns).await?, before, "a container was restarted or forgotten");
        assert_eq!(in_containerd(lab, &ns)?, known, "a sandbox or container was added or lost");
        Ok(())
    });
}

#[test]
fn without_an_api_server_pods_run_on_and_are_restarted() {
    LAB.run("api-server", async |lab, ns| {
        let address = served(lab, &ns).await?;
        ns.apply::<Pod>(pod("crasher", whoami_container(), "Always")).await?;
        let crasher = ns.ready("crasher").await?;
        let own = crasher
            .status
            .and_then(|status| status.pod_ip)
            .and_then(|address| address.parse().ok())
            .unwrap_or(std::net::IpAddr::from([0, 0, 0, 0]));
        let before = containers(&ns).await?;
        let connector = lab.node(0).place().connector();
        let traffic = Traffic::start(&connector, address);
        lab.kill_api_server().await?;
        // The answer is lost with the process.
        let _ = connector.http((own, 8080).into(), "/exit?code=3", ANSWER).await;
        let ask = async || connector.http((own, 8080).into(), "/", Duration::from_millis(500)).await.map_err(|error| error.to_string());
        lab.wait_for("the crashed container to be back", PATIENCE, ask).await?;
        lab.start_api_server().await?;
        ns.wait_for("crasher", |pod: &Pod| {
            let told = container_statuses(pod).any(|status| status.restart_count == 1 && status.ready);
            if told { Ok(()) } else { Err(describe(pod)) }
        })
        .await?;
        agent_is_back(lab, "after-api-server").await?;
        traffic.stop().await?;
        let mut after = containers(&ns).await?;
        let crashed = after.remove("crasher");
        assert!(crashed.is_some(), "the crashed pod is gone");
        assert!(after.iter().all(|(pod, ids)| before.get(pod) == Some(ids)), "{before:?} {after:?}");
        Ok(())
    });
}

#[test]
fn started_without_an_api_server_it_leaves_pods_alone() {
    LAB.run("started-alone", async |lab, ns| {
        let address = served(lab, &ns).await?;
        let (before, known) = (containers(&ns).await?, in_containerd(lab, &ns)?);
        let traffic = Traffic::start(&lab.node(0).place().connector(), address);
        lab.node(0).kill_agent().await?;
        lab.kill_api_server().await?;
        lab.node(0).start_agent().await?;
        sleep(Duration::from_secs(3)).await;
        assert_eq!(in_containerd(lab, &ns)?, known, "touched before it knew what should run");
        lab.start_api_server().await?;
        agent_is_back(lab, "after-started-alone").await?;
        lab.nodes_ready().await?;
        traffic.stop().await?;
        assert_eq!(containers(&ns).await?, before, "a container was restarted or forgotten");
        assert_eq!(in_containerd(lab, &ns)?, known, "a sandbox or container was added or lost");
        Ok(())
    });
}

/// A node can be switched from kubelet to kubelet-rs and back: neither touches what the other has started.
#[test]
fn upstream_takes_over_and_gives_back() {
    LAB.run("takeover", async |lab, ns| {
        let address = served(lab, &ns).await?;
        let (before, known) = (containers(&ns).await?, in_containerd(lab, &ns)?);
        let traffic = Traffic::start(&lab.node(0).place().connector(), address);
        for (name, agent) in [("after-there", &Agent::Upstream), ("after-back", lab.agent())] {
            lab.node(0).stop_agent().await?;
            lab.node(0).use_agent(agent, lab.tools())?;
            lab.node(0).start_agent().await?;
            agent_is_back(lab, name).await?;
        }
        traffic.stop().await?;
        assert_eq!(containers(&ns).await?, before, "a container was restarted or forgotten");
        assert_eq!(in_containerd(lab, &ns)?, known, "a sandbox or container was added or lost");
        Ok(())
    });
}
