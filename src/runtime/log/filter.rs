//! What of each line is shown. Pure.

use super::{Options, parse};

/// Turns raw lines into what the reader asked for, one after the other.
#[derive(Debug)]
pub struct Filter {
    since: Option<jiff::Timestamp>,
    timestamps: bool,
    left: u64,
    at_line_start: bool,
}

/// Whether more lines are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Go on.
    More,
    /// The byte limit is reached.
    Enough,
}

impl Filter {
    /// A filter for one request.
    pub fn new(options: &Options) -> Self {
        Self { since: options.since, timestamps: options.timestamps, left: options.limit_bytes.unwrap_or(u64::MAX), at_line_start: true }
    }

    /// Appends what is shown of one raw line to `out`. Lines in no known format are left out: half a line after a crash of the
    /// runtime must not hide the rest of the log.
    pub fn push(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Wanted {
        let Some(line) = parse::line(raw) else {
            return Wanted::More;
        };
        if self.since.is_some_and(|since| line.at < since) {
            return Wanted::More;
        }
        if self.timestamps && self.at_line_start {
            self.show(parse::fixed_width(&line.time).as_bytes(), out);
            self.show(b" ", out);
        }
        self.show(&line.text, out);
        self.at_line_start = line.text.last().is_none_or(|b| *b == b'\n');
        if self.left == 0 { Wanted::Enough } else { Wanted::More }
    }

    fn show(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(text.len());
        out.extend_from_slice(text.get(..n).unwrap_or(text));
        self.left -= n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: [&str; 4] =
        ["2020-01-01T00:00:01Z stdout F one\n", "2020-01-01T00:00:02Z stdout P tw\n", "2020-01-01T00:00:03Z stdout F o\n", "garbage\n"];

    fn shown(options: Options) -> (String, Wanted) {
        let mut filter = Filter::new(&options);
        let mut out = Vec::new();
        let mut wanted = Wanted::More;
        for raw in LOG {
            if wanted == Wanted::More {
                wanted = filter.push(raw.as_bytes(), &mut out);
            }
        }
        (String::from_utf8(out).unwrap(), wanted)
    }

    #[test]
    fn everything() {
        assert_eq!(shown(Options::default()), ("one\ntwo\n".into(), Wanted::More));
    }

    #[test]
    fn since_includes_its_own_moment() {
        let since = Some("2020-01-01T00:00:02Z".parse().unwrap());
        assert_eq!(shown(Options { since, ..Options::default() }).0, "two\n");
    }

    #[test]
    fn a_timestamp_a_line_and_none_inside_one() {
        let (text, _) = shown(Options { timestamps: true, ..Options::default() });
        assert_eq!(text, "2020-01-01T00:00:01.000000000Z one\n2020-01-01T00:00:02.000000000Z two\n");
    }

    #[test]
    fn bytes_are_limited() {
        for (limit, want, wanted) in [
            (3, "one", Wanted::Enough),
            (4, "one\n", Wanted::Enough),
            (5, "one\nt", Wanted::Enough),
            (8, "one\ntwo\n", Wanted::Enough),
            (9, "one\ntwo\n", Wanted::More),
        ] {
            let options = Options { limit_bytes: Some(limit), ..Options::default() };
            assert_eq!(shown(options), (want.into(), wanted), "{limit}");
        }
    }
}
