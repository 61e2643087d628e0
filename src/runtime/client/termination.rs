//! A container's last words: the file that it may write, or the end of its log.
//!
//! Rules from pkg/kubelet/kuberuntime/kuberuntime_container.go of Kubernetes (getTerminationMessage).

use std::fs::{File, OpenOptions};
use std::io::{Read, Result, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use proto::cri::{ContainerState, ContainerStatus};

use crate::runtime::{log, names};

/// Most bytes of the file.
const FILE_BYTES: u64 = 4096;
/// Most bytes and lines of the log.
const LOG_BYTES: usize = 2048;
const LOG_LINES: usize = 80;
/// How much of the log's end is looked at: 80 lines of 2048 bytes in all, with the time stamp that each carries, fit easily.
const LOG_TAIL: u64 = 16 << 10;
/// A log on a file system that doesn't answer must not hold up the pod.
const DEADLINE: Duration = Duration::from_secs(2);

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// The file on the host that is mounted at the message path.
    file: Option<String>,
    /// The log, when the container asks for it and ended badly.
    log: Option<String>,
}

impl Source {
    /// `None` for containers that have not ended, or have nowhere to say anything.
    pub(super) fn of(status: &ContainerStatus) -> Option<Self> {
        if status.state != ContainerState::ContainerExited as i32 {
            return None;
        }
        let annotation = |name| status.annotations.get(name).map(String::as_str).unwrap_or_default();
        let path = annotation(names::TERMINATION_MESSAGE_PATH);
        let at = |p: &str| p == path || p.strip_prefix('/') == Some(path);
        let mount = status.mounts.iter().find(|m| !path.is_empty() && at(&m.container_path));
        let file = mount.map(|m| m.host_path.clone()).filter(|f| !f.is_empty());
        // A container that could not even start has no log.
        let failed = status.exit_code != 0 && status.reason != "ContainerCannotRun";
        let log = failed && annotation(names::TERMINATION_MESSAGE_POLICY) == "FallbackToLogsOnError" && !status.log_path.is_empty();
        let log = log.then(|| status.log_path.clone());
        (file.is_some() || log.is_some()).then_some(Self { file, log })
    }

    /// Reads the message. A failure becomes the message: there is no better place to tell it.
    pub(super) async fn read(self) -> String {
        let read = tokio::task::spawn_blocking(move || self.read_blocking());
        match tokio::time::timeout(DEADLINE, read).await {
            Ok(Ok(message)) => message,
            Ok(Err(_)) | Err(_) => "the termination message could not be read in time".into(),
        }
    }

    fn read_blocking(&self) -> String {
        let from_file = self.file.as_deref().map(|path| {
            let text = open(Path::new(path)).and_then(|f| tail(f, FILE_BYTES));
            match text {
                Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
                Err(e) => format!("Error on reading termination log {path}: {e}"),
            }
        });
        match (from_file.filter(|m| !m.is_empty()), &self.log) {
            (Some(message), _) => message,
            (None, Some(path)) => match open(Path::new(path)).and_then(|f| tail(f, LOG_TAIL)) {
                Ok(bytes) => last_lines(&bytes),
                Err(e) => format!("Error on reading termination message from logs: {e}"),
            },
            (None, None) => String::new(),
        }
    }
}

/// Opens a regular file. The path may be a volume's that the container writes to: a FIFO there must not block, a link must not lead
/// elsewhere.
fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::Error::other("it is not a regular file")) }
}

fn tail(mut file: File, bytes: u64) -> Result<Vec<u8>> {
    let start = file.metadata()?.len().saturating_sub(bytes);
    file.seek(SeekFrom::Start(start))?;
    let mut out = Vec::new();
    file.take(bytes).read_to_end(&mut out)?;
    Ok(out)
}

