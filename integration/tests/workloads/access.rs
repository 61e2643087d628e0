//! `kubectl logs`, `exec`, `attach` and `port-forward`, through the API server.

use std::process::Stdio;

use integration::error::Doing as _;
use integration::fixture::{container_statuses, describe};
use integration::lab::PATIENCE;
use integration::objects::{BUSYBOX, pod, script};
use integration::{Error, Lab};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

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
fn logs_begin_where_they_are_asked_to() {
    LAB.run("logs-since", async |lab, ns| {
        ns.apply::<Pod>(script("two-times", "echo early; sleep 4; echo late")).await?;
        assert_eq!(ns.ended("two-times").await?, "Succeeded");
        let stamped = ns.kubectl(&["logs", "two-times", "--timestamps"]).await?;
        let stamp_of = |line: &str| stamped.lines().find_map(|stamped| stamped.strip_suffix(line)).unwrap_or_default().trim().to_owned();
        // The API server cuts the time to seconds.
        assert_eq!(ns.kubectl(&["logs", "two-times", &format!("--since-time={}", stamp_of("late"))]).await?, "late\n", "{stamped}");
        assert_eq!(ns.kubectl(&["logs", "two-times", &format!("--since-time={}", stamp_of("early"))]).await?, "early\nlate\n", "{stamped}");
        assert_eq!(ns.kubectl(&["logs", "two-times", "--since=1h"]).await?, "early\nlate\n");
        let nothing = async || match ns.kubectl(&["logs", "two-times", "--since=1s"]).await.map_err(|error| error.to_string())? {
            log if log.is_empty() => Ok(()),
            log => Err(log),
        };
        lab.wait_for("a second without a line", PATIENCE, nothing).await
    });
}

#[test]
fn the_log_of_an_earlier_life_is_kept() {
    LAB.run("logs-previous", async |lab, ns| {
        let lives = "echo x >> /keep/lives; n=$(wc -l < /keep/lives); echo life $n; [ $n -gt 1 ] || exit 3; sleep 1000";
        let container = json!({ "name": "main", "image": BUSYBOX, "command": ["sh", "-c", lives],
            "volumeMounts": [{ "name": "keep", "mountPath": "/keep" }] });
        let mut manifest = pod("cat", container, "Always");
        manifest["spec"]["volumes"] = json!([{ "name": "keep", "emptyDir": {} }]);
        ns.apply::<Pod>(manifest).await?;
        ns.wait_for("cat", |pod: &Pod| {
            let again = container_statuses(pod).any(|status| status.restart_count == 1 && status.ready);
            if again { Ok(()) } else { Err(describe(pod)) }
        })
        .await?;
        let now = async || match ns.kubectl(&["logs", "cat"]).await.map_err(|error| error.to_string())? {
            log if log == "life 2\n" => Ok(()),
            log => Err(log),
        };
        lab.wait_for("the log of the second life", PATIENCE, now).await?;
        assert_eq!(ns.kubectl(&["logs", "--previous", "cat"]).await?, "life 1\n");

        ns.apply::<Pod>(sleeper("box")).await?;
        ns.ready("box").await?;
        match ns.kubectl(&["logs", "--previous", "box"]).await {
            Err(Error::Program { output, .. }) => assert!(output.contains("previous") && output.contains("not found"), "{output}"),
            other => panic!("{other:?}"),
        }
        Ok(())
    });
}

fn sleeper(name: &str) -> Value {
    pod(name, json!({ "name": "main", "image": BUSYBOX, "command": ["sleep", "1000"] }), "Always")
}

#[test]
fn exec_carries_a_megabyte_each_way() {
    LAB.run("exec-large", async |_, ns| {
        ns.apply::<Pod>(sleeper("box")).await?;
        ns.ready("box").await?;
        // Numbered, so that nothing can change places.
        let much: String = (0..150_000).map(|number| format!("{number:06}\n")).collect();
        let counted = ns.kubectl_with_input(&["exec", "-i", "box", "--", "wc", "-c"], &much).await?;
        assert_eq!(counted.trim(), much.len().to_string());
        let back = ns.kubectl_with_input(&["exec", "-i", "box", "--", "cat"], &much).await?;
        let differs = back.bytes().zip(much.bytes()).position(|(one, other)| one != other);
        assert!(back == much, "{} bytes came back of {}, the first difference is at {differs:?}", back.len(), much.len());
        Ok(())
    });
}

