//! `kubelet-rs cleanup`: takes away what programs Services on this host, for nodes that are given to somebody else.

use crate::iptables::{self, Iptables};
use crate::nft::{Error, Family, Netfilter, TableId, Transaction};

use super::iptables::{PREFIX, removal};
use super::ruleset::TABLE;

/// The tables of kube-proxy's nftables mode: the agent takes its place, and what it left would go on deciding.
const KUBE_PROXY: &str = "kube-proxy";

/// Removes the tables of this agent (`own`) and of kube-proxy's nftables mode. Returns what was removed. Connections that stand go on.
pub async fn tables(netfilter: &mut impl Netfilter, own: bool, kube_proxy: bool) -> Result<Vec<String>, Error> {
    let mut removed = Vec::new();
    for name in [(own, TABLE), (kube_proxy, KUBE_PROXY)].into_iter().filter_map(|(goes, name)| goes.then_some(name)) {
        for family in [Family::Ip, Family::Ip6] {
            let table = TableId::new(family, name);
            if netfilter.table(&table).await?.is_some() {
                let mut transaction = Transaction::new(table.clone());
                transaction.delete_table();
                netfilter.apply(&transaction).await?;
                removed.push(format!("table {table}"));
            }
        }
    }
    Ok(removed)
}

/// Removes the rules of iptables mode, this agent's or kube-proxy's. What belongs to kubelet stays. Returns what was removed.
pub async fn rules(iptables: &mut impl Iptables, families: &[Family]) -> Result<Vec<String>, iptables::Error> {
    let mut removed = Vec::new();
    for family in families {
        let restore = removal(&iptables.saved(*family, PREFIX).await?);
        if !restore.is_empty() {
            iptables.restore(*family, &restore).await?;
            removed.push(format!("rules in iptables for {family}"));
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::Fake;

    #[tokio::test]
    async fn only_tables_of_services_go() {
        let mut fake = Fake::new();
        for (family, name) in [(Family::Ip, "kubelet-rs"), (Family::Ip6, "kube-proxy"), (Family::Ip, "firewall")] {
            let mut transaction = Transaction::new(TableId::new(family, name));
            transaction.add_table();
            fake.apply(&transaction).await.unwrap();
        }
        assert_eq!(tables(&mut fake, false, true).await.unwrap(), ["table ip6 kube-proxy"]);
        assert_eq!(tables(&mut fake, true, false).await.unwrap(), ["table ip kubelet-rs"]);
        assert!(fake.dump().starts_with("table ip firewall {"), "{}", fake.dump());
        assert_eq!(tables(&mut fake, true, true).await.unwrap(), [""; 0]);
    }

    /// What kube-proxy and a kubelet leave, with rules of somebody else around.
    #[tokio::test]
    async fn only_rules_of_services_go() {
        use iptables::{Restore, Table};
        let mut fake = iptables::Fake::default();
        let mut restore = Restore::default();
        for chain in ["KUBE-SERVICES", "KUBE-SVC-ABC", "KUBE-SEP-ABC", "KUBE-PROXY-CANARY", "KUBE-KUBELET-CANARY", "CNI-HOSTPORT"] {
            restore.chain(Table::Nat, chain);
        }
        restore.insert(Table::Nat, "PREROUTING", "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES");
        restore.insert(Table::Nat, "PREROUTING", "-j CNI-HOSTPORT");
        restore.rule(Table::Nat, "KUBE-SERVICES", "-j KUBE-SVC-ABC");
        restore.rule(Table::Nat, "KUBE-SVC-ABC", "-j KUBE-SEP-ABC");
        restore.chain(Table::Filter, "KUBE-FIREWALL");
        restore.insert(Table::Filter, "INPUT", "-j KUBE-FIREWALL");
        restore.chain(Table::Mangle, "KUBE-IPTABLES-HINT");
        fake.restore(Family::Ip, &restore).await.unwrap();
        assert_eq!(rules(&mut fake, &[Family::Ip, Family::Ip6]).await.unwrap(), ["rules in iptables for ip"]);
        assert_eq!(
            fake.dump(Family::Ip),
            "*filter\n:INPUT - [0:0]\n:KUBE-FIREWALL - [0:0]\n-A INPUT -j KUBE-FIREWALL\nCOMMIT\n\
             *mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n\
             *nat\n:CNI-HOSTPORT - [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\n:PREROUTING - [0:0]\n-A PREROUTING -j CNI-HOSTPORT\nCOMMIT\n"
        );
        assert_eq!(rules(&mut fake, &[Family::Ip]).await.unwrap(), [""; 0]);
    }

    /// A network plugin marks its packets with kube-proxy's chain.
    #[tokio::test]
    async fn what_others_use_stays() {
        use iptables::{Restore, Table};
        let mut fake = iptables::Fake::default();
        let mut restore = Restore::default();
        for chain in ["KUBE-SERVICES", "KUBE-MARK-MASQ", "KUBE-POSTROUTING", "KUBE-SVC-ABC", "CNI-SETMARK"] {
            restore.chain(Table::Nat, chain);
        }
        restore.insert(Table::Nat, "OUTPUT", "-j KUBE-SERVICES");
        restore.insert(Table::Nat, "POSTROUTING", "-j KUBE-POSTROUTING");
        restore.rule(Table::Nat, "KUBE-SVC-ABC", "-j KUBE-MARK-MASQ");
        restore.rule(Table::Nat, "CNI-SETMARK", "-j KUBE-MARK-MASQ");
        fake.restore(Family::Ip, &restore).await.unwrap();
        assert_eq!(rules(&mut fake, &[Family::Ip]).await.unwrap().len(), 1);
        let left = fake.dump(Family::Ip);
        for line in ["-A CNI-SETMARK -j KUBE-MARK-MASQ", "-A POSTROUTING -j KUBE-POSTROUTING", ":KUBE-MARK-MASQ - [0:0]"] {
            assert!(left.lines().any(|got| got == line), "{line}\n{left}");
        }
        assert!(!left.contains("KUBE-SERVICES") && !left.contains("KUBE-SVC-ABC"), "{left}");
    }
}
