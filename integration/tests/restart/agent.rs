//! The agent killed with -9, at rest and in the middle of its work.

use std::time::Duration;

use integration::Error;
use integration::lab::PATIENCE;
use integration::objects::{deployment, pod, whoami_container};
use integration::traffic::Traffic;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use tokio::time::sleep;

use crate::{LAB, agent_is_back, answers, containers, in_containerd, served};

#[test]
fn a_killed_agent_adopts_what_runs() {
    LAB.run("adopted", async |lab, ns| {
        let address = served(lab, &ns).await?;
        let (before, known) = (containers(&ns).await?, in_containerd(lab, &ns)?);
        assert_eq!(known.len(), 4, "two sandboxes and two containers");
        let traffic = Traffic::start(&lab.node(0).place().connector(), address);
        sleep(Duration::from_millis(500)).await;
        lab.node(0).kill_agent().await?;
        sleep(Duration::from_secs(1)).await;
        lab.node(0).start_agent().await?;
        lab.nodes_ready().await?;
        agent_is_back(lab, "after-adopted").await?;
        traffic.stop().await?;
        assert_eq!(containers(&ns).await?, before, "a container was restarted or forgotten");
        assert_eq!(in_containerd(lab, &ns)?, known, "a sandbox or container was added or lost");
        Ok(())
    });
}

#[test]
fn killed_in_the_middle_of_its_work_it_doubles_nothing() {
    LAB.run("in-the-middle", async |lab, ns| {
        ns.apply::<Deployment>(deployment("web", 1)).await?;
        for (replicas, pause) in [(3, 60), (6, 150), (2, 240), (5, 330), (0, 420), (4, 510)] {
            ns.kubectl(&["scale", "deployment/web", &format!("--replicas={replicas}")]).await?;
            sleep(Duration::from_millis(pause)).await;
            lab.node(0).kill_agent().await?;
            lab.node(0).start_agent().await?;
        }
        ns.pods("app=web", 4).await?;
        let look = async || match in_containerd(lab, &ns).map_err(|error| error.to_string())? {
            ids if ids.len() == 8 => Ok(()),
            ids => Err(format!("{} sandboxes and containers for 4 pods", ids.len())),
        };
        lab.wait_for("one sandbox and one container for each pod", PATIENCE, look).await
    });
}

#[test]
fn what_happened_while_it_was_away_is_caught_up_with() {
    LAB.run("caught-up", async |lab, ns| {
        let address = served(lab, &ns).await?;
        ns.apply::<Pod>(pod("doomed", whoami_container(), "Always")).await?;
        ns.ready("doomed").await?;
        lab.node(0).kill_agent().await?;
        ns.api::<Pod>().delete("doomed", &DeleteParams::default()).await.map_err(|error| Error::Other(error.to_string()))?;
        ns.apply::<Pod>(pod("newcomer", whoami_container(), "Always")).await?;
        ns.kubectl(&["rollout", "restart", "deployment/web"]).await?;
        sleep(Duration::from_millis(500)).await;
        lab.node(0).start_agent().await?;
        ns.ready("newcomer").await?;
        ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).await?;
        let look = async || match ns.api::<Pod>().get_opt("doomed").await {
            Ok(None) => Ok(()),
            other => Err(format!("{:?}", other.map(|pod| pod.as_ref().map(integration::fixture::describe)))),
        };
        lab.wait_for("the deleted pod to be gone", PATIENCE, look).await?;
        ns.pods("app=web", 2).await?;
        answers(lab, address).await.map(drop)
    });
}
