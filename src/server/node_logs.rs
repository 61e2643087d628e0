//! `/logs/`: the files below the host's log directory, as upstream's file server shows them.
//!
//! Pods may write below that directory (log agents mount it): a link there leads to files of the directory alone, wherever it points, and
//! never to the rest of the host, whose files would be read with the agent's rights.

use std::ffi::OsStr;
use std::fmt::Write;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Response, StatusCode};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use tokio::io::AsyncReadExt;

use super::response::{self, Body};
use crate::sys::blocking::Blocking;

/// Where a host's logs are.
pub const ROOT: &str = "/var/log";

/// How long the file system may take to open a file or list a directory.
const PATIENCE: Duration = Duration::from_secs(10);
/// Links that are followed one after the other, as the kernel does it.
const LINKS: usize = 40;
/// Bytes that are read at once.
const CHUNK: usize = 1 << 16;
/// Bytes by which it is judged what a file holds.
const SAMPLE: usize = 512;

/// What a path leads to.
enum Found {
    Directory(Vec<String>),
    /// A file, and whether it looks like text.
    File(File, bool),
}

/// Answers for `path` below `root`. `slash`: the path that was asked for ends with one.
pub async fn answer(blocking: &Blocking, root: &Path, path: &str, slash: bool) -> Response<Body> {
    if Path::new(path).components().any(|part| !matches!(part, Component::Normal(_))) {
        return response::text(StatusCode::BAD_REQUEST, "invalid URL path\n");
    }
    let (at, asked) = (root.to_owned(), PathBuf::from(path));
    // Each request on its own: one that hangs in a file system holds up nobody who asks for another file.
    let found = blocking.run(&root.join(path), PATIENCE, move || look(&at, &asked)).await;
    match found {
        Ok(Ok(Found::Directory(_))) if !slash => redirect(path),
        Ok(Ok(Found::Directory(names))) => html(&listing(&names)),
        Ok(Ok(Found::File(..))) if slash => response::text(StatusCode::NOT_FOUND, "404 page not found\n"),
        Ok(Ok(Found::File(file, text))) => send(file, text),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => response::text(StatusCode::NOT_FOUND, "404 page not found\n"),
        Ok(Err(error)) => {
            tracing::debug!(%error, path, "can't show a file of the log directory");
            response::text(StatusCode::FORBIDDEN, "403 Forbidden\n")
        }
        Err(error) => response::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn look(root: &Path, path: &Path) -> io::Result<Found> {
    let file = open(root, path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return list(&file).map(Found::Directory);
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is neither a file nor a directory"));
    }
    let mut sample = [0; SAMPLE];
    let count = std::os::unix::fs::FileExt::read_at(&file, &mut sample, 0)?;
    let is_text = sample.iter().take(count).all(|byte| *byte >= 0x20 || matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b));
    Ok(Found::File(file, is_text))
}

/// Opens a file or directory below the root. A last part that is a link with an absolute target below the root is followed by hand: links to
/// containers' logs are such.
fn open(root: &Path, path: &Path) -> io::Result<File> {
    let directory = File::open(root)?;
    // A pipe must not keep a thread.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let how = |flags| OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let here = |path: &Path| if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() };
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match openat2(&directory, &here(&path), how(flags)) {
            Ok(file) => return Ok(File::from(file)),
            Err(Errno::EXDEV) => {}
            Err(error) => return Err(error.into()),
        }
        let (parent, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().ok_or(Errno::EXDEV)?);
        let parent = openat2(&directory, &here(parent), how(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC))?;
        let target = PathBuf::from(readlinkat(&parent, Path::new(name))?);
        path = target.strip_prefix(root).map_err(|_| Errno::EXDEV)?.to_owned();
    }
    Err(Errno::ELOOP.into())
}

fn list(directory: &File) -> io::Result<Vec<String>> {
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(directory);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/self/fd/{descriptor}"))? {
        let entry = entry?;
        let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
        names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    Ok(names)
}

/// Links to the entries, in the form of Go's `http.FileServer`.
fn listing(names: &[String]) -> String {
    let mut html = String::from("<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n");
    for name in names {
        let text = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;").replace('\'', "&#39;");
        // Writing to a String can't fail.
        let _ = writeln!(html, "<a href=\"{}\">{text}</a>", escape(name));
    }
    html.push_str("</pre>\n");
    html
}

