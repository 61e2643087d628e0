//! From one proxy to another and from one mode to the other, while questions are asked without a pause: each one is answered.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use integration::error::Doing as _;
use integration::fixture::{ANSWER, SharedLab, served};
use integration::lab::PATIENCE;
use integration::place::Scope;
use integration::tools::kubelet_rs;
use integration::traffic::Traffic;
use integration::{Agent, Lab, Result};
use tokio::time::sleep;

static LAB: SharedLab = SharedLab::one_at_a_time(|| Lab::builder("hand-over").agent(Agent::Upstream));

/// What of Services stands on the node.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rules {
    /// Tables of nftables, without those of iptables.
    tables: Vec<String>,
    /// Whether there are rules of Services in iptables.
    iptables: bool,
}

impl Rules {
    fn of(names: &[&str], iptables: bool) -> Self {
        let mut tables: Vec<_> = names.iter().flat_map(|name| ["ip", "ip6"].map(|family| format!("table {family} {name}"))).collect();
        tables.sort();
        Self { tables, iptables }
    }

    fn read(lab: &Lab) -> Result<Self> {
        let tables = lab.on_node(0, "nft", &["list", "tables"])?;
        let mut tables: Vec<_> = tables.lines().filter(|line| line.contains(" kube")).map(str::to_owned).collect();
        tables.sort();
        let saved = lab.on_node(0, "iptables-save", &["-t", "nat"])? + &lab.on_node(0, "ip6tables-save", &["-t", "nat"])?;
        Ok(Self { tables, iptables: saved.contains(":KUBE-SERVICES") })
    }
}

/// Starts the node's agent in place of the one that runs, which gets no chance to tidy up, and waits for the rules that follow.
async fn replace(lab: &Lab, want: Rules) -> Result<()> {
    lab.node(0).kill_agent().await?;
    lab.node(0).start_agent().await?;
    let look = async || {
        let now = Rules::read(lab).map_err(|error| error.to_string())?;
        if now == want { Ok(()) } else { Err(format!("{now:?}")) }
    };
    lab.wait_for(&format!("{want:?}"), PATIENCE, look).await?;
    // What else may happen now must not disturb anybody either.
    sleep(Duration::from_secs(2)).await;
    lab.node(0).check().await
}

/// Writes another mode into the configuration of kubelet-rs.
fn set_mode(lab: &Lab, from: &str, to: &str) -> Result<()> {
    let file = lab.node(0).config();
    let text = std::fs::read_to_string(&file).doing(|| format!("reading {}", file.display()))?;
    let changed = text.replace(&format!("mode: {from}"), &format!("mode: {to}"));
    assert_ne!(text, changed);
    std::fs::write(&file, changed).doing(|| format!("writing {}", file.display()))
}

async fn proxy_mode(lab: &Lab) -> Result<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], 10249));
    lab.node(0).place().connector().http(address, "/proxyMode", ANSWER).await
}

#[test]
fn no_question_is_lost_from_one_proxy_to_another() {
    LAB.run("hand-over", async |lab, ns| {
        let address = served(lab, &ns).await?;
        let node = lab.node(0);
        let traffic = Traffic::start(&node.place().connector(), address);
        let binary = kubelet_rs()?;

        node.use_agent(&Agent::KubeletRs(binary.clone()), lab.tools())?;
        replace(lab, Rules::of(&["kubelet-rs"], false)).await?;
        assert_eq!(proxy_mode(lab).await?, "nftables");

        set_mode(lab, "nftables", "iptables")?;
        replace(lab, Rules::of(&[], true)).await?;
        assert_eq!(proxy_mode(lab).await?, "iptables");

        set_mode(lab, "iptables", "nftables")?;
        replace(lab, Rules::of(&["kubelet-rs"], false)).await?;

        // As the proxy alone, beside a Go kubelet. The tables are the same ones.
        node.use_agent(&Agent::Beside(binary.clone()), lab.tools())?;
        replace(lab, Rules::of(&["kubelet-rs"], false)).await?;
        assert_eq!(proxy_mode(lab).await?, "nftables");

        // kube-proxy knows nothing of our tables: whoever goes back to it removes them.
        node.use_agent(&Agent::Upstream, lab.tools())?;
        replace(lab, Rules::of(&["kube-proxy", "kubelet-rs"], false)).await?;
        clean_up(lab, &binary)?;
        lab.wait_for("kube-proxy's rules after the clean-up", PATIENCE, async || {
            let now = Rules::read(lab).map_err(|error| error.to_string())?;
            if now == Rules::of(&["kube-proxy"], false) { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await?;
        traffic.stop().await
    });
}

fn clean_up(lab: &Lab, binary: &Path) -> Result<()> {
    lab.node(0).place().run(Scope::Processes, &binary.display().to_string(), &["cleanup", "--own"], "").map(drop)
}
