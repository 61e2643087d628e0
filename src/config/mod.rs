//! Configuration: flags, `KubeletConfiguration` files, drop-ins, validation, start-up checks of the host.
//!
//! In: the command line and files. Out: one [`Config`], complete and checked, or all that is wrong with it. Owns: nothing.
//! Survives a restart: the files.
//!
//! `schema.rs` lists upstream's fields once; `check.rs` compares documents with it, `defaults.rs` fills in what is open, `flags/` maps
//! flags to the same fields, `types.rs` is what other rooms read.

mod check;
mod cpu_list;
mod defaults;
mod document;
pub mod duration;
mod flags;
mod gated;
mod gates;
pub mod hostcheck;
mod labels;
mod load;
mod nearest;
mod options;
pub mod proxy;
mod schema;
mod threshold;
mod tls_names;
mod types;
mod unserved;
mod validate;
mod view;

use serde_json::{Value, json};

pub use load::{KUBERNETES_VERSION, load};
pub use options::Options;
pub use proxy::ProxyConfiguration;
pub use threshold::{Reserved, Threshold};
pub use types::*;

use crate::runtime::CgroupDriver;

/// All that the agent was told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The settings of config file, drop-ins and flags, with defaults filled in.
    pub kubelet: KubeletConfiguration,
    /// The settings of the Service proxy.
    pub proxy: ProxyConfiguration,
    /// Settings that only flags can give.
    pub options: Options,
    /// What was accepted although it has no effect or will go away, one line each: to be logged once.
    pub warnings: Vec<String>,
    /// The effective document as JSON text: a tenth of the memory of a tree.
    effective: Box<str>,
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Run the agent.
    Run(Box<Config>),
    /// Print this to standard output and exit with 0 (`--version`, `--help`).
    Print(String),
}

/// Why the agent can't be configured: everything that is wrong, one line each. The program ends with exit code 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct ConfigError {
    /// One line each, with the flag or the file and path that it is about.
    pub problems: Vec<String>,
}

impl Config {
    /// The body of `/configz`: `{"kubeletconfig": …}` with every field as it takes effect.
    pub fn configz(&self) -> Value {
        let mut document = serde_json::from_str::<Value>(&self.effective).unwrap_or_default();
        if let Value::Object(fields) = &mut document {
            let driver = match self.kubelet.cgroup_driver {
                CgroupDriver::Systemd => "systemd",
                CgroupDriver::Cgroupfs => "cgroupfs",
            };
            // The runtime may have overruled the file.
            fields.insert("cgroupDriver".to_owned(), json!(driver));
        }
        json!({"kubeletconfig": document})
    }
}

/// The configuration of an agent that was told nothing, with the file's safe defaults.
impl Default for Config {
    fn default() -> Self {
        let mut effective = serde_json::Map::new();
        defaults::fill(&mut effective);
        load::complete(effective).expect("the schema's own defaults are complete")
    }
}

#[cfg(test)]
mod tests;
