use super::*;

fn payload(files: &[(&str, &str)]) -> Payload<'static> {
    let mut payload = Payload::default();
    for (path, text) in files {
        payload.add(path, File::new(text.as_bytes().to_vec(), [Some(0o640), None])).unwrap();
    }
    payload
}

/// What a program in the container sees: visible names with dotted ones left out, directories followed.
fn seen(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            if relative.starts_with("..") {
                continue;
            }
            match fs::metadata(&path) {
                Ok(m) if m.is_dir() => open.push(path),
                Ok(_) => drop(found.insert(relative, fs::read_to_string(&path).unwrap())),
                // A name whose file is gone: what readers take for "no such file".
                Err(_) => {}
            }
        }
    }
    found
}

fn as_map(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned())).collect()
}

fn hidden(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().starts_with("..")).count()
}

#[test]
fn the_layout_is_the_one_that_others_know() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &payload(&[("a", "1"), ("sub/b", "2")]), None).unwrap();
    let set = fs::read_link(dir.path().join(DATA)).unwrap();
    let name = set.to_str().unwrap();
    assert!(name.starts_with("..2") && name.len() > "..2026_01_31_12_00_00.".len(), "{name}");
    assert_eq!(fs::read_link(dir.path().join("a")).unwrap(), Path::new("..data/a"));
    assert_eq!(fs::read_link(dir.path().join("sub")).unwrap(), Path::new("..data/sub"));
    let mode = |p: &str| fs::metadata(dir.path().join(p)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("a"), mode("sub"), mode(DATA)), (0o640, 0o755, 0o755));
    assert!(is_written(dir.path()));
}

#[test]
fn equal_contents_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let files = payload(&[("a", "1"), ("sub/b", "2")]);
    write(dir.path(), &files, None).unwrap();
    let observed = observe(dir.path(), &files).unwrap();
    assert_eq!(plan::steps(&observed, &files, Some(1), jiff::Timestamp::now()), []);
    for other in [payload(&[("a", "1")]), payload(&[("a", "2"), ("sub/b", "2")]), payload(&[("a", "1"), ("sub/b", "2"), ("c", "")])] {
        assert!(!observe(dir.path(), &other).unwrap().equal);
    }
}

#[test]
fn ended_after_any_step_readers_see_one_set_and_the_next_write_repairs() {
    let sets: [&[(&str, &str)]; 4] =
        [&[], &[("a", "1"), ("sub/x", "1"), ("sub/y", "1")], &[("a", "2"), ("b", "2"), ("sub/x", "2")], &[("sub", "3")]];
    for old in sets {
        for new in sets {
            let steps_to = |dir: &Path| {
                write(dir, &payload(old), None).unwrap();
                observe(dir, &payload(new)).unwrap()
            };
            let count = plan::steps(&steps_to(tempfile::tempdir().unwrap().path()), &payload(new), None, jiff::Timestamp::now()).len();
            for killed_after in 0..=count {
                let dir = tempfile::tempdir().unwrap();
                let new_payload = payload(new);
                let steps = plan::steps(&steps_to(dir.path()), &new_payload, None, jiff::Timestamp::now());
                for step in steps.iter().take(killed_after) {
                    run(dir.path(), step).unwrap();
                }
                let (saw, old, new) = (seen(dir.path()), as_map(old), as_map(new));
                let all_of = |set: &BTreeMap<String, String>| saw.iter().all(|(k, v)| set.get(k) == Some(v));
                assert!(all_of(&old) || all_of(&new), "{old:?} → {new:?}, ended after {killed_after}: {saw:?}");

                write(dir.path(), &new_payload, None).unwrap();
                assert_eq!(seen(dir.path()), new, "ended after {killed_after}");
                assert_eq!(hidden(dir.path()), 2, "only ..data and its directory stay, ended after {killed_after}");
            }
        }
    }
}

#[test]
fn what_others_put_there_stays() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("nested")).unwrap();
    symlink("elsewhere", dir.path().join("link")).unwrap();
    write(dir.path(), &payload(&[("a", "1"), ("nested", "2")]), None).unwrap();
    write(dir.path(), &payload(&[("b", "1")]), None).unwrap();
    assert!(dir.path().join("nested").is_dir());
    assert!(fs::read_link(dir.path().join("link")).is_ok());
    assert_eq!(seen(dir.path()), as_map(&[("b", "1")]));
}

#[test]
fn a_data_link_that_leads_outside_is_replaced_and_not_followed() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("a"), "theirs").unwrap();
    symlink(outside.path(), dir.path().join(DATA)).unwrap();
    write(dir.path(), &payload(&[("a", "1")]), None).unwrap();
    assert_eq!(seen(dir.path()), as_map(&[("a", "1")]));
    assert_eq!(fs::read_to_string(outside.path().join("a")).unwrap(), "theirs");
}

#[test]
fn the_group_gets_the_new_set_before_it_shows() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let group = fs::metadata(dir.path()).unwrap().gid();
    let mut files = Payload::default();
    files.add("token", File::new(b"t".to_vec(), [Some(0o600), None])).unwrap();
    write(dir.path(), &files, Some(group)).unwrap();
    let mode = |p: &str| fs::metadata(dir.path().join(p)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("token"), mode(DATA)), (0o640, 0o2755));
    let observed = Observed { entries: BTreeMap::new(), equal: false };
    let steps = plan::steps(&observed, &files, Some(group), jiff::Timestamp::now());
    let at = |wanted: &dyn Fn(&Step<'_>) -> bool| steps.iter().position(wanted).unwrap();
    assert!(at(&|s| matches!(s, Step::Own { .. })) < at(&|s| *s == Step::Switch));
}

#[test]
fn errors_name_the_step_and_the_path() {
    let error = write(Path::new("/nonexistent/volume"), &payload(&[]), None).unwrap_err();
    assert!(error.to_string().starts_with("read /nonexistent/volume: "), "{error}");
}
