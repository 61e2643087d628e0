//! Words that every room shares: ids, quantities, QoS classes, resource sums, slim Services. Pure, no I/O.

pub mod base64;
pub mod clock;
pub mod downward;
pub mod hash;
pub mod ids;
pub mod node;
pub mod prefix;
pub mod qos;
pub mod quantity;
pub mod resources;
pub mod service;

pub use ids::{ContainerId, PodRef, PodUid, SandboxId};
