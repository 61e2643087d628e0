//! Wire contracts of the node. Only the messages and fields that the agent uses are written down here.

/// The container runtime interface, `runtime.v1`.
#[allow(missing_docs, clippy::all)]
pub mod cri {
    tonic::include_proto!("runtime.v1");
}
