use super::*;
use k8s_openapi::api::core::v1::{PodDNSConfigOption, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

fn pod(policy: Option<&str>, host_network: bool, config: Option<PodDNSConfig>) -> Pod {
    Pod {
        metadata: ObjectMeta { namespace: Some("shop".into()), ..Default::default() },
        spec: Some(PodSpec {
            dns_policy: policy.map(str::to_owned),
            host_network: Some(host_network),
            dns_config: config,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn cluster() -> ClusterDns {
    ClusterDns { servers: vec!["10.96.0.10".parse().unwrap()], domain: "cluster.local".into() }
}

fn host() -> DnsSettings {
    DnsSettings { servers: vec!["192.0.2.1".into()], searches: vec!["lan".into()], options: vec!["rotate".into()] }
}

fn show(dns: &DnsConfig) -> String {
    format!("{} | {} | {}", dns.servers.join(" "), dns.searches.join(" "), dns.options.join(" "))
}

#[test]
fn policies() {
    let in_cluster = "10.96.0.10 | shop.svc.cluster.local svc.cluster.local cluster.local lan | ndots:5";
    let as_host = "192.0.2.1 | lan | rotate";
    for (policy, host_network, want) in [
        (None, false, in_cluster),
        (Some("ClusterFirst"), false, in_cluster),
        (None, true, as_host),
        (Some("ClusterFirst"), true, as_host),
        (Some("ClusterFirstWithHostNet"), true, in_cluster),
        (Some("Default"), false, as_host),
        (Some("None"), false, " |  | "),
        (Some("nonsense"), false, in_cluster),
    ] {
        let (dns, problems) = pod_dns(&pod(policy, host_network, None), &cluster(), Some(&host()), &[]);
        assert_eq!((show(&dns).as_str(), problems), (want, vec![]), "{policy:?} {host_network}");
    }
}

#[test]
fn without_a_cluster_service_the_host_answers_and_the_owner_is_told() {
    let (dns, problems) = pod_dns(&pod(None, false, None), &ClusterDns::default(), Some(&host()), &[]);
    assert_eq!(show(&dns), "192.0.2.1 | lan | rotate");
    assert_eq!(problems.iter().map(|p| p.reason).collect::<Vec<_>>(), ["MissingClusterDNS"]);
}

#[test]
fn without_a_host_file_pods_ask_the_loopback_address() {
    let ips: Vec<IpAddr> = vec!["fd00::1".parse().unwrap(), "10.0.0.1".parse().unwrap()];
    let default = pod(Some("Default"), false, None);
    assert_eq!(show(&pod_dns(&default, &cluster(), None, &ips).0), "::1 127.0.0.1 | . | ");
    assert_eq!(show(&pod_dns(&default, &cluster(), None, &[]).0), "127.0.0.1 | . | ");
    let in_cluster = pod_dns(&pod(None, false, None), &cluster(), None, &ips).0;
    assert_eq!(show(&in_cluster), "10.96.0.10 | shop.svc.cluster.local svc.cluster.local cluster.local | ndots:5");
}

#[test]
fn the_pods_own_settings_are_added_and_win() {
    let option = |name: &str, value: Option<&str>| PodDNSConfigOption { name: Some(name.into()), value: value.map(str::to_owned) };
    let own = PodDNSConfig {
        nameservers: Some(vec!["10.96.0.10".into(), "192.0.2.7".into()]),
        searches: Some(vec!["svc.cluster.local".into(), "example.org".into()]),
        options: Some(vec![option("ndots", Some("2")), option("edns0", None), PodDNSConfigOption::default()]),
    };
    let (dns, problems) = pod_dns(&pod(None, false, Some(own)), &cluster(), Some(&host()), &[]);
    let want = "10.96.0.10 192.0.2.7 | shop.svc.cluster.local svc.cluster.local cluster.local lan example.org | ndots:2 edns0";
    assert_eq!((show(&dns).as_str(), problems), (want, vec![]));
}

#[test]
fn what_no_resolver_can_hold_is_cut_and_told() {
    let none = |config| pod(Some("None"), false, Some(config));
    let names = |n: usize, len: usize| Some((0..n).map(|i| format!("{i:03}{}", "x".repeat(len - 3))).collect::<Vec<_>>());

    let servers = none(PodDNSConfig { nameservers: names(4, 5), ..Default::default() });
    let (dns, problems) = pod_dns(&servers, &cluster(), None, &[]);
    assert_eq!((dns.servers.len(), problems.len()), (3, 1));
    assert!(problems[0].message.ends_with("000xx 001xx 002xx"), "{problems:?}");

    for (count, length, kept) in
        [(32, 10, 32), (33, 10, 32), (1, 253, 1), (1, 254, 0), (8, 253, 8), (9, 253, 8), (32, 63, 32), (32, 64, 31)]
    {
        let searches = none(PodDNSConfig { searches: names(count, length), ..Default::default() });
        let (dns, problems) = pod_dns(&searches, &cluster(), None, &[]);
        assert_eq!((dns.searches.len(), problems.len()), (kept, usize::from(kept < count)), "{count} × {length}");
        assert!(dns.searches.join(" ").len() <= 2048);
    }
}
