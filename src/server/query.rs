//! Percent-decoding of paths and queries. Pure.

/// A decoded query string. Names may come more than once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what comes after the `?`. `None` when an escape is broken or the result is not UTF-8.
    pub fn parse(raw: Option<&str>) -> Option<Self> {
        let pairs = raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let decode_pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((form(name)?, form(value)?))
        };
        pairs.map(decode_pair).collect::<Option<_>>().map(Self)
    }

    /// The first value of a name.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// Decodes a path. `None` when an escape is broken, or the result is not UTF-8 or holds a NUL.
pub fn path(raw: &str) -> Option<String> {
    percent(raw.as_bytes()).filter(|p| !p.contains('\0'))
}

/// In a query a plus stands for a space.
fn form(raw: &str) -> Option<String> {
    percent(raw.replace('+', " ").as_bytes())
}

fn percent(raw: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter();
    while let Some(b) = bytes.next() {
        out.push(match b {
            b'%' => hex(*bytes.next()?)? << 4 | hex(*bytes.next()?)?,
            b => *b,
        });
    }
    String::from_utf8(out).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn queries() {
        let q = Query::parse(Some("command=sh&command=-c&command=echo+a%2Bb%26c&tty=1&empty=&bare&&x=a=b")).unwrap();
        assert_eq!(q.all("command").collect::<Vec<_>>(), ["sh", "-c", "echo a+b&c"]);
        assert_eq!(q.first("tty"), Some("1"));
        assert_eq!(q.first("empty"), Some(""));
        assert_eq!(q.first("bare"), Some(""));
        assert_eq!(q.first("x"), Some("a=b"));
        assert_eq!(q.first("y"), None);
        assert_eq!(Query::parse(None), Some(Query::default()));
        for broken in ["a=%", "a=%4", "a=%zz", "%ff=1", "a=%+1"] {
            assert_eq!(Query::parse(Some(broken)), None, "{broken}");
        }
    }

    #[test]
    fn paths() {
        assert_eq!(path("/exec/a%20b/+").as_deref(), Some("/exec/a b/+"));
        for broken in ["/%", "/a%00b", "/%c3%28"] {
            assert_eq!(path(broken), None, "{broken}");
        }
    }

    proptest! {
        #[test]
        fn anything_goes_in(raw in ".*") {
            let _ = path(&raw);
            let _ = Query::parse(Some(&raw));
        }
    }
}
