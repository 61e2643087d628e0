//! `$(NAME)` in commands, arguments and values of variables.

/// Replaces `$(NAME)` by what `lookup` knows. `$$` stands for one `$`, so `$$(NAME)` stays `$(NAME)`; a name that nobody knows, a
/// reference without its end and any other `$` stay as they are.
/// Values are bytes: a Secret's need not be text.
pub fn expand<'a>(input: &str, lookup: impl Fn(&str) -> Option<&'a [u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len());
    let mut rest = input;
    while let Some((before, after)) = rest.split_once('$') {
        out.extend(before.as_bytes());
        if let Some(tail) = after.strip_prefix('$') {
            out.push(b'$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match lookup(name) {
                Some(value) => out.extend(value),
                None => out.extend(["$(", name, ")"].concat().as_bytes()),
            }
            rest = tail;
        } else {
            out.push(b'$');
            rest = after;
        }
    }
    out.extend(rest.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let lookup = |name: &str| match name {
            "A" => Some("a".as_bytes()),
            "EMPTY" => Some("".as_bytes()),
            "REF" => Some("$(A)".as_bytes()),
            _ => None,
        };
        for (input, want) in [
            ("", ""),
            ("plain", "plain"),
            ("$(A)", "a"),
            ("-$(A)-$(A)-", "-a-a-"),
            ("$(EMPTY)x", "x"),
            ("$(REF)", "$(A)"),
            ("$(NONE)", "$(NONE)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$a"),
            ("$$$$(A)", "$$(A)"),
            ("$A", "$A"),
            ("$A$(A)", "$Aa"),
            ("$(A", "$(A"),
            ("$(A$(A)", "$(A$(A)"),
            ("$(", "$("),
            ("$()", "$()"),
            ("$", "$"),
            ("cost: 5$", "cost: 5$"),
            ("$ü$(A)", "$üa"),
            ("$(ü)$(A)", "$(ü)a"),
        ] {
            assert_eq!(String::from_utf8_lossy(&expand(input, lookup)), want, "{input}");
        }
    }
}
