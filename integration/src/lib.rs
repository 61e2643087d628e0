//! The lab: real etcd, control plane, containerd, runc and CNI plugins on one machine, each node in namespaces of its own, with
//! kubelet-rs or upstream's kubelet and kube-proxy as the nodes' agent. Tests, demo and benchmarks use it.
//!
//! What comes in: the programs and images that `setup.sh` made. What goes out: a [`Lab`] with a client, `kubectl`, and handles to
//! end and start its parts. It owns one folder (see [`leftovers`]), its namespaces and its control groups. Nothing survives it but
//! logs, unless it is kept on purpose; nothing outside of these is touched, so many labs run side by side.

pub mod agent;
pub mod bench;
pub mod cgroups;
pub mod client;
pub mod conformance;
pub mod control_plane;
pub mod demo;
pub mod dns;
pub mod error;
pub mod fixture;
pub mod lab;
pub mod leftovers;
pub mod net;
pub mod network;
pub mod node;
pub mod objects;
pub mod pki;
pub mod place;
pub mod process;
pub mod tools;
pub mod traffic;

pub use agent::Agent;
pub use error::{Error, Result};
pub use lab::Lab;
