//! Wire contracts of the node. Only the messages and fields that the agent uses are written down here.

pub mod health;

/// The container runtime interface, `runtime.v1`.
#[allow(missing_docs, clippy::all)]
pub mod cri {
    tonic::include_proto!("runtime.v1");

    impl std::fmt::Debug for AuthConfig {
        /// Credentials never reach a log.
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("AuthConfig").field("server_address", &self.server_address).finish_non_exhaustive()
        }
    }
}
