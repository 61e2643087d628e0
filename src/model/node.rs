//! What the machine is, as the other rooms need to know it.

use std::net::IpAddr;

/// Facts about this node that don't change while the agent runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// The Node object's name.
    pub name: String,
    /// Node addresses, primary family first, at most one a family.
    pub ips: Vec<IpAddr>,
    /// Capacity.
    pub capacity: Totals,
    /// Capacity less what is reserved and the hard eviction thresholds.
    pub allocatable: Totals,
    /// Whether the host has the unified cgroup hierarchy with its controllers (cgroup v2).
    pub cgroup_v2: bool,
}

/// Resource totals in base units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Thousandths of a CPU.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes on the root directory's file system.
    pub ephemeral_storage: i64,
    /// Number of pods.
    pub pods: i64,
}
