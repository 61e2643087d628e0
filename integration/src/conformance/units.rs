//! `systemctl` and `sudo` for a node without an init: what `e2e_node.test` calls to end the agent and to start it again.
//!
//! In: one file for each call, which a script in the suite's path writes. Out: the same as `systemctl` would have done, and the file
//! gone. containerd, which a unit would start again when it ends, is started again too.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Doing as _, Result};
use crate::node::Node;

/// The name that the agent's unit goes by: the suite looks for `kubelet-` and a word.
const UNIT: &str = "kubelet-lab";

/// The scripts and their calls.
#[derive(Debug)]
pub struct Units {
    folder: PathBuf,
}

impl Units {
    /// Writes the scripts.
    pub fn new(folder: PathBuf) -> Result<Self> {
        let units = Self { folder };
        let calls = units.calls();
        std::fs::create_dir_all(&calls).doing(|| format!("making {}", calls.display()))?;
        units.script("sudo", "exec \"$@\"\n")?;
        let calls = calls.display();
        units.script(
            "systemctl",
            &format!(
                "case $1 in
list-units) echo '{UNIT}.service loaded active running the agent of the lab' ;;
start|stop|restart|kill)
  echo \"$1\" >{calls}/.$$ && mv {calls}/.$$ {calls}/$$
  while [ -e {calls}/$$ ]; do sleep 0.05; done ;;
reset-failed|daemon-reload) ;;
*) echo \"systemctl $*: the lab knows no such call\" >&2; exit 1 ;;
esac
"
            ),
        )?;
        Ok(units)
    }

    /// What goes before the rest of `PATH`.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    fn calls(&self) -> PathBuf {
        self.folder.join("calls")
    }

    fn script(&self, name: &str, body: &str) -> Result<()> {
        let path = self.folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}")).doing(|| format!("writing {}", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).doing(|| format!("making {} executable", path.display()))
    }

    /// Does what was asked for since the last time.
    pub async fn serve(&self, node: &Node) -> Result<()> {
        let calls = self.calls();
        for entry in std::fs::read_dir(&calls).doing(|| format!("reading {}", calls.display()))? {
            let path = entry.doing(|| format!("reading {}", calls.display()))?.path();
            // One that is being written still.
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
                continue;
            }
            match std::fs::read_to_string(&path).doing(|| format!("reading {}", path.display()))?.trim() {
                "start" => node.start_agent().await?,
                "restart" => {
                    node.stop_agent().await?;
                    node.start_agent().await?;
                }
                _ => node.stop_agent().await?,
            }
            std::fs::remove_file(&path).doing(|| format!("removing {}", path.display()))?;
        }
        if !node.containerd_runs().await? {
            node.start_containerd().await?;
        }
        Ok(())
    }
}
