//! What pods get to know about names: resolv.conf, /etc/hosts, their own host name. Pure, but for reading the host's own files.
//!
//! In: pods, the cluster's DNS settings. Out: parts of sandbox configs and the contents of files. Owns: nothing. Survives a
//! restart: nothing; everything is computed again when a sandbox or container starts.

pub mod dns;
pub mod hostname;
pub mod hosts;
pub mod resolv_conf;