/// A name as part of a URL.
fn escape(name: &str) -> String {
    let mut out = String::new();
    // A colon before the first slash would make a scheme of what stands before it.
    if name.contains(':') {
        out.push_str("./");
    }
    for byte in OsStr::new(name).as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b':' | b'@' | b'+' | b'=' | b'$' | b',' => {
                out.push(char::from(*byte))
            }
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

fn redirect(path: &str) -> Response<Body> {
    let last = path.rsplit('/').next().filter(|last| !last.is_empty()).unwrap_or("logs");
    let mut response = response::text(StatusCode::MOVED_PERMANENTLY, "");
    // What was escaped is ASCII.
    if let Ok(to) = HeaderValue::try_from(format!("{}/", escape(last))) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

fn html(text: &str) -> Response<Body> {
    let mut response = response::text(StatusCode::OK, text.to_owned());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

/// A file as long as it is now: one that grows all the time has an end all the same.
fn send(file: File, text: bool) -> Response<Body> {
    let left = file.metadata().map_or(0, |metadata| metadata.len());
    let parts = stream::try_unfold((tokio::fs::File::from_std(file), left), |(mut file, left)| async move {
        let mut chunk = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
        let count = if chunk.is_empty() { 0 } else { file.read(&mut chunk).await? };
        chunk.truncate(count);
        let left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        Ok((count > 0).then(|| (Bytes::from(chunk), (file, left))))
    });
    response::stream(if text { "text/plain; charset=utf-8" } else { "application/octet-stream" }, parts)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use http_body_util::BodyExt;

    use super::*;

    async fn ask(root: &Path, path: &str, slash: bool) -> (u16, String) {
        let response = answer(&Blocking::default(), root, path, slash).await;
        let status = response.status().as_u16();
        (status, String::from_utf8_lossy(&response.into_body().collect().await.unwrap().to_bytes()).into_owned())
    }

    #[tokio::test]
    async fn files_and_directories() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("pods")).unwrap();
        std::fs::write(root.path().join("pods/0.log"), "x".repeat(200_000)).unwrap();
        std::fs::write(root.path().join("a<b>:&.log"), "hello\n").unwrap();
        let (status, text) = ask(root.path(), "", true).await;
        assert_eq!(status, 200);
        assert!(text.contains("<a href=\"pods/\">pods/</a>\n"), "{text}");
        assert!(text.contains("<a href=\"./a%3Cb%3E:%26.log\">a&lt;b&gt;:&amp;.log</a>"), "{text}");
        assert_eq!(ask(root.path(), "a<b>:&.log", false).await, (200, "hello\n".into()));
        assert_eq!(ask(root.path(), "pods/0.log", false).await.1.len(), 200_000);
        assert_eq!(ask(root.path(), "none.log", false).await.0, 404);
        assert_eq!(ask(root.path(), "pods/0.log", true).await.0, 404);
        let response = answer(&Blocking::default(), root.path(), "pods", false).await;
        assert_eq!((response.status().as_u16(), response.headers()["location"].to_str().unwrap()), (301, "pods/"));
    }

    /// Of the kind of CVE-2017-1002101 and of the known ways from `/var/log` to the host: what a pod with a mount of the log directory could plant.
    #[tokio::test]
    async fn links_lead_nowhere_else() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root_path = root.path().canonicalize().unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        std::fs::create_dir(root_path.join("pods")).unwrap();
        std::fs::write(root_path.join("pods/0.log"), "own").unwrap();
        symlink(outside.path(), root_path.join("out")).unwrap();
        symlink(outside.path().join("secret"), root_path.join("file")).unwrap();
        symlink("../../../../../etc/passwd", root_path.join("climbs")).unwrap();
        symlink(root_path.join("pods/0.log"), root_path.join("own")).unwrap();
        symlink(root_path.join("round"), root_path.join("round")).unwrap();
        symlink(root_path.join("../../etc/passwd"), root_path.join("dots")).unwrap();
        symlink("/proc/self/root/etc/passwd", root_path.join("magic")).unwrap();
        nix::unistd::mkfifo(&root_path.join("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        for path in ["out/secret", "file", "climbs", "round", "dots", "magic", "pipe"] {
            let (status, text) = ask(&root_path, path, false).await;
            assert!(status == 403 || status == 404, "{path}: {status} {text}");
        }
        assert_eq!(ask(&root_path, "own", false).await, (200, "own".into()), "as /var/log/containers does it");
        for path in ["../etc/passwd", "pods/../../etc/passwd"] {
            assert_eq!(ask(&root_path, path, false).await.0, 400, "{path}");
        }
    }
}
