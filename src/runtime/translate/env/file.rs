//! Files of variables (KEP-3721; upstream: `pkg/kubelet/util/env`): `NAME='value'`, in single quotes always, over several lines if need be.

/// Why a file is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct Malformed {
    line: usize,
    message: &'static str,
}

/// The value of the first variable called `key`, or of none. What comes after it is not looked at.
pub fn value<'a>(text: &'a str, key: &str) -> Result<Option<&'a str>, Malformed> {
    let (mut rest, mut line) = (text, 0);
    while !rest.is_empty() {
        line += 1;
        let bad = |message| Malformed { line, message };
        let (this, next) = rest.split_once('\n').unwrap_or((rest, ""));
        let start = this.trim_start_matches(BLANK);
        if start.trim_end_matches('\r').is_empty() || start.starts_with('#') {
            rest = next;
            continue;
        }
        let (name, assigned) = start.split_once('=').ok_or(bad("there is no '='"))?;
        if name.is_empty() {
            return Err(bad("there is no name before '='"));
        }
        if name.ends_with(BLANK) {
            return Err(bad("there is a space before '='"));
        }
        // As a shell has it: `NAME= 'value'` makes NAME empty.
        if assigned.starts_with(BLANK) {
            if name == key {
                return Ok(None);
            }
            rest = next;
            continue;
        }
        let Some(quoted) = assigned.strip_prefix('\'') else { return Err(bad("the value is not in single quotes")) };
        // From here on the value may go over the end of the line.
        let from = text.len() - rest.len() + (this.len() - quoted.len());
        let length = text[from..].find('\'').ok_or(bad("the single quote is not closed"))?;
        let value = &text[from..from + length];
        let (after, next) = text[from + length + 1..].split_once('\n').unwrap_or((&text[from + length + 1..], ""));
        let after = after.trim_start_matches(BLANK).trim_end_matches('\r');
        if !after.is_empty() && !after.starts_with('#') {
            return Err(bad("there is more after the closing quote"));
        }
        if name == key {
            return Ok(Some(value).filter(|value| !value.is_empty()));
        }
        line += value.matches('\n').count();
        rest = next;
    }
    Ok(None)
}

const BLANK: [char; 2] = [' ', '\t'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_taken_as_it_is() {
        let text = "\n# comment\n  A='1' # why\nB='two\n$(A) # \"lines\"'\nC= 'no'\nD=''\n\nA='2'\nbroken";
        assert_eq!(value(text, "A"), Ok(Some("1")));
        assert_eq!(value(text, "B"), Ok(Some("two\n$(A) # \"lines\"")));
        assert_eq!(value(text, "C"), Ok(None));
        assert_eq!(value(text, "D"), Ok(None), "empty is as if it were not there");
        assert_eq!(value(text, "E"), Err(Malformed { line: 10, message: "there is no '='" }));
        assert_eq!(value("", "A"), Ok(None));
    }

    #[test]
    fn what_is_wrong_before_it_is_an_error() {
        for (text, message) in [
            ("=''", "no name"),
            ("B ='1'", "space before"),
            ("B=1", "not in single quotes"),
            ("B=\"1\"", "not in single quotes"),
            ("B='1\n2", "not closed"),
            ("B='1' 2", "more after"),
        ] {
            let error = value(text, "A").unwrap_err().to_string();
            assert!(error.starts_with("line 1: ") && error.contains(message), "{text}: {error}");
        }
    }
}
