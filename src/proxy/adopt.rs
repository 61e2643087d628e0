//! Taking over tables that stand: after a restart, and after anything went wrong. Pure.
//!
//! What the kernel holds is compared with what must be there, element by element: what is right stays untouched, so that no connection
//! notices. Fixed rules are written anew in the same transaction, whatever somebody made of them. Only a table whose chains or sets are
//! of another shape (another version's) is replaced as a whole, and that too at once.

use std::collections::HashMap;

use crate::nft::{Concat, Data, Element, Family, Name, SetState, TableState, Transaction};

use super::chain::ChainId;
use super::frontend::Backend;
use super::piece::{Piece, SetId, Slot};
use super::plan::{Plan, Programmed, Standing};
use super::ruleset;

/// The elements of a family's table, by set; empty if there is no table to keep.
#[derive(Debug)]
pub struct Observed {
    /// The table's family.
    pub family: Family,
    /// How the table must be brought up.
    pub table: Table,
    /// The elements of sets that exist.
    pub elements: HashMap<SetId, Vec<Element>>,
    /// The shared chains that exist.
    pub chains: Vec<ChainId>,
}

/// What is known about a table before it is programmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// There is none, or one with chains and sets as they must be: adding what is missing is enough.
    Fits,
    /// It can't be kept.
    Replace,
}

impl Table {
    /// Judges what stands.
    pub fn judge(family: Family, state: &TableState) -> Self {
        let fixed = ruleset::chains();
        let chain_fits =
            |chain: &crate::nft::Chain| fixed.contains(chain) || (chain.hook.is_none() && ChainId::parse(&chain.name).is_some());
        let set_fits = |set: &SetState| match set {
            SetState::Known(set) => {
                let shape = |set: &crate::nft::Set| (set.name.clone(), set.key.clone(), set.kind.clone(), set.learns);
                SetId::ALL.iter().any(|id| shape(&id.set(family)) == shape(set))
            }
            SetState::Foreign(_) => false,
        };
        let fits = state.chains.iter().all(|c| chain_fits(&c.chain)) && state.sets.iter().all(set_fits);
        if fits { Self::Fits } else { Self::Replace }
    }
}

/// The places of endpoints as they stand.
pub fn standing(observed: &Observed) -> Standing {
    let mut places: HashMap<_, [Vec<(u32, Backend)>; 2]> = HashMap::new();
    for set in SetId::PLACES {
        for element in observed.elements.get(&set).into_iter().flatten() {
            if let Some(Piece::Place(Slot { frontend, local, place }, ip, port)) = Piece::read_place(set, observed.family, element) {
                let [main, of_this_node] = places.entry(frontend).or_default();
                if local { of_this_node } else { main }.push((place, Backend { ip, port, local }));
            }
        }
    }
    let dense = |mut list: Vec<(u32, Backend)>| -> Vec<Backend> {
        list.sort_unstable();
        // Places come without gaps. Should one be missing, those behind it just move up, and the comparison puts that right.
        list.into_iter().map(|(_, backend)| backend).collect()
    };
    places.into_iter().map(|(frontend, lists)| (frontend, lists.map(dense))).collect()
}

/// The transaction that makes a table what it must be. `wanted` comes from [`Programmed::build`]; elements of places and chains that no
/// verdict will lead to any more are left to `programmed`, which removes them with a later plan.
pub fn transaction(observed: Observed, wanted: &Plan, programmed: &mut Programmed) -> Transaction {
    let Observed { family, table, mut elements, chains } = observed;
    let mut tx = Transaction::new(ruleset::table(family));
    if table == Table::Replace {
        tx.add_table();
        tx.delete_table();
        elements.clear();
    } else {
        chains.into_iter().for_each(|chain| programmed.add_idle(chain));
    }
    ruleset::add_skeleton(&mut tx, programmed.terms());
    wanted.chains.iter().for_each(|new| ruleset::add_chain(&mut tx, new, programmed.terms()));
    for set in SetId::ALL.into_iter().filter(|set| set.is_programmed()) {
        let mut standing: HashMap<Concat, Data> =
            elements.remove(&set).into_iter().flatten().map(|element| (element.key, element.data)).collect();
        let (mut deletes, mut adds) = (Vec::new(), Vec::new());
        for piece in wanted.adds.iter().filter(|p| p.family() == family && p.set() == set) {
            let element = piece.element();
            match standing.remove(&element.key) {
                Some(data) if data == element.data => {}
                Some(_) => {
                    deletes.push(Element::key(element.key.clone()));
                    adds.push(element);
                }
                None => adds.push(element),
            }
        }
        for (key, data) in standing {
            let element = Element { key, data, comment: None };
            match Piece::read_place(set, family, &element) {
                Some(Piece::Place(slot, ip, port)) => programmed.add_leftover(slot, (ip, port)),
                _ => deletes.push(Element::key(element.key)),
            }
        }
        let name: Name = set.name().into();
        deletes.into_iter().for_each(|element| tx.delete_element(&name, element));
        adds.into_iter().for_each(|element| tx.add_element(&name, element));
    }
    tx
}
