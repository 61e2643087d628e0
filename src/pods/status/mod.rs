//! Pod statuses: computed by pure functions, written by one task.
//!
//! In: what a worker sees. Out: patches of `pods/status`. Owns (in [`writer`]): the last status sent for each pod. Survives a
//! restart: the status in the API server, from which the next one is computed.

pub mod compute;
mod conditions;
mod containers;
mod own_resources;
mod patch;
mod phase;
#[cfg(test)]
mod tests;
mod urgency;
pub mod writer;

pub use compute::{Inputs, compute};
pub use conditions::{foreign_conditions, replace_foreign_conditions};
pub use containers::RESTARTING_ALL;
pub use urgency::{new_crash_loops, urgency};
pub use writer::{Urgency, Writer};
