//! What the node is short of, as the one room that watches says and others heed.

use std::collections::BTreeSet;

use tokio::sync::watch;

/// A condition of the node that keeps pods away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pressure {
    /// MemoryPressure.
    Memory,
    /// DiskPressure.
    Disk,
    /// PIDPressure.
    Pid,
}

impl Pressure {
    /// The condition's type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "MemoryPressure",
            Self::Disk => "DiskPressure",
            Self::Pid => "PIDPressure",
        }
    }
}

/// The conditions that hold. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Pressures(watch::Sender<BTreeSet<Pressure>>);

impl Pressures {
    /// Says which conditions hold now.
    pub fn set(&self, now: BTreeSet<Pressure>) {
        self.0.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
    }

    /// The conditions that hold.
    pub fn now(&self) -> BTreeSet<Pressure> {
        self.0.borrow().clone()
    }

    /// Told of each change.
    pub(super) fn subscribe(&self) -> watch::Receiver<BTreeSet<Pressure>> {
        self.0.subscribe()
    }
}
