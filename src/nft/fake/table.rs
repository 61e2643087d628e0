//! One table of the fake, and what each change does to it.

use std::collections::BTreeMap;

use nix::errno::Errno;

use super::super::objects::{Chain, Data, DataType, Element, Name, Set, SetKind, TableId, Verdict};
use super::super::rule::{Rule, Statement};
use super::super::text;
use super::super::transaction::Op;
use super::super::value::Concat;

/// A table in memory.
#[derive(Clone, Debug, Default)]
pub struct Table {
    comment: Option<Name>,
    /// Chains in the order in which they were made, with their rules and the rules' handles.
    pub(super) chains: Vec<(Chain, Vec<(u64, Rule)>)>,
    /// Sets in the order in which they were made, with their elements.
    pub(super) sets: Vec<(Set, BTreeMap<Concat, Element>)>,
    last_handle: u64,
}

/// Makes one change. The error number is the kernel's for the same mistake.
pub fn apply(table: &mut Option<Table>, op: &Op) -> Result<(), Errno> {
    match op {
        Op::AddTable { comment } => {
            table.get_or_insert_with(|| Table { comment: comment.clone(), ..Table::default() });
            Ok(())
        }
        Op::DeleteTable => table.take().map(|_| ()).ok_or(Errno::ENOENT),
        op => table.as_mut().ok_or(Errno::ENOENT)?.change(op),
    }
}

impl Table {
    fn change(&mut self, op: &Op) -> Result<(), Errno> {
        match op {
            Op::AddTable { .. } | Op::DeleteTable => Ok(()),
            Op::AddChain(new) => match self.chains.iter().find(|(chain, _)| chain.name == new.name) {
                // Without a hook the kernel takes any chain of the name.
                Some((standing, _)) => ensure(new.hook.is_none() || standing.hook == new.hook, Errno::EEXIST),
                None => {
                    self.chains.push((new.clone(), Vec::new()));
                    Ok(())
                }
            },
            Op::DeleteChain(name) => {
                self.rules(name)?.clear();
                ensure(!self.leads_to_chain(name), Errno::EBUSY)?;
                self.chains.retain(|(chain, _)| chain.name != *name);
                Ok(())
            }
            Op::FlushChain(name) => {
                self.rules(name)?.clear();
                Ok(())
            }
            Op::AddRule { chain, rule } => {
                rule.statements.iter().try_for_each(|statement| self.references(statement))?;
                self.last_handle += 1;
                let handle = self.last_handle;
                self.rules(chain)?.push((handle, rule.clone()));
                Ok(())
            }
            Op::DeleteRule { chain, handle } => {
                let rules = self.rules(chain)?;
                let at = rules.iter().position(|(known, _)| known == handle).ok_or(Errno::ENOENT)?;
                rules.remove(at);
                Ok(())
            }
            Op::AddSet(new) => match self.sets.iter().find(|(set, _)| set.name == new.name) {
                Some((standing, _)) => {
                    ensure((&standing.key, &standing.kind, standing.learns) == (&new.key, &new.kind, new.learns), Errno::EEXIST)
                }
                None => {
                    self.sets.push((new.clone(), BTreeMap::new()));
                    Ok(())
                }
            },
            Op::DeleteSet(name) => {
                self.set(name)?;
                ensure(!self.uses_set(name), Errno::EBUSY)?;
                self.sets.retain(|(set, _)| set.name != *name);
                Ok(())
            }
            Op::FlushSet(name) => {
                self.set(name)?.1.clear();
                Ok(())
            }
            Op::AddElements { set, elements } => elements.iter().try_for_each(|element| self.add_element(set, element)),
            Op::DeleteElements { set, elements } => {
                let (set, standing) = self.set(set)?;
                let len = DataType::concat_len(&set.key);
                elements.iter().try_for_each(|element| {
                    ensure(element.key.as_bytes().len() == len, Errno::EINVAL)?;
                    standing.remove(&element.key).map(|_| ()).ok_or(Errno::ENOENT)
                })
            }
        }
    }

    fn add_element(&mut self, name: &str, element: &Element) -> Result<(), Errno> {
        if let Data::Verdict(verdict) = &element.data {
            self.target(verdict)?;
        }
        let (set, standing) = self.set(name)?;
        let fits = match (&set.kind, &element.data) {
            (SetKind::Set, Data::None) => true,
            (SetKind::VerdictMap, Data::Verdict(_)) => true,
            (SetKind::DataMap(parts), Data::Value(value)) => value.as_bytes().len() == DataType::concat_len(parts),
            _ => false,
        };
        ensure(fits && element.key.as_bytes().len() == DataType::concat_len(&set.key), Errno::EINVAL)?;
        match standing.get(&element.key) {
            Some(known) => ensure(known.data == element.data, Errno::EEXIST),
            None => {
                standing.insert(element.key.clone(), element.clone());
                Ok(())
            }
        }
    }

