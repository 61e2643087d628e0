//! Lists of CPUs as the kernel writes them: `0-3,8`.

/// How many CPUs a list names, each counted once; `None` when it is no list.
pub(super) fn count(text: &str) -> Option<u64> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.parse::<u32>().ok()?, to.parse::<u32>().ok()?);
        (from <= to).then_some((u64::from(from), u64::from(to)))
    };
    let mut ranges: Vec<(u64, u64)> = text.split(',').map(range).collect::<Option<_>>()?;
    ranges.sort_unstable();
    let (mut count, mut next) = (0, 0);
    for (from, to) in ranges {
        let from = from.max(next);
        count += (to + 1).saturating_sub(from);
        next = next.max(to + 1);
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let table = [
            ("0", Some(1)),
            ("0-3,8", Some(5)),
            ("2-3,0-2", Some(4)),
            ("1,1,1", Some(1)),
            ("0-4294967295", Some(1 << 32)),
            ("3-0", None),
            ("", None),
            ("a", None),
        ];
        for (text, want) in table {
            assert_eq!(count(text), want, "{text:?}");
        }
    }
}
