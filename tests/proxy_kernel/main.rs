//! The Service proxy with the real kernel and real packets: a host, pods and a client from outside, each in a network namespace of its
//! own. Needs root, `nft`, `ip`: without them the tests fail.

mod dice;
mod disturbed;
#[path = "../nft_kernel/host.rs"]
#[allow(dead_code, reason = "the tests of nft use the rest")]
mod host;
mod model;
mod packets;
mod place;
mod policies;
mod reference;
mod speed;
mod steady;
mod world;
