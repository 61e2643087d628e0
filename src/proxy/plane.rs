//! What Services are programmed in: the kernel's nftables, or iptables through its programs.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::nft::Family;

use super::affinity::Stays;
use super::conntrack::UdpFlows;
use super::plan::{Plan, Programmed};
use super::terms::Terms;
use super::tracker::Tracker;

/// Why Services could not be programmed.
pub trait Trouble: fmt::Display + Send {
    /// Whether the host as it is can't do it: nothing that is tried again soon helps.
    fn is_of_host(&self) -> bool;
}

/// What stands after a family was read and put right.
#[derive(Debug)]
pub struct Adopted {
    /// What is programmed.
    pub programmed: Programmed,
    /// Frontends whose UDP flows may have to be looked at.
    pub flows: Vec<UdpFlows>,
    /// A line for the log.
    pub text: String,
}

/// Takes what is planned. Each family is on its own.
pub trait DataPlane: Send {
    /// What can go wrong.
    type Error: Trouble;

    /// Reads what stands in a family and makes it what it must be for all Services. `holes` are ports of the node that load balancers ask.
    fn adopt(
        &mut self,
        family: Family,
        tracker: &Tracker,
        terms: Arc<Terms>,
        holes: &[u16],
    ) -> impl Future<Output = Result<Adopted, Self::Error>> + Send;

    /// Makes a change, as a whole or not at all. `programmed` is what stands afterwards.
    fn change(
        &mut self,
        family: Family,
        plan: &Plan,
        programmed: &Programmed,
        holes: &[u16],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Lets clients go whose endpoint is gone. A failure is logged.
    fn forget(&mut self, family: Family, stays: &[Stays]) -> impl Future<Output = ()> + Send;

    /// Stops listening to what others do: everything will be read now.
    fn unwatch(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Listens to what others do. True if somebody made changes since [`Self::unwatch`].
    fn watch(&mut self, families: Vec<Family>) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Returns when somebody else changed what is ours, and says where; with `None` when that isn't known. May be dropped at any time.
    fn disturbed(&mut self) -> impl Future<Output = Option<String>> + Send;
}
