//! `kubelet-rs cleanup`: takes away what programs Services on this host, for nodes that are given to somebody else.

use crate::nft::{Error, Family, Netfilter, TableId, Transaction};

use super::ruleset::TABLE;

/// The tables of kube-proxy's nftables mode: the agent takes its place, and what it left would go on deciding.
const KUBE_PROXY: &str = "kube-proxy";

/// Removes the tables of this agent and of kube-proxy's nftables mode. Returns what was removed. Connections that stand go on.
pub async fn cleanup(netfilter: &mut impl Netfilter) -> Result<Vec<TableId>, Error> {
    let mut removed = Vec::new();
    for name in [TABLE, KUBE_PROXY] {
        for family in [Family::Ip, Family::Ip6] {
            let table = TableId::new(family, name);
            if netfilter.table(&table).await?.is_some() {
                let mut transaction = Transaction::new(table.clone());
                transaction.delete_table();
                netfilter.apply(&transaction).await?;
                removed.push(table);
            }
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
        let removed = cleanup(&mut fake).await.unwrap();
        assert_eq!(removed.iter().map(ToString::to_string).collect::<Vec<_>>(), ["ip kubelet-rs", "ip6 kube-proxy"]);
        assert!(fake.dump().starts_with("table ip firewall {"), "{}", fake.dump());
        assert_eq!(cleanup(&mut fake).await.unwrap(), []);
    }
}
