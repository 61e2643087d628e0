//! iptables, through its own programs: texts that only collect, and what runs them.
//!
//! **In**: a [`Restore`], built by a caller that decides which chains must hold which rules.
//! **Out**: one run of `iptables-restore`, which takes each table as a whole or not at all; and which chains stand, read back.
//! **Owns**: nothing. **Survives a restart**: everything in the kernel; a caller finds it again with [`Iptables::saved`].
//!
//! The room knows nothing about Kubernetes. The programs are those of the host, so that its flavour of iptables (legacy or nf_tables) is
//! the one that everybody else on it uses.

mod fake;
mod programs;
mod restore;
mod saved;

use std::future::Future;

use crate::nft::Family;

#[cfg(any(test, feature = "fakes"))]
pub use fake::Fake;
pub use programs::Programs;
pub use restore::{Restore, Table};
pub use saved::{Saved, target};

/// Why iptables did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host has no such program, or no use for it.
    #[error("{doing}: {reason}; install iptables (apt install iptables), or set mode: nftables in KubeProxyConfiguration")]
    Missing {
        /// What was being done.
        doing: String,
        /// What the host says.
        reason: String,
    },
    /// It said no, or did not end.
    #[error("{doing}: {reason}")]
    Failed {
        /// What was being done.
        doing: String,
        /// What it said.
        reason: String,
    },
}

/// Takes rules and tells what stands.
pub trait Iptables: Send {
    /// Makes the changes of each table at once, or none of them.
    fn restore(&mut self, family: Family, restore: &Restore) -> impl Future<Output = Result<(), Error>> + Send;

    /// The chains whose names begin with `prefix`, and who jumps to them from chains of other names.
    fn saved(&mut self, family: Family, prefix: &str) -> impl Future<Output = Result<Saved, Error>> + Send;

    /// Whether a chain stands: cheap, whatever else there is.
    fn has_chain(&mut self, family: Family, table: Table, chain: &str) -> impl Future<Output = Result<bool, Error>> + Send;
}
