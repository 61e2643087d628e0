//! What `iptables-save` says of the chains that somebody asks for. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::restore::Table;

/// Chains of one prefix as they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Their names.
    pub chains: BTreeMap<Table, BTreeSet<String>>,
    /// Rules of chains of other names that lead to one of them: chain, and rule as it was written.
    pub jumps: BTreeMap<Table, Vec<(String, String)>>,
}

impl Saved {
    /// Whether a chain stands.
    pub fn has(&self, table: Table, chain: &str) -> bool {
        self.chains.get(&table).is_some_and(|chains| chains.contains(chain))
    }

    /// Whether a chain of another name leads to this one.
    pub fn leads(&self, table: Table, from: &str, to: &str) -> bool {
        let mut jumps = self.jumps.get(&table).into_iter().flatten();
        jumps.any(|(chain, rule)| chain == from && target(rule) == Some(to))
    }
}

/// Where a rule leads.
pub fn target(rule: &str) -> Option<&str> {
    let mut words = rule.split_whitespace().skip_while(|word| !matches!(*word, "-j" | "-g"));
    words.next()?;
    words.next()
}

/// Reads the program's output line by line.
#[derive(Debug)]
pub struct Reader<'a> {
    prefix: &'a str,
    table: Option<Table>,
    saved: Saved,
}

impl<'a> Reader<'a> {
    /// Keeps what concerns chains with this prefix.
    pub fn new(prefix: &'a str) -> Self {
        Self { prefix, table: None, saved: Saved::default() }
    }

    /// One line.
    pub fn line(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix('*') {
            self.table = Table::ALL.into_iter().find(|table| table.name() == name.trim());
            return;
        }
        let Some(table) = self.table else { return };
        if let Some(name) = line.strip_prefix(':').and_then(|rest| rest.split_whitespace().next()) {
            if name.starts_with(self.prefix) {
                self.saved.chains.entry(table).or_default().insert(name.to_owned());
            }
        } else if let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' '))
            && !chain.starts_with(self.prefix)
            && target(rule).is_some_and(|to| to.starts_with(self.prefix))
        {
            self.saved.jumps.entry(table).or_default().push((chain.to_owned(), rule.to_owned()));
        }
    }

    /// What was found.
    pub fn end(self) -> Saved {
        self.saved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_kept() {
        let mut reader = Reader::new("KUBE-");
        let text = "# Generated\n*nat\n:OUTPUT ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n:OTHER - [0:0]\n\
                    -A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n-A OUTPUT -j OTHER\n\
                    -A KUBE-SERVICES -j KUBE-NODEPORTS\nCOMMIT\n*raw\n:KUBE-RAW - [0:0]\nCOMMIT\n";
        text.lines().for_each(|line| reader.line(line));
        let saved = reader.end();
        assert!(saved.has(Table::Nat, "KUBE-SERVICES") && !saved.has(Table::Filter, "KUBE-SERVICES"));
        assert!(saved.leads(Table::Nat, "OUTPUT", "KUBE-SERVICES") && !saved.leads(Table::Nat, "PREROUTING", "KUBE-SERVICES"));
        assert_eq!((saved.chains.len(), saved.jumps[&Table::Nat].len()), (1, 1), "{saved:?}");
    }
}