#[test]
fn a_client_that_leaves_exec_in_the_middle_leaves_nothing_open() {
    LAB.run("exec-left", async |lab, ns| {
        ns.apply::<Pod>(sleeper("box")).await?;
        ns.ready("box").await?;
        let before = open_files(lab).await?;
        for _ in 0..20 {
            let mut client =
                kubectl(lab, &["-n", ns.name(), "exec", "box", "--", "sh", "-c", "for i in $(seq 50); do echo $i; sleep 0.1; done"]);
            let mut client = client.spawn().doing(|| "starting kubectl")?;
            assert_eq!(first_line(&mut client).await?, "1");
            client.kill().await.doing(|| "ending kubectl")?;
        }
        assert_eq!(ns.kubectl(&["exec", "box", "--", "echo", "alive"]).await?, "alive\n");
        // Other tests have connections of their own meanwhile.
        let look = async || match open_files(lab).await.map_err(|error| error.to_string())? {
            now if now < before + 15 => Ok(()),
            now => Err(format!("{now} files are open, {before} were before")),
        };
        lab.wait_for("what 20 clients left to be closed", PATIENCE, look).await
    });
}

/// How many files and sockets the node's agent has open.
async fn open_files(lab: &Lab) -> integration::Result<usize> {
    let mut count = 0;
    for pid in lab.node(0).agent_pids().await {
        count += std::fs::read_dir(format!("/proc/{pid}/fd")).doing(|| format!("looking at the files of process {pid}"))?.count();
    }
    Ok(count)
}

/// kubectl as a process that runs on beside the test, and ends with it.
fn kubectl(lab: &Lab, args: &[&str]) -> Command {
    let mut command = Command::new(lab.folder().join("kubectl"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

async fn first_line(client: &mut tokio::process::Child) -> integration::Result<String> {
    let stdout = client.stdout.as_mut().ok_or_else(|| Error::Other("kubectl has no stdout".into()))?;
    let (mut stdout, mut line) = (BufReader::new(stdout), String::new());
    let read = tokio::time::timeout(PATIENCE, stdout.read_line(&mut line));
    read.await.map_err(|_| Error::Other("kubectl says nothing".into()))?.doing(|| "reading what kubectl says")?;
    Ok(line.trim().to_owned())
}

#[test]
fn attach_joins_the_streams_of_what_runs() {
    LAB.run("attach", async |_, ns| {
        let echo = "while read line; do echo got $line; done; echo end";
        let container = json!({ "name": "main", "image": BUSYBOX, "command": ["sh", "-c", echo], "stdin": true, "stdinOnce": true });
        ns.apply::<Pod>(pod("reader", container, "Never")).await?;
        ns.ready("reader").await?;
        let said = ns.kubectl_with_input(&["attach", "-i", "reader"], "one\ntwo\n").await?;
        assert_eq!(said, "got one\ngot two\nend\n");
        // Once for stdin means that its end is the container's.
        assert_eq!(ns.ended("reader").await?, "Succeeded");
        assert_eq!(ns.kubectl(&["logs", "reader"]).await?, said);
        Ok(())
    });
}

#[test]
fn port_forward_leads_into_the_pod() {
    LAB.run("port-forward", async |lab, ns| {
        ns.apply::<Pod>(pod("web", integration::objects::whoami_container(), "Always")).await?;
        ns.ready("web").await?;
        let mut client = kubectl(lab, &["-n", ns.name(), "port-forward", "pod/web", ":8081"]).spawn().doing(|| "starting kubectl")?;
        let said = first_line(&mut client).await?;
        let address =
            said.strip_prefix("Forwarding from ").and_then(|said| said.split_once(" -> ")).and_then(|(from, _)| from.parse().ok());
        let address: std::net::SocketAddr = address.ok_or_else(|| Error::Other(format!("kubectl says {said:?}")))?;
        let connector = lab.place().connector();
        // One connection after the other through the same client, and what the first of them left does not count.
        for _ in 0..5 {
            let ask = async || connector.http(address, "/", integration::fixture::ANSWER).await.map_err(|error| error.to_string());
            assert_eq!(lab.wait_for("an answer through kubectl", PATIENCE, ask).await?, "web 8081");
        }
        let many = futures::future::join_all((0..20).map(|_| connector.http(address, "/", PATIENCE))).await;
        for answer in many {
            assert_eq!(answer?, "web 8081");
        }
        Ok(())
    });
}

#[test]
fn exec_runs_with_streams_and_gives_the_exit_code() {
    LAB.run("exec", async |_, ns| {
        ns.apply::<Pod>(sleeper("box")).await?;
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
        ns.apply::<Pod>(sleeper("box")).await?;
        ns.ready("box").await?;
        // kubectl asks for a terminal only where it has one itself: script(1) gives it one.
        let kubectl = lab.folder().join("kubectl");
        let command = format!("{} -n terminal exec -it box -- sh -c 'tty; exit 4'", kubectl.display());
        let output = Command::new("script").args(["-qec", &command, "/dev/null"]).stdin(Stdio::null()).kill_on_drop(true).output();
        let output = tokio::time::timeout(PATIENCE, output).await.map_err(|_| Error::Other("exec -it did not end".into()))?;
        let output = output.map_err(|error| Error::Other(error.to_string()))?;
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(shown.contains("/dev/pts/0"), "{shown}");
        assert_eq!(output.status.code(), Some(4), "{shown}");
        Ok(())
    });
}
