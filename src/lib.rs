//! kubelet-rs: one daemon that takes the place of kubelet and kube-proxy on a Kubernetes node.
//!
//! The rooms, in the order in which data flows through them (see `docs/ARCHITECTURE.md`):
//! [`config`] and [`model`] are pure; [`api`] talks to the API server; [`pods`] decides what must run;
//! [`runtime`], [`volumes`], [`resources`] and [`network`] carry it out; [`node`] reports about the machine;
//! [`proxy`] turns Services into [`nft`] transactions, or rules of [`iptables`]; [`server`] answers the API server's own calls.

pub mod api;
pub mod app;
pub mod config;
pub mod eviction;
#[cfg(any(test, feature = "fakes"))]
pub mod inject;
pub mod iptables;
pub mod model;
pub mod network;
pub mod nft;
pub mod node;
pub mod pods;
pub mod proxy;
pub mod resources;
pub mod runtime;
pub mod server;
pub mod sys;
pub mod volumes;
