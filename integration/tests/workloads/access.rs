//! `kubectl logs` and `kubectl exec`, through the API server.

use integration::Error;
use integration::lab::PATIENCE;
use integration::objects::{BUSYBOX, pod, script};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::LAB;

#[test]
fn logs_are_read_whole_in_part_and_as_they_grow() {
    LAB.run("logs", async |lab, ns| {
        ns.apply::<Pod>(script("counter", "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.3; done; sleep 1; echo last words >&2")).await?;
        // Of a pod that is on no node yet, the API server gives an empty log, and no error.
        ns.wait_for("counter", |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).ok_or("on no node".into())).await?;
        let follow = async || ns.kubectl(&["logs", "-f", "counter"]).await.map_err(|error| error.to_string());
        let followed = lab.wait_for("the log to be followed to its end", PATIENCE, follow).await?;
        let whole = "line 1\nline 2\nline 3\nline 4\nline 5\nline 6\nlast words\n";
        assert_eq!(followed, whole);
        assert_eq!(ns.ended("counter").await?, "Succeeded");
        assert_eq!(ns.kubectl(&["logs", "counter"]).await?, whole);
        assert_eq!(ns.kubectl(&["logs", "counter", "--tail=2"]).await?, "line 6\nlast words\n");
        assert_eq!(ns.kubectl(&["logs", "counter", "--limit-bytes=6"]).await?, "line 1");
        let stamped = ns.kubectl(&["logs", "counter", "--timestamps", "--tail=1"]).await?;
        let (time, line) = stamped.split_once(' ').unwrap_or_default();
        assert!(time.contains('T') && time.len() >= 20 && line == "last words\n", "{stamped}");
        Ok(())
    });
}

#[test]
fn exec_runs_with_streams_and_gives_the_exit_code() {
    LAB.run("exec", async |_, ns| {
        ns.apply::<Pod>(pod("box", json!({ "name": "main", "image": BUSYBOX, "command": ["sleep", "1000"] }), "Always")).await?;
        ns.ready("box").await?;
        assert_eq!(ns.kubectl(&["exec", "box", "--", "sh", "-c", "echo $HOSTNAME"]).await?, "box\n");
        assert_eq!(ns.kubectl_with_input(&["exec", "-i", "box", "--", "tr", "a-z", "A-Z"], "some words\n").await?, "SOME WORDS\n");
        match ns.kubectl(&["exec", "box", "--", "sh", "-c", "echo complaint >&2; exit 7"]).await {
            Err(Error::Program { status, output, .. }) => {
                assert!(status.code() == Some(7) && output.contains("complaint"), "{status}: {output}")
            }
            other => panic!("{other:?}"),
        }
        match ns.kubectl(&["exec", "box", "--", "no-such-program"]).await {
            Err(Error::Program { output, .. }) => assert!(output.contains("no-such-program"), "{output}"),
            other => panic!("{other:?}"),
        }
        match ns.kubectl(&["exec", "box", "-c", "no-such-container", "--", "true"]).await {
            Err(Error::Program { output, .. }) => assert!(output.contains("no-such-container"), "{output}"),
            other => panic!("{other:?}"),
        }
        Ok(())
    });
}

#[test]
fn exec_gives_a_terminal() {
    LAB.run("terminal", async |lab, ns| {
        ns.apply::<Pod>(pod("box", json!({ "name": "main", "image": BUSYBOX, "command": ["sleep", "1000"] }), "Always")).await?;
        ns.ready("box").await?;
        // kubectl asks for a terminal only where it has one itself: script(1) gives it one.
        let kubectl = lab.folder().join("kubectl");
        let command = format!("{} -n terminal exec -it box -- sh -c 'tty; exit 4'", kubectl.display());
        let output = tokio::process::Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, output).await.map_err(|_| Error::Other("exec -it did not end".into()))?;
        let output = output.map_err(|error| Error::Other(error.to_string()))?;
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(shown.contains("/dev/pts/0"), "{shown}");
        assert_eq!(output.status.code(), Some(4), "{shown}");
        Ok(())
    });
}
