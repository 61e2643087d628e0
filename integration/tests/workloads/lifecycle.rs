//! Ends, restarts and deletions.

use std::time::Duration;

use integration::fixture::{container_statuses, describe};
use integration::lab::PATIENCE;
use integration::objects::{BUSYBOX, pod, script};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tokio::time::Instant;

use crate::LAB;

#[test]
fn the_exit_code_decides_the_phase() {
    LAB.run("phases", async |_, ns| {
        ns.apply::<Pod>(script("good", "exit 0")).await?;
        ns.apply::<Pod>(script("bad", "exit 5")).await?;
        assert_eq!(ns.ended("good").await?, "Succeeded");
        assert_eq!(ns.ended("bad").await?, "Failed");
        ns.wait_for("bad", |pod: &Pod| {
            let ended = container_statuses(pod).find_map(|status| status.state.clone()?.terminated);
            match ended {
                Some(ended) if ended.exit_code == 5 && ended.reason.as_deref() == Some("Error") => Ok(()),
                _ => Err(describe(pod)),
            }
        })
        .await
    });
}

#[test]
fn on_failure_restarts_until_it_succeeds() {
    LAB.run("on-failure", async |_, ns| {
        let mut manifest = pod(
            "second-time-lucky",
            json!({ "name": "main", "image": BUSYBOX, "command": ["sh", "-c", "test -e /keep/been-here || { touch /keep/been-here; exit 1; }"],
                    "volumeMounts": [{ "name": "keep", "mountPath": "/keep" }] }),
            "OnFailure",
        );
        manifest["spec"]["volumes"] = json!([{ "name": "keep", "emptyDir": {} }]);
        ns.apply::<Pod>(manifest).await?;
        assert_eq!(ns.ended("second-time-lucky").await?, "Succeeded");
        let restarts = ns.wait_for("second-time-lucky", |pod: &Pod| Ok(container_statuses(pod).map(|status| status.restart_count).sum::<i32>())).await?;
        assert_eq!(restarts, 1);
        Ok(())
    });
}

#[test]
fn a_container_that_crashes_again_and_again_backs_off() {
    LAB.run("crash-loop", async |_, ns| {
        ns.apply::<Pod>(pod("loop", json!({ "name": "main", "image": BUSYBOX, "command": ["sh", "-c", "echo run; exit 3"] }), "Always"))
            .await?;
        ns.wait_for("loop", |pod: &Pod| {
            let Some(status) = container_statuses(pod).next() else { return Err(describe(pod)) };
            let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref()).and_then(|waiting| waiting.reason.as_deref());
            let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref()).map(|ended| ended.exit_code);
            let good = waiting == Some("CrashLoopBackOff") && last == Some(3) && status.restart_count >= 1;
            if good { Ok(()) } else { Err(describe(pod)) }
        })
        .await?;
        ns.event("loop", "BackOff", &["restarting failed container"]).await?;
        assert_eq!(ns.kubectl(&["logs", "--previous", "loop"]).await?.trim(), "run");
        Ok(())
    });
}

#[test]
fn deletion_gives_the_time_that_was_promised() {
    LAB.run("deletion", async |lab, ns| {
        let container = |command: &str| json!({ "name": "main", "image": BUSYBOX, "command": ["sh", "-c", command] });
        let mut stubborn = pod("stubborn", container("trap '' TERM; echo up; while true; do sleep 1; done"), "Always");
        stubborn["spec"]["terminationGracePeriodSeconds"] = json!(3);
        let mut polite = pod("polite", container("trap 'exit 0' TERM; echo up; while true; do sleep 0.1; done"), "Always");
        polite["spec"]["terminationGracePeriodSeconds"] = json!(60);
        ns.apply::<Pod>(stubborn).await?;
        ns.apply::<Pod>(polite).await?;
        // Half of what the polite one is given: it was not waited for to the end. The stubborn one is gone within any patience.
        for (name, least, most) in [("polite", 0, 30), ("stubborn", 3, PATIENCE.as_secs())] {
            ns.ready(name).await?;
            // A pod without probes is ready when its process runs; the shell may not have come to its trap yet.
            let up = async || match ns.kubectl(&["logs", name]).await.map_err(|error| error.to_string())? {
                log if log.contains("up") => Ok(()),
                log => Err(log),
            };
            lab.wait_for(&format!("{name} to be up"), PATIENCE, up).await?;
            let start = Instant::now();
            ns.delete_pod(name).await?;
            let took = start.elapsed();
            assert!(took >= Duration::from_secs(least) && took <= Duration::from_secs(most), "{name} took {took:?}");
        }
        Ok(())
    });
}

#[test]
fn a_container_that_ends_is_started_again() {
    LAB.run("restart", async |_, ns| {
        ns.apply::<Pod>(pod("web", integration::objects::whoami_container(), "Always")).await?;
        let before = ns.ready("web").await?;
        let id = container_statuses(&before).next().and_then(|status| status.container_id.clone());
        // The answer is lost with the process.
        let _ = ns.kubectl(&["exec", "web", "--", "/whoami", "get", "http://127.0.0.1:8080/exit?code=0"]).await;
        ns.wait_for("web", |pod: &Pod| {
            let again =
                container_statuses(pod).next().is_some_and(|status| status.restart_count == 1 && status.ready && status.container_id != id);
            let ended = container_statuses(pod).next().and_then(|status| status.last_state.clone()?.terminated);
            let told = ended.as_ref().is_some_and(|ended| ended.exit_code == 0 && ended.reason.as_deref() == Some("Completed"));
            let same_address = pod.status.as_ref().map(|status| &status.pod_ip) == before.status.as_ref().map(|status| &status.pod_ip);
            if again && told && same_address { Ok(()) } else { Err(describe(pod)) }
        })
        .await
    });
}
