//! Elements that several frontends share.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use super::piece::Piece;
use super::plan::Plan;

/// How many frontends need each key. Changes are collected and settled once, so that a key which one frontend gives up and another one
/// takes in the same step is not touched.
#[derive(Debug)]
pub struct Counts<K> {
    counts: HashMap<K, u32>,
    pending: BTreeMap<K, i64>,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self { counts: HashMap::new(), pending: BTreeMap::new() }
    }
}

impl<K: Copy + Eq + Hash + Ord> Counts<K> {
    /// Counts a key up or down.
    pub fn count(&mut self, key: K, by: i64) {
        *self.pending.entry(key).or_default() += by;
    }

    /// Adds to the plan the elements of keys that came into use or went out of it.
    pub fn settle(&mut self, plan: &mut Plan, piece: impl Fn(K) -> Piece) {
        for (key, by) in std::mem::take(&mut self.pending) {
            let before = self.counts.get(&key).copied().unwrap_or_default();
            match u32::try_from(i64::from(before) + by).unwrap_or_default() {
                0 => {
                    if self.counts.remove(&key).is_some() {
                        plan.deletes.push(piece(key));
                    }
                }
                after => {
                    if self.counts.insert(key, after).is_none() {
                        plan.adds.push(piece(key));
                    }
                }
            }
        }
    }
}
