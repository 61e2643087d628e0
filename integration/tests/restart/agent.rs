//! The agent killed with -9, at rest and in the middle of its work.

use std::collections::BTreeSet;
use std::time::Duration;

use integration::error::Doing as _;
use integration::fixture::{Namespace, answers, served};
use integration::lab::PATIENCE;
use integration::objects::{deployment, pod, whoami_container};
use integration::traffic::Traffic;
use integration::{Error, Lab, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams};
use tokio::time::sleep;

use crate::{LAB, agent_is_back, containers, in_containerd};

/// The agent compares everything with the runtime every minute, in case a hint was lost: longer than that, and the work that follows.
const WITH_ITS_SAFETY_NET: Duration = Duration::from_secs(150);

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
        ns.pods_within(WITH_ITS_SAFETY_NET, "app=web", 4).await?;
        let mut helped = false;
        let look = async || {
            let (known, live) = known_and_live(lab, &ns).map_err(|error| error.to_string())?;
            let restarted = restarted(&ns).await.map_err(|error| error.to_string())?;
            if live == 8 && (8..=8 + restarted).contains(&known) {
                return Ok(());
            }
            if !helped && containerd_is_stuck(lab) {
                helped = true;
                lab.node(0).kill_containerd().await.map_err(|error| error.to_string())?;
                lab.node(0).start_containerd().await.map_err(|error| error.to_string())?;
            }
            Err(format!("{known} sandboxes and containers, {live} of them alive, for 4 pods, {restarted} of them restarted"))
        };
        lab.wait_for("one sandbox and one container for each pod", WITH_ITS_SAFETY_NET, look).await?;
        let look = async || {
            let (folders, pods) =
                (pod_folders(lab).map_err(|error| error.to_string())?, uids(lab).await.map_err(|error| error.to_string())?);
            if folders == pods { Ok(()) } else { Err(format!("folders of {folders:?}, pods {pods:?}")) }
        };
        lab.wait_for("one folder for each pod", WITH_ITS_SAFETY_NET, look).await
    });
}

/// How many sandboxes and containers of the namespace containerd has, and how many of them live.
fn known_and_live(lab: &Lab, ns: &Namespace<'_>) -> Result<(usize, usize)> {
    let (known, tasks) = (in_containerd(lab, ns)?, lab.node(0).tasks(lab.tools())?);
    Ok((known.len(), known.iter().filter(|id| tasks.contains(id)).count()))
}

/// How many pods have a container that was started more than once, because its first start died with the agent that asked for it: the ended
/// one stays for `kubectl logs --previous`.
async fn restarted(ns: &Namespace<'_>) -> Result<usize> {
    let pods = ns.api::<Pod>().list(&ListParams::default()).await.doing(|| "listing the pods")?;
    let restarts =
        |pod: &Pod| pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten()).any(|status| status.restart_count > 0);
    Ok(pods.items.iter().filter(|pod| restarts(pod)).count())
}

/// containerd 2.4 may lose hold of a container whose start is cut off because its client dies: it calls it exited, stops nothing, and refuses
/// to delete "a running task" whoever asks for it, until it is started again. No agent can help that through the CRI.
fn containerd_is_stuck(lab: &Lab) -> bool {
    let log = std::fs::read_to_string(lab.logs().join("node-1-containerd.log")).unwrap_or_default();
    log.contains("failed to get task pid: context canceled") && log.contains("cannot delete running task")
}

/// The pods that have a folder on the node.
fn pod_folders(lab: &Lab) -> Result<BTreeSet<String>> {
    let path = lab.node(0).folder().join("var-lib/kubelet/pods");
    let entries = std::fs::read_dir(&path).doing(|| format!("reading {}", path.display()))?;
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// UIDs of all pods that the API server has, those of other tests that are on their way out among them.
async fn uids(lab: &Lab) -> Result<BTreeSet<String>> {
    let pods = Api::<Pod>::all(lab.client()).list(&ListParams::default()).await.doing(|| "listing all pods")?;
    Ok(pods.items.into_iter().filter_map(|pod| pod.metadata.uid).collect())
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
