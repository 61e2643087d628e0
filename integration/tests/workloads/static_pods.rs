//! Pods from manifests on the node, as the API server shows them.

use std::path::PathBuf;

use integration::error::Doing as _;
use integration::lab::PATIENCE;
use integration::objects::BUSYBOX;
use integration::{Error, Result};
use k8s_openapi::api::core::v1::Pod;

use crate::LAB;

/// A manifest, gone with the test.
struct Manifest(PathBuf);

impl Drop for Manifest {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Manifest {
    /// As editors save: beside, then renamed.
    fn write(&self, namespace: &str, word: &str) -> Result<()> {
        let text = format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: own, namespace: {namespace}}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{{name: main, image: '{BUSYBOX}', command: [sh, -c, 'echo {word}; sleep 1000']}}]
"
        );
        let beside = self.0.with_file_name(".own.yaml.swp");
        std::fs::write(&beside, text).doing(|| "writing a manifest")?;
        std::fs::rename(&beside, &self.0).doing(|| "renaming a manifest")
    }
}

#[test]
fn a_manifest_is_a_pod_that_the_api_server_shows_and_can_not_end() {
    LAB.run("static", async |lab, ns| {
        let node = lab.node(0);
        let manifest = Manifest(node.manifests().join("own.yaml"));
        let name = format!("own-{}", node.name());
        let says = async |word: &str| {
            let logs = async || match ns.kubectl(&["logs", &name]).await.map_err(|error| error.to_string())? {
                logs if logs.contains(word) => Ok(()),
                other => Err(other),
            };
            lab.wait_for(&format!("the pod to say {word}"), PATIENCE, logs).await
        };
        manifest.write(ns.name(), "first")?;
        let uid = ns.ready(&name).await?.metadata.uid;
        says("first").await?;
        ns.kubectl(&["delete", "pod", &name, "--wait=false"]).await?;
        let another = |pod: &Pod| if pod.metadata.uid == uid { Err("still the old mirror".to_owned()) } else { Ok(()) };
        ns.wait_for(&name, another).await?;
        let back = ns.ready(&name).await?;
        let restarts = back.status.iter().flat_map(|s| s.container_statuses.iter().flatten()).map(|c| c.restart_count).sum::<i32>();
        assert_eq!(restarts, 0, "nothing was restarted");
        manifest.write(ns.name(), "second")?;
        says("second").await?;
        drop(manifest);
        let gone = async || match ns.kubectl(&["get", "pod", &name]).await {
            Ok(there) => Err(there),
            Err(Error::Program { output, .. }) if output.contains("NotFound") => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        lab.wait_for("the mirror to go with the manifest", PATIENCE, gone).await
    });
}