    /// A verdict may lead to any chain but one where packets enter.
    fn target(&self, verdict: &Verdict) -> Result<(), Errno> {
        let Some(target) = verdict.target() else { return Ok(()) };
        let (chain, _) = self.chains.iter().find(|(chain, _)| chain.name == *target).ok_or(Errno::ENOENT)?;
        ensure(chain.hook.is_none(), Errno::EOPNOTSUPP)
    }

    /// Checks that what a statement names is there and of the right kind.
    fn references(&self, statement: &Statement) -> Result<(), Errno> {
        let kind = |name: &Name| self.sets.iter().find(|(set, _)| set.name == *name).map(|(set, _)| &set.kind).ok_or(Errno::ENOENT);
        match statement {
            Statement::Verdict(verdict) => self.target(verdict),
            Statement::Lookup { set, .. } => kind(set).map(|_| ()),
            Statement::Vmap { map, .. } => ensure(*kind(map)? == SetKind::VerdictMap, Errno::EINVAL),
            Statement::DnatMap { map, .. } => ensure(matches!(kind(map)?, SetKind::DataMap(_)), Errno::EINVAL),
            Statement::Learn { map, .. } => {
                let learns = self.sets.iter().any(|(set, _)| set.name == *map && set.learns.is_some());
                ensure(matches!(kind(map)?, SetKind::DataMap(_)) && learns, Errno::EINVAL)
            }
            _ => Ok(()),
        }
    }

    fn leads_to_chain(&self, name: &Name) -> bool {
        let to = |verdict: &Verdict| verdict.target() == Some(name);
        let mut statements = self.chains.iter().flat_map(|(_, rules)| rules).flat_map(|(_, rule)| &rule.statements);
        let mut elements = self.sets.iter().flat_map(|(_, elements)| elements.values());
        statements.any(|statement| matches!(statement, Statement::Verdict(verdict) if to(verdict)))
            || elements.any(|element| matches!(&element.data, Data::Verdict(verdict) if to(verdict)))
    }

    fn uses_set(&self, name: &Name) -> bool {
        self.chains.iter().flat_map(|(_, rules)| rules).flat_map(|(_, rule)| &rule.statements).any(|statement| match statement {
            Statement::Lookup { set: used, .. }
            | Statement::Vmap { map: used, .. }
            | Statement::DnatMap { map: used, .. }
            | Statement::Learn { map: used, .. } => used == name,
            _ => false,
        })
    }

    fn rules(&mut self, name: &str) -> Result<&mut Vec<(u64, Rule)>, Errno> {
        self.chains.iter_mut().find(|(chain, _)| *chain.name == *name).map(|(_, rules)| rules).ok_or(Errno::ENOENT)
    }

    fn set(&mut self, name: &str) -> Result<&mut (Set, BTreeMap<Concat, Element>), Errno> {
        self.sets.iter_mut().find(|(set, _)| *set.name == *name).ok_or(Errno::ENOENT)
    }

    /// The table in the form of `nft list ruleset`.
    pub(super) fn dump(&self, id: &TableId) -> String {
        let mut blocks = Vec::new();
        for (set, elements) in &self.sets {
            let mut lines = vec![text::set_type(set)];
            lines.extend(text::set_flags(set));
            lines.extend(set.comment.as_ref().map(|comment| format!("comment \"{comment}\"")));
            if !elements.is_empty() {
                let elements: Vec<_> = elements.values().map(|element| text::element(set, element)).collect();
                lines.push(format!("elements = {{ {} }}", elements.join(",\n\t\t\t     ")));
            }
            blocks.push(block(&format!("{} {}", text::set_word(set), set.name), &lines));
        }
        for (chain, rules) in &self.chains {
            let hook = chain.hook.map(text::hook);
            let lines: Vec<_> = hook.into_iter().chain(rules.iter().map(|(_, rule)| text::rule(id.family, rule))).collect();
            blocks.push(block(&format!("chain {}", chain.name), &lines));
        }
        let comment = self.comment.as_ref().map(|comment| format!("\tcomment \"{comment}\"\n\n")).unwrap_or_default();
        format!("table {id} {{\n{comment}{}}}\n", blocks.join("\n"))
    }
}

fn block(head: &str, lines: &[String]) -> String {
    let body: String = lines.iter().map(|line| format!("\t\t{line}\n")).collect();
    format!("\t{head} {{\n{body}\t}}\n")
}

fn ensure(holds: bool, errno: Errno) -> Result<(), Errno> {
    if holds { Ok(()) } else { Err(errno) }
}
