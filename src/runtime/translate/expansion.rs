//! `$(NAME)` in commands, arguments and values of variables.

/// Replaces `$(NAME)` by what `lookup` knows. `$$` stands for one `$`, so `$$(NAME)` stays `$(NAME)`; a name that nobody knows, a
/// reference without its end and any other `$` stay as they are.
pub fn expand<'a>(input: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(input.len());
    let mut rest = input;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let lookup = |name: &str| match name {
            "A" => Some("a"),
            "EMPTY" => Some(""),
            "REF" => Some("$(A)"),
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
            assert_eq!(expand(input, lookup), want, "{input}");
        }
    }
}
