//! Finds the word that somebody probably meant.

/// The known word that differs least from `given`, if it is close enough to be a slip.
pub(super) fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = given.to_ascii_lowercase();
    let limit = (given.len() / 3).clamp(1, 4);
    known
        .map(|word| (distance(&lower, &word.to_ascii_lowercase()), word))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, word)| word)
}

/// Number of letters to insert, drop or change (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, above) in b.bytes().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(x != y)).min(above + 1).min(left + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let known = ["clusterDNS", "clusterDomain", "maxPods", "port"];
        let find = |word| nearest(word, known.into_iter());
        assert_eq!(find("clusterDns"), Some("clusterDNS"));
        assert_eq!(find("maxPod"), Some("maxPods"));
        assert_eq!(find("clustreDomain"), Some("clusterDomain"));
        assert_eq!(find("port"), Some("port"));
        assert_eq!(find("evictionHard"), None);
        assert_eq!(find(""), None);
    }
}
