//! iptables in memory.

#![cfg(any(test, feature = "fakes"))]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::nft::Family;

use super::restore::{Restore, Table};
use super::saved::{Reader, Saved};
use super::{Error, Iptables};

type Chains = BTreeMap<String, Vec<String>>;

/// Keeps what it was given. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Fake(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<(Family, Table), Chains>,
    texts: Vec<String>,
    broken: Option<String>,
}

impl Fake {
    /// What stands, as `iptables-save` would say it.
    pub fn dump(&self, family: Family) -> String {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::new();
        for ((_, table), chains) in state.tables.iter().filter(|((of, _), _)| *of == family) {
            out.push_str(&format!("*{table}\n"));
            chains.keys().for_each(|chain| out.push_str(&format!(":{chain} - [0:0]\n")));
            chains.iter().flat_map(|(chain, rules)| rules.iter().map(move |rule| (chain, rule))).for_each(|(chain, rule)| {
                out.push_str(&format!("-A {chain} {rule}\n"));
            });
            out.push_str("COMMIT\n");
        }
        out
    }

    /// The texts that it took since this was asked last.
    pub fn take_texts(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).texts)
    }

    /// From now on everything fails with this; with `None` nothing does.
    pub fn break_with(&self, reason: Option<&str>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).broken = reason.map(str::to_owned);
    }

    /// Forgets everything, as somebody's `iptables -F; iptables -X` does.
    pub fn flush(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).tables.clear();
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> Result<T, String>) -> Result<T, Error> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let result = match &state.broken {
            Some(reason) => Err(reason.clone()),
            None => act(&mut state),
        };
        result.map_err(|reason| Error::Failed { doing: "fake".into(), reason })
    }
}

const BUILT_IN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

/// Carries one line out, as strictly as the program.
fn apply(chains: &mut Chains, line: &str) -> Result<(), String> {
    if let Some(name) = line.strip_prefix(':').and_then(|rest| rest.split_whitespace().next()) {
        chains.insert(name.to_owned(), vec![]);
        return Ok(());
    }
    let (verb, rest) = line.split_once(' ').ok_or("no verb")?;
    let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
    if BUILT_IN.contains(&chain) {
        chains.entry(chain.to_owned()).or_default();
    }
    if let Some(to) = super::saved::target(rule).filter(|to| to.contains('-') && verb != "-D")
        && !chains.contains_key(to)
    {
        return Err(format!("{line}: no chain {to}"));
    }
    if verb == "-X" && chains.values().flatten().any(|rule| super::saved::target(rule) == Some(chain)) {
        return Err(format!("{line}: in use"));
    }
    let rules = chains.get_mut(chain).ok_or_else(|| format!("{line}: no chain {chain}"))?;
    match verb {
        "-A" => rules.push(rule.to_owned()),
        "-I" => rules.insert(0, rule.strip_prefix("1 ").unwrap_or(rule).to_owned()),
        "-D" => {
            let at = rules.iter().position(|standing| standing == rule).ok_or_else(|| format!("{line}: no such rule"))?;
            rules.remove(at);
        }
        "-X" => drop(chains.remove(chain)),
        _ => return Err(format!("{line}: what?")),
    }
    Ok(())
}

impl Iptables for Fake {
    async fn restore(&mut self, family: Family, restore: &Restore) -> Result<(), Error> {
        self.with(|state| {
            let text = restore.text();
            let mut tables = state.tables.clone();
            let mut table = None;
            for line in text.lines().filter(|line| *line != "COMMIT") {
                match line.strip_prefix('*') {
                    Some(name) => table = Table::ALL.into_iter().find(|table| table.name() == name),
                    None => apply(tables.entry((family, table.ok_or("no table")?)).or_default(), line)?,
                }
            }
            state.tables = tables;
            state.texts.push(text);
            Ok(())
        })
    }

    async fn saved(&mut self, family: Family, prefix: &str) -> Result<Saved, Error> {
        self.with(|_| Ok(()))?;
        let mut reader = Reader::new(prefix);
        self.dump(family).lines().for_each(|line| reader.line(line));
        Ok(reader.end())
    }

    async fn has_chain(&mut self, family: Family, table: Table, chain: &str) -> Result<bool, Error> {
        self.with(|state| Ok(state.tables.get(&(family, table)).is_some_and(|chains| chains.contains_key(chain))))
    }
}
