//! The Service proxy: turns Services and EndpointSlices into nftables transactions.
//!
//! **In**: two watches ([`crate::api::WatchEvent`]). **Out**: transactions on the tables `ip kubelet-rs` and `ip6 kubelet-rs`, deleted
//! conntrack entries of stale UDP flows, and the [`Catalog`] of Services, from which containers get their environment.
//!
//! ```text
//! watches ─▶ tracker ─▶ endpoints (pure) ─▶ plan (pure) ─▶ ruleset (pure) ─▶ sync ─▶ kernel
//! ```
//!
//! **Owns**: the only copy of Services and slices, and which endpoint stands at which place of which map (`plan`): a change is
//! computed from these, so its cost follows the change and not the number of Services. Nothing is listed in steady state.
//! **Survives a restart**: the tables. The next start reads them back (`adopt`), keeps every element that is right where it is, and
//! changes the rest in one transaction: no connection notices.

pub mod catalog;
pub mod conntrack;
mod counts;
pub mod endpoints;
pub mod frontend;
pub mod hostcheck;
pub mod piece;
pub mod plan;
pub mod ruleset;
#[cfg(test)]
mod testing;
pub mod tracker;

pub use catalog::Catalog;
