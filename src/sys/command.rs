//! Running another program: with a deadline, with bounded output, and killed when nobody waits for it any more.

use std::ffi::OsStr;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::ChildStdout;

/// Bytes of each of stdout and stderr that are kept; the rest is read and thrown away.
const KEPT: usize = 1 << 20;

/// Why a program could not be run to its end. A program that ran and said no is not an error here: see [`Output::status`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("can't run {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Talking to it failed.
    #[error("lost the connection to {program}: {source}")]
    Pipe {
        /// The program.
        program: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// It did not end in time and was killed.
    #[error("{program} did not end within {deadline:?} and was killed")]
    Deadline {
        /// The program.
        program: String,
        /// How long it had.
        deadline: Duration,
    },
}

/// What a program left behind.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// The first MiB of its standard output.
    pub stdout: Vec<u8>,
    /// The first MiB of its error output.
    pub stderr: Vec<u8>,
}

/// Runs `program` with `args`, writes `stdin` to it, and returns when it has ended. Dropping the future kills it.
pub async fn run(program: &str, args: &[impl AsRef<OsStr>], stdin: &[u8], deadline: Duration) -> Result<Output, Error> {
    run_with(program, args, stdin, deadline, bounded).await
}

/// The same for a program that says much: gives each line of its standard output to `line`, and keeps none of it.
pub async fn run_by_line(
    program: &str,
    args: &[impl AsRef<OsStr>],
    deadline: Duration,
    mut line: impl FnMut(&str),
) -> Result<Output, Error> {
    let read = async |pipe: Option<ChildStdout>| {
        let mut lines = tokio::io::BufReader::new(pipe.ok_or(io::ErrorKind::BrokenPipe)?).lines();
        while let Some(text) = lines.next_line().await? {
            line(&text);
        }
        Ok(Vec::new())
    };
    run_with(program, args, &[], deadline, read).await
}

/// Runs a program whose standard output is read by `read`.
async fn run_with(
    program: &str,
    args: &[impl AsRef<OsStr>],
    stdin: &[u8],
    deadline: Duration,
    read: impl AsyncFnOnce(Option<ChildStdout>) -> io::Result<Vec<u8>>,
) -> Result<Output, Error> {
    let start = |source| Error::Start { program: program.into(), source };
    #[allow(clippy::disallowed_methods, reason = "this is the function that the ban sends everybody to")]
    let mut child = tokio::process::Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let (input, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        match input {
            Some(mut pipe) => match pipe.write_all(stdin).await {
                // A program may end, or close its input, without reading all of it.
                Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e),
                _ => Ok(()),
            },
            None => Ok(()),
        }
    };
    let all = async { tokio::try_join!(feed, read(stdout), bounded(stderr), child.wait()) };
    match tokio::time::timeout(deadline, all).await {
        Ok(Ok(((), stdout, stderr, status))) => Ok(Output { status, stdout, stderr }),
        Ok(Err(source)) => Err(Error::Pipe { program: program.into(), source }),
        Err(_) => Err(Error::Deadline { program: program.into(), deadline }),
    }
}

async fn bounded(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut pipe) = pipe {
        (&mut pipe).take(KEPT as u64).read_to_end(&mut kept).await?;
        tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn passes_input_and_output() {
        let out = run("cat", &[] as &[&str], b"hello", LONG).await.unwrap();
        assert!(out.status.success());
        assert_eq!(out.stdout, b"hello");
        let out = run("sh", &["-c", "echo no >&2; exit 3"], b"", LONG).await.unwrap();
        assert_eq!((out.status.code(), out.stderr.as_slice()), (Some(3), &b"no\n"[..]));
    }

    #[tokio::test]
    async fn output_is_bounded_and_unread_input_is_no_error() {
        let out = run("sh", &["-c", "head -c 3000000 /dev/zero"], &[0; 100_000], LONG).await.unwrap();
        assert!(out.status.success());
        assert_eq!(out.stdout.len(), KEPT);
    }

    #[tokio::test]
    async fn long_output_comes_by_line() {
        let mut lines = Vec::new();
        let out = run_by_line("sh", &["-c", "seq 300000; exit 2"], LONG, |line| lines.push(line.to_owned())).await.unwrap();
        assert_eq!((out.status.code(), out.stdout.len()), (Some(2), 0));
        assert_eq!((lines.len(), lines.first().map(String::as_str)), (300_000, Some("1")));
    }

    #[tokio::test]
    async fn a_hanging_program_is_killed() {
        let error = run("sleep", &["60"], b"", Duration::from_millis(50)).await.unwrap_err();
        assert!(error.to_string().contains("sleep did not end within"), "{error}");
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = run("no-such-program-here", &[] as &[&str], b"", LONG).await.unwrap_err();
        assert!(error.to_string().starts_with("can't run no-such-program-here"), "{error}");
    }
}
