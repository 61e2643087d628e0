use std::io::Write;

use proptest::prelude::*;

use super::*;

const T: &str = "2020-01-01T00:00:00Z stdout F ";

fn write(path: &Path, lines: std::ops::Range<usize>) {
    let mut f = File::options().create(true).append(true).open(path).unwrap();
    for i in lines {
        writeln!(f, "{T}line {i}").unwrap();
    }
}

fn all(path: &Path, options: &Options) -> String {
    let mut reader = Reader::open(path, options).unwrap();
    let mut text = Vec::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        assert!(chunk.len() <= 3 * BLOCK);
        text.extend_from_slice(&chunk);
    }
    String::from_utf8(text).unwrap()
}

fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|i| format!("line {i}\n")).collect()
}

#[test]
fn whole_and_tail() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("0.log");
    write(&log, 0..5000);
    assert_eq!(all(&log, &Options::default()), lines(0..5000));
    for n in [0, 1, 7, 1234, 4999, 5000, 5001] {
        let options = Options { tail_lines: Some(n as u64), ..Options::default() };
        assert_eq!(all(&log, &options), lines(5000_usize.saturating_sub(n)..5000), "{n}");
    }
}

#[test]
fn tail_goes_back_into_rotated_files_but_not_compressed_ones() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("0.log");
    write(&dir.path().join("0.log.20200101-000000"), 0..10);
    std::fs::write(dir.path().join("0.log.20200101-000001.gz"), "squeezed").unwrap();
    write(&dir.path().join("0.log.20200101-000002"), 10..20);
    write(&dir.path().join("0.log.20200101-000003"), 20..30);
    write(&log, 30..35);
    for (n, first) in [(5, 30), (6, 29), (15, 20), (16, 19), (100, 10)] {
        let options = Options { tail_lines: Some(n), ..Options::default() };
        assert_eq!(all(&log, &options), lines(first..35), "{n}");
    }
    assert_eq!(all(&log, &Options::default()), lines(30..35));
}

#[test]
fn an_unfinished_line_is_shown_at_the_end_but_is_no_line_of_the_tail() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("0.log");
    std::fs::write(&log, format!("{T}one\n{T}two\n{T}thr")).unwrap();
    assert_eq!(all(&log, &Options::default()), "one\ntwo\nthr");
    assert_eq!(all(&log, &Options { tail_lines: Some(1), ..Options::default() }), "two\n");
}

#[test]
fn a_log_that_is_not_followed_ends_where_it_ended_when_opened() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("0.log");
    write(&log, 0..3);
    let mut reader = Reader::open(&log, &Options::default()).unwrap();
    write(&log, 3..9);
    assert_eq!(reader.next_chunk().unwrap().unwrap(), lines(0..3).as_bytes());
    assert_eq!(reader.next_chunk().unwrap(), None);
}

#[test]
fn lines_of_any_length_up_to_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("0.log");
    let (long, too_long) = ("x".repeat(MAX_LINE - 100), "y".repeat(3 * MAX_LINE));
    std::fs::write(&log, format!("{T}a\n{T}{long}\n{T}{too_long}\n{T}b\n")).unwrap();
    let text: String = {
        let mut reader = Reader::open(&log, &Options::default()).unwrap();
        let mut text = Vec::new();
        while let Some(chunk) = reader.next_chunk().unwrap() {
            text.extend_from_slice(&chunk);
        }
        String::from_utf8(text).unwrap()
    };
    assert_eq!(text, format!("a\n{long}\nb\n"));
}

#[test]
fn rotation_is_taken_up_after_the_old_file_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("0.log");
    write(&log, 0..2);
    let mut reader = Reader::open(&log, &Options { follow: true, ..Options::default() }).unwrap();
    assert_eq!(reader.next_chunk().unwrap().unwrap(), lines(0..2).as_bytes());
    assert_eq!(reader.next_chunk().unwrap(), None);
    let old = dir.path().join("0.log.20200101-000000");
    std::fs::rename(&log, &old).unwrap();
    assert!(!reader.take_up_rotation().unwrap());
    write(&old, 2..3);
    write(&log, 3..5);
    assert!(reader.take_up_rotation().unwrap());
    assert!(!reader.take_up_rotation().unwrap());
    assert_eq!(reader.next_chunk().unwrap().unwrap(), lines(2..5).as_bytes());
}

proptest! {
    #[test]
    fn any_file_can_be_read(content in prop::collection::vec(any::<u8>(), 0..500), tail in prop::option::of(0_u64..20)) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let mut reader = Reader::open(file.path(), &Options { tail_lines: tail, ..Options::default() }).unwrap();
        while reader.next_chunk().unwrap().is_some() {}
    }
}
