//! nftables with the real kernel, each test in a network namespace of its own. Needs root, `nft` and `ip`: without them the tests fail.

mod host;
mod large;
mod packets;
mod rulesets;
mod same_text;
mod trouble;
