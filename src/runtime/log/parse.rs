//! One line of a log file, in the two formats that runtimes write. Pure.
//!
//! CRI (`<time> stdout|stderr P|F <text>`) is specified by the design document "CRI: log management"; the JSON form is what
//! Docker's json-file driver writes, which cri-dockerd hands over as it is.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;

/// A line as the container wrote it, or a piece of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// When it was written, as the runtime spelled it.
    pub time: Cow<'a, str>,
    /// The same as a point in time.
    pub at: Timestamp,
    /// The text; it ends in a newline unless the next piece continues the line.
    pub text: Cow<'a, [u8]>,
}

/// Reads one raw line, with or without its newline. `None` when it is in neither format.
pub fn line(raw: &[u8]) -> Option<Line<'_>> {
    match raw.first()? {
        b'{' => json(raw),
        _ => cri(raw),
    }
}

fn cri(raw: &[u8]) -> Option<Line<'_>> {
    let (time, rest) = word(raw)?;
    let time = std::str::from_utf8(time).ok()?;
    let at = time.parse().ok()?;
    let (stream, rest) = word(rest)?;
    if !known_stream(stream) {
        return None;
    }
    let (tags, text) = word(rest)?;
    // Tags are separated by colons; only the first has a meaning today, the rest is left for later versions.
    let partial = tags.split(|b| *b == b':').next() == Some(b"P");
    let text = if partial { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
    Some(Line { time: time.into(), at, text: text.into() })
}

fn word(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = raw.iter().position(|b| *b == b' ')?;
    Some((raw.get(..end)?, raw.get(end + 1..)?))
}

fn known_stream(name: &[u8]) -> bool {
    matches!(name, b"stdout" | b"stderr")
}

#[derive(Deserialize)]
struct Json<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

fn json(raw: &[u8]) -> Option<Line<'_>> {
    let Json { log, stream, time } = serde_json::from_slice(raw).ok()?;
    let at = time.parse().ok()?;
    let text = match log {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    known_stream(stream.as_bytes()).then_some(Line { time, at, text })
}

/// The time with exactly nine digits of seconds' fraction, which is how logs with timestamps are shown.
pub fn fixed_width(time: &str) -> Cow<'_, str> {
    // "2016-10-06T00:17:09" is 19 bytes long; the zone begins at the first byte after it that belongs to no number.
    let Some((seconds, rest)) = time.split_at_checked(19) else { return time.into() };
    let fraction = rest.strip_prefix('.').unwrap_or("");
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 9 {
        return time.into();
    }
    let zone = if rest.starts_with('.') { fraction.get(digits..).unwrap_or("") } else { rest };
    let kept = fraction.get(..digits.min(9)).unwrap_or("");
    format!("{seconds}.{kept:0<9}{zone}").into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_formats() {
        let table: &[(&str, Option<&str>)] = &[
            ("2016-10-06T00:17:09.669794202Z stdout F log content 1\n", Some("log content 1\n")),
            ("2016-10-06T00:17:09.669794202+02:00 stderr F a\n", Some("a\n")),
            ("2016-10-06T00:17:09Z stdout P half\n", Some("half")),
            ("2016-10-06T00:17:09Z stdout P:later half\n", Some("half")),
            ("2016-10-06T00:17:09Z stdout F:later whole\n", Some("whole\n")),
            ("2016-10-06T00:17:09Z stdout F \n", Some("\n")),
            ("2016-10-06T00:17:09Z stdout F no newline yet", Some("no newline yet")),
            (r#"{"log":"one\n","stream":"stdout","time":"2016-10-20T18:39:20.57606443Z"}"#, Some("one\n")),
            (r#"{"log":"plain","stream":"stderr","time":"2016-10-20T18:39:20Z"}"#, Some("plain")),
            (r#"{"log":"one\n","stream":"stdin","time":"2016-10-20T18:39:20.57606443Z"}"#, None),
            (r#"{"log":"one\n","stream":"stdout"}"#, None),
            ("2016-10-06T00:17:09Z stdin F a\n", None),
            ("2016-10-06T00:17:09Z stdout F\n", None),
            ("yesterday stdout F a\n", None),
            ("2016-10-06T00:17:09Z", None),
            ("\n", None),
            ("", None),
        ];
        for (raw, text) in table {
            let got = line(raw.as_bytes());
            assert_eq!(got.as_ref().map(|l| l.text.as_ref()), text.map(str::as_bytes), "{raw:?}");
        }
    }

    #[test]
    fn zones_are_understood() {
        let at = |raw: &str| line(raw.as_bytes()).unwrap().at;
        assert_eq!(at("2016-10-06T02:17:09+02:00 stdout F a"), at("2016-10-06T00:17:09Z stdout F a"));
    }

    #[test]
    fn nine_digits() {
        let table = [
            ("2016-10-06T00:17:09.669794202Z", "2016-10-06T00:17:09.669794202Z"),
            ("2016-10-06T00:17:09.6697Z", "2016-10-06T00:17:09.669700000Z"),
            ("2016-10-06T00:17:09Z", "2016-10-06T00:17:09.000000000Z"),
            ("2016-10-06T00:17:09.1+02:00", "2016-10-06T00:17:09.100000000+02:00"),
            ("2016-10-06T00:17:09-05:30", "2016-10-06T00:17:09.000000000-05:30"),
            ("short", "short"),
        ];
        for (time, want) in table {
            assert_eq!(fixed_width(time), want);
        }
    }

    proptest! {
        #[test]
        fn anything_goes_in(raw in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = line(&raw);
            let _ = fixed_width(&String::from_utf8_lossy(&raw));
        }

        #[test]
        fn what_a_runtime_writes_comes_out(
            text in prop::collection::vec(any::<u8>().prop_filter("newline", |b| *b != b'\n'), 0..100), partial: bool
        ) {
            let mut raw = format!("2016-10-06T00:17:09.5Z stderr {} ", if partial { "P" } else { "F" }).into_bytes();
            raw.extend(&text);
            raw.push(b'\n');
            let mut want = text;
            if !partial {
                want.push(b'\n');
            }
            let got = line(&raw).unwrap();
            prop_assert_eq!(got.text.as_ref(), want);
        }
    }
}
