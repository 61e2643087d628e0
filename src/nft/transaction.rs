//! A transaction: changes of one table that the kernel makes all at once or not at all. It only collects.

use super::objects::{Chain, Element, Name, Set, TableId};
use super::rule::Rule;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Makes the table unless it exists.
    AddTable {
        /// Shown by `nft list`.
        comment: Option<Name>,
    },
    /// Removes the table with all that it holds. Fails if there is none.
    DeleteTable,
    /// Makes a chain unless it exists.
    AddChain(Chain),
    /// Removes a chain and its rules. Fails if there is none, or if a rule or an element leads to it.
    DeleteChain(Name),
    /// Removes the rules of a chain.
    FlushChain(Name),
    /// Adds a rule at the end of a chain.
    AddRule {
        /// The chain.
        chain: Name,
        /// The rule.
        rule: Rule,
    },
    /// Removes the rule that the kernel gave this handle.
    DeleteRule {
        /// The chain.
        chain: Name,
        /// The kernel's number for the rule, unique in the table.
        handle: u64,
    },
    /// Makes a set or map unless it exists.
    AddSet(Set),
    /// Removes a set or map and its elements. Fails if there is none, or if a rule uses it.
    DeleteSet(Name),
    /// Removes the elements of a set or map.
    FlushSet(Name),
    /// Adds elements. One that exists with the same data is left as it is; with other data it makes the transaction fail.
    AddElements {
        /// Set or map.
        set: Name,
        /// What to add.
        elements: Vec<Element>,
    },
    /// Removes elements by their keys. Fails if one doesn't exist.
    DeleteElements {
        /// Set or map.
        set: Name,
        /// What to remove; only keys matter.
        elements: Vec<Element>,
    },
}

/// Changes of one table, in order: what a rule or element leads to must be added before it, and removed after it.
///
/// To begin with an empty table whatever there was: [`add_table`](Self::add_table), [`delete_table`](Self::delete_table),
/// [`add_table`](Self::add_table).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The table.
    pub table: TableId,
    /// The changes.
    pub ops: Vec<Op>,
}

impl Transaction {
    /// A transaction without changes.
    pub fn new(table: TableId) -> Self {
        Self { table, ops: Vec::new() }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// See [`Op::AddTable`].
    pub fn add_table(&mut self) {
        self.ops.push(Op::AddTable { comment: None });
    }

    /// See [`Op::AddTable`].
    pub fn add_table_with_comment(&mut self, comment: impl Into<Name>) {
        self.ops.push(Op::AddTable { comment: Some(comment.into()) });
    }

    /// See [`Op::DeleteTable`].
    pub fn delete_table(&mut self) {
        self.ops.push(Op::DeleteTable);
    }

    /// See [`Op::AddChain`].
    pub fn add_chain(&mut self, chain: Chain) {
        self.ops.push(Op::AddChain(chain));
    }

    /// See [`Op::DeleteChain`].
    pub fn delete_chain(&mut self, chain: impl Into<Name>) {
        self.ops.push(Op::DeleteChain(chain.into()));
    }

    /// See [`Op::FlushChain`].
    pub fn flush_chain(&mut self, chain: impl Into<Name>) {
        self.ops.push(Op::FlushChain(chain.into()));
    }

    /// See [`Op::AddRule`].
    pub fn add_rule(&mut self, chain: impl Into<Name>, rule: Rule) {
        self.ops.push(Op::AddRule { chain: chain.into(), rule });
    }

    /// See [`Op::DeleteRule`].
    pub fn delete_rule(&mut self, chain: impl Into<Name>, handle: u64) {
        self.ops.push(Op::DeleteRule { chain: chain.into(), handle });
    }

    /// See [`Op::AddSet`].
    pub fn add_set(&mut self, set: Set) {
        self.ops.push(Op::AddSet(set));
    }

    /// See [`Op::DeleteSet`].
    pub fn delete_set(&mut self, set: impl Into<Name>) {
        self.ops.push(Op::DeleteSet(set.into()));
    }

    /// See [`Op::FlushSet`].
    pub fn flush_set(&mut self, set: impl Into<Name>) {
        self.ops.push(Op::FlushSet(set.into()));
    }

    /// See [`Op::AddElements`]. Elements added one after the other to one set share one message.
    pub fn add_element(&mut self, set: &Name, element: Element) {
        match self.ops.last_mut() {
            Some(Op::AddElements { set: last, elements }) if last == set => elements.push(element),
            _ => self.ops.push(Op::AddElements { set: set.clone(), elements: vec![element] }),
        }
    }

    /// See [`Op::DeleteElements`]. Elements removed one after the other from one set share one message.
    pub fn delete_element(&mut self, set: &Name, element: Element) {
        match self.ops.last_mut() {
            Some(Op::DeleteElements { set: last, elements }) if last == set => elements.push(element),
            _ => self.ops.push(Op::DeleteElements { set: set.clone(), elements: vec![element] }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::objects::Family;
    use super::super::value::{Concat, Value};
    use super::*;

    #[test]
    fn neighbouring_elements_of_one_set_share_one_op() {
        let mut tx = Transaction::new(TableId::new(Family::Ip, "t"));
        let (a, b): (Name, Name) = ("a".into(), "b".into());
        let element = |port| Element::key(Concat::of(&[Value::Port(port)]));
        tx.add_element(&a, element(1));
        tx.add_element(&a, element(2));
        tx.add_element(&b, element(3));
        tx.delete_element(&b, element(4));
        tx.add_element(&a, element(5));
        let sizes: Vec<_> = tx
            .ops
            .iter()
            .map(|op| match op {
                Op::AddElements { set, elements } => (set.to_string(), elements.len()),
                Op::DeleteElements { set, elements } => (format!("-{set}"), elements.len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(sizes, [("a".to_owned(), 2), ("b".to_owned(), 1), ("-b".to_owned(), 1), ("a".to_owned(), 1)]);
    }
}
