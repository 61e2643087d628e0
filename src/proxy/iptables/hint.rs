//! What kubelet itself keeps in iptables, whoever programs Services (`pkg/kubelet/kubelet_network_linux.go`).

use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, warn};

use crate::iptables::{Error, Iptables, Restore, Table};
use crate::nft::Family;

use super::skeleton::{PREFIX, fixed};

/// Tells other programs which flavour of iptables this host uses (KEP-3178).
const HINT: &str = "KUBE-IPTABLES-HINT";
/// Keeps addresses of localhost from coming in from outside.
const FIREWALL: &str = "KUBE-FIREWALL";
/// Gone when somebody removed everything.
const CANARY: &str = "KUBE-KUBELET-CANARY";
/// How often that is looked for, as upstream does.
const LOOK: Duration = Duration::from_secs(60);

/// Makes the chains, and makes them again when somebody removed them. Ends at once on a host without iptables: nobody there asks.
pub async fn keep(mut iptables: impl Iptables, families: Vec<Family>) {
    loop {
        for family in &families {
            match iptables.has_chain(*family, Table::Mangle, CANARY).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error @ Error::Missing { .. }) => {
                    debug!("no chains for other programs: {error}");
                    return;
                }
                Err(error) => debug!("can't tell whether chains for other programs stand: {error}"),
            }
            if let Err(error) = make(&mut iptables, *family).await {
                warn!("can't make the chains that tell other programs about iptables here ({HINT}, {FIREWALL}): {error}");
            }
        }
        sleep(LOOK).await;
    }
}

async fn make(iptables: &mut impl Iptables, family: Family) -> Result<(), Error> {
    let saved = iptables.saved(family, PREFIX).await?;
    let mut restore = Restore::default();
    restore.chain(Table::Mangle, HINT);
    restore.chain(Table::Mangle, CANARY);
    if let Some(rule) = martians(family) {
        fixed(&mut restore, Table::Filter, FIREWALL, &[rule]);
        for from in ["INPUT", "OUTPUT"] {
            if !saved.leads(Table::Filter, from, FIREWALL) {
                restore.insert(Table::Filter, from, &format!("-j {FIREWALL}"));
            }
        }
    }
    iptables.restore(family, &restore).await
}

/// Addresses of localhost come in from outside only by mistake or malice, once the kernel routes them (CVE-2020-8558).
fn martians(family: Family) -> Option<String> {
    let rule = "-m comment --comment \"block incoming localnet connections\" -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP";
    (family == Family::Ip).then(|| rule.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iptables::Fake;

    #[tokio::test(start_paused = true)]
    async fn the_chains_come_back() {
        let fake = Fake::default();
        let task = tokio::spawn(keep(fake.clone(), vec![Family::Ip, Family::Ip6]));
        sleep(Duration::from_secs(1)).await;
        let want = fake.dump(Family::Ip);
        assert!(want.contains(":KUBE-IPTABLES-HINT") && want.contains("-A INPUT -j KUBE-FIREWALL"), "{want}");
        assert!(fake.dump(Family::Ip6).contains(":KUBE-IPTABLES-HINT") && !fake.dump(Family::Ip6).contains("127.0.0.0"));
        fake.take_texts();
        sleep(LOOK * 3).await;
        assert_eq!(fake.take_texts().len(), 0, "nothing is written while it stands");
        fake.flush();
        sleep(LOOK).await;
        assert_eq!(fake.dump(Family::Ip), want);
        task.abort();
    }
}
