//! Netlink encoding of transactions, and decoding of what the kernel answers. Pure: bytes in, bytes out.
//!
//! Numbers and names are those of `linux/netfilter/nf_tables.h` and `linux/netfilter/nfnetlink.h`.

pub mod attributes;
pub mod batch;
pub mod buffer;
pub mod consts;
pub mod decode;
pub mod statement;
pub mod types;
