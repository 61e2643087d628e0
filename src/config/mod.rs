//! Configuration: flags, `KubeletConfiguration` files, drop-ins, validation, start-up checks of the host.
//!
//! In: the command line and files. Out: one [`Config`], complete and checked. Owns: nothing. Survives a restart: the files.

pub mod duration;
mod options;
mod threshold;
mod types;

pub use options::Options;
pub use threshold::{Reserved, Threshold};
pub use types::*;

/// All that the agent was told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The settings of config file, drop-ins and flags, with defaults filled in.
    pub kubelet: KubeletConfiguration,
    /// Settings that only flags can give.
    pub options: Options,
    /// What was accepted although it has no effect or will go away, one line each: to be logged once.
    pub warnings: Vec<String>,
}
