use super::*;

fn paths(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(PathBuf::from).collect()
}

#[test]
fn the_oldest_files_go() {
    let now = "2024-05-06T07:08:09Z".parse().unwrap();
    let table: &[(&[&str], usize, &[&str])] = &[
        (&[], 5, &[]),
        (&["/l/0.log.1", "/l/0.log.2", "/l/0.log.3"], 5, &[]),
        (&["/l/0.log.1", "/l/0.log.2", "/l/0.log.3", "/l/0.log.4"], 5, &["/l/0.log.1"]),
        (&["/l/0.log.1.gz", "/l/0.log.2"], 3, &["/l/0.log.1.gz"]),
        (&["/l/0.log.1", "/l/0.log.2"], 2, &["/l/0.log.1", "/l/0.log.2"]),
        (&["/l/0.log.1"], 0, &["/l/0.log.1"]),
        // Left-overs of a compression that was cut short.
        (&["/l/0.log.1", "/l/0.log.1.gz", "/l/0.log.2.tmp"], 5, &["/l/0.log.1", "/l/0.log.2.tmp"]),
    ];
    for (there, max_files, gone) in table {
        let got = plan(paths(there), Path::new("/l/0.log"), *max_files, now);
        assert_eq!(got, Plan { remove: paths(gone), rename_to: "/l/0.log.20240506-070809".into() }, "{there:?}");
    }
}

#[test]
fn other_containers_files_are_no_siblings() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["0.log", "0.log.20200101-000000", "1.log.20200101-000000", "10.log.20200101-000000"] {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    assert_eq!(rotated_from(&dir.path().join("0.log")).unwrap(), [dir.path().join("0.log.20200101-000000")]);
}

#[tokio::test]
async fn finds_what_needs_care() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("small"), "12345").unwrap();
    std::fs::write(path("big"), "1234567890").unwrap();
    let logs = ["small", "big", "gone"].map(|n| (ContainerId::from(n), path(n))).to_vec();
    let got = look(logs, 10).await;
    assert_eq!(got, [("big".into(), path("big"), Need::Rotation), ("gone".into(), path("gone"), Need::NewFile)]);
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn failed() -> runtime::Error {
    runtime::Error { action: "reopen log".into(), kind: runtime::ErrorKind::Failed("no".into()) }
}

#[tokio::test]
async fn a_rotation_keeps_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("0.log");
    for name in ["0.log.20200101-000000", "0.log.20200101-000001", "0.log"] {
        std::fs::write(dir.path().join(name), name).unwrap();
    }
    let reopen = async {
        assert!(!log.exists());
        std::fs::write(&log, "new").map_err(|_| failed())
    };
    act(reopen, &log, Need::Rotation, 3).await.unwrap();
    let left = names(dir.path());
    assert_eq!((left.len(), &left[0], &left[1]), (3, &"0.log".to_owned(), &"0.log.20200101-000001".to_owned()));
    assert_eq!(std::fs::read_to_string(dir.path().join(&left[2])).unwrap(), "0.log");
}

#[tokio::test]
async fn when_the_runtime_fails_the_log_gets_its_name_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("0.log");
    std::fs::write(&log, "old").unwrap();
    let error = act(async { Err(failed()) }, &log, Need::Rotation, 5).await.unwrap_err();
    assert!(matches!(error, Error::Reopen { .. }));
    assert_eq!((names(dir.path()), std::fs::read_to_string(&log).unwrap()), (vec!["0.log".to_owned()], "old".to_owned()));
}

#[tokio::test]
async fn a_new_file_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("0.log");
    std::fs::write(&log, "old").unwrap();
    let made_but_not_answered = async {
        std::fs::write(&log, "new").unwrap();
        Err(failed())
    };
    act(made_but_not_answered, &log, Need::Rotation, 5).await.unwrap_err();
    assert_eq!((names(dir.path()).len(), std::fs::read_to_string(&log).unwrap()), (2, "new".to_owned()));
}

#[tokio::test]
async fn a_missing_file_is_only_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("0.log");
    act(async { std::fs::write(&log, "new").map_err(|_| failed()) }, &log, Need::NewFile, 5).await.unwrap();
    assert_eq!(names(dir.path()), ["0.log"]);
}
