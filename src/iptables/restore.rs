//! What `iptables-restore` reads. Pure.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// A table of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// What is let through.
    Filter,
    /// What is marked.
    Mangle,
    /// What is rewritten.
    Nat,
}

impl Table {
    /// All that this room knows.
    pub const ALL: [Self; 3] = [Self::Filter, Self::Mangle, Self::Nat];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Mangle => "mangle",
            Self::Nat => "nat",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Changes, by table. Chains that aren't named stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restore(BTreeMap<Table, Part>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Part {
    /// Declarations: each makes a chain, or empties it.
    chains: String,
    rules: String,
    /// After everything else, when nothing leads there any more.
    removals: String,
}

impl Restore {
    /// Makes a chain, or empties it. The rules that follow are all that it will hold.
    pub fn chain(&mut self, table: Table, name: &str) {
        line(&mut self.part(table).chains, format_args!(":{name} - [0:0]"));
    }

    /// Adds a rule at the end of a chain.
    pub fn rule(&mut self, table: Table, chain: &str, rule: &str) {
        line(&mut self.part(table).rules, format_args!("-A {chain} {rule}"));
    }

    /// Puts a rule in front of those of a chain.
    pub fn insert(&mut self, table: Table, chain: &str, rule: &str) {
        line(&mut self.part(table).rules, format_args!("-I {chain} 1 {rule}"));
    }

    /// Takes away a rule that stands.
    pub fn delete(&mut self, table: Table, chain: &str, rule: &str) {
        line(&mut self.part(table).rules, format_args!("-D {chain} {rule}"));
    }

    /// Takes away a chain that stands.
    pub fn remove(&mut self, table: Table, name: &str) {
        // Emptied first: nothing but a rule of another one that goes may still lead to it.
        self.chain(table, name);
        line(&mut self.part(table).removals, format_args!("-X {name}"));
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many rules it adds to a table.
    pub fn rules(&self, table: Table) -> usize {
        self.0.get(&table).map_or(0, |part| part.rules.lines().count())
    }

    /// As the program reads it.
    pub fn text(&self) -> String {
        let mut out = String::with_capacity(self.0.values().map(|p| p.chains.len() + p.rules.len() + p.removals.len() + 16).sum());
        for (table, Part { chains, rules, removals }) in &self.0 {
            let _ = writeln!(out, "*{table}\n{chains}{rules}{removals}COMMIT");
        }
        out
    }

    fn part(&mut self, table: Table) -> &mut Part {
        self.0.entry(table).or_default()
    }
}

fn line(out: &mut String, args: fmt::Arguments<'_>) {
    // A String takes everything.
    let _ = writeln!(out, "{args}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_for_the_program() {
        let mut restore = Restore::default();
        assert!(restore.is_empty());
        restore.chain(Table::Nat, "A");
        restore.rule(Table::Nat, "A", "-j RETURN");
        restore.remove(Table::Nat, "OLD");
        restore.insert(Table::Nat, "OUTPUT", "-j A");
        restore.delete(Table::Filter, "INPUT", "-j OLD");
        assert_eq!(
            restore.text(),
            "*filter\n-D INPUT -j OLD\nCOMMIT\n\
             *nat\n:A - [0:0]\n:OLD - [0:0]\n-A A -j RETURN\n-I OUTPUT 1 -j A\n-X OLD\nCOMMIT\n"
        );
        assert_eq!((restore.rules(Table::Nat), restore.rules(Table::Mangle)), (2, 0));
    }
}