/// The text of the last lines of a log.
fn last_lines(log: &[u8]) -> String {
    let mut text = Vec::new();
    // Of a log that was cut, the first line is a rest without its time stamp: it doesn't parse and is left out.
    for line in log.split_inclusive(|b| *b == b'\n').filter_map(log::parse::line) {
        text.extend_from_slice(&line.text);
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let last: String = lines.iter().skip(lines.len().saturating_sub(LOG_LINES)).copied().collect();
    let too_much = last.len().saturating_sub(LOG_BYTES);
    (too_much..last.len()).find_map(|start| last.get(start..)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::cri::Mount;

    fn status(policy: &str, exit_code: i32, file: &str, log: &str) -> ContainerStatus {
        let annotations = [(names::TERMINATION_MESSAGE_PATH, "/dev/termination-log"), (names::TERMINATION_MESSAGE_POLICY, policy)];
        ContainerStatus {
            state: ContainerState::ContainerExited.into(),
            exit_code,
            log_path: log.into(),
            annotations: annotations.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            mounts: vec![Mount { container_path: "/dev/termination-log".into(), host_path: file.into(), ..Default::default() }],
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn file_then_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        std::fs::write(path("full"), "bye").unwrap();
        std::fs::write(path("empty"), "").unwrap();
        std::fs::write(path("long"), "x".repeat(5000) + "end").unwrap();
        std::os::unix::fs::symlink(path("full"), path("link")).unwrap();
        std::fs::write(
            path("log"),
            "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:00Z stderr P t\n2026-01-01T00:00:00Z stderr F wo\n",
        )
        .unwrap();
        let fallback = "FallbackToLogsOnError";
        for (policy, code, file, want) in [
            ("File", 1, "full", "bye"),
            ("File", 1, "empty", ""),
            ("File", 1, "none", ""),
            (fallback, 1, "full", "bye"),
            (fallback, 1, "empty", "one\ntwo\n"),
            (fallback, 1, "none", "one\ntwo\n"),
            (fallback, 0, "empty", ""),
        ] {
            let source = Source::of(&status(policy, code, &path(file), &path("log"))).unwrap();
            assert_eq!(source.read().await, want, "{policy} {code} {file}");
        }
        let long = Source::of(&status("File", 0, &path("long"), "")).unwrap().read().await;
        assert!(long.len() == 4096 && long.ends_with("xend"));
        let link = Source::of(&status("File", 0, &path("link"), "")).unwrap().read().await;
        assert!(link.starts_with("Error on reading termination log "), "{link}");
        let no_log = Source::of(&status(fallback, 1, &path("empty"), &path("none"))).unwrap().read().await;
        assert!(no_log.starts_with("Error on reading termination message from logs: "), "{no_log}");
    }

    #[test]
    fn only_ended_containers_have_one() {
        let running = ContainerStatus { state: ContainerState::ContainerRunning.into(), ..status("File", 0, "/f", "/l") };
        assert_eq!(Source::of(&running), None);
        assert_eq!(Source::of(&status("FallbackToLogsOnError", 0, "", "/l")), None);
        let unstarted = ContainerStatus { reason: "ContainerCannotRun".into(), ..status("FallbackToLogsOnError", 128, "", "/l") };
        assert_eq!(Source::of(&unstarted), None);
    }

    #[test]
    fn the_end_of_a_log() {
        let line = |text: &str| format!("2026-01-01T00:00:00.1Z stdout F {text}\n");
        let many: String = (0..100).map(|n| line(&n.to_string())).collect();
        let last = last_lines(format!("cut off rest of a line\n{many}").as_bytes());
        assert_eq!((last.lines().count(), last.lines().next()), (80, Some("20")));
        let wide: String = (0..100).map(|_| line(&"ü".repeat(50))).collect();
        let last = last_lines(wide.as_bytes());
        assert!(last.len() <= 2048 && last.len() > 2040 && last.ends_with("ü\n"));
        assert_eq!(last_lines(b"nonsense\n\n"), "");
    }
}
