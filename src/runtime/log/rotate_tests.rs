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
