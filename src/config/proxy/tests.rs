use super::*;
use crate::config::check;

fn read(document: Value) -> (ProxyConfiguration, Vec<String>) {
    let Value::Object(mut object) = document else { panic!("an object") };
    let mut problems = Vec::new();
    check::fields(&mut object, PROXY, "", &mut problems);
    let configuration = complete(object, &mut problems);
    (configuration, problems)
}

#[test]
fn nothing_said_means_what_upstream_means() {
    let (configuration, problems) = read(json!({}));
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(configuration, ProxyConfiguration::default());
    assert_eq!((configuration.healthz.to_string(), configuration.metrics.to_string()), ("0.0.0.0:10256".into(), "127.0.0.1:10249".into()));
    assert_eq!((configuration.masquerade_bit, configuration.masquerade_all), (14, false));
    assert_eq!(configuration.detect_local, DetectLocal::Ranges(vec![]));
    assert_eq!(configuration.node_ports, NodePorts::In(vec![]));
    assert_eq!(configuration.conntrack.tcp_established.as_secs(), 86_400);
    let configz = configuration.configz();
    assert_eq!(configz["kubeproxy.config.k8s.io"]["conntrack"]["min"], json!(131_072));
}

/// As in the ConfigMap `kube-system/kube-proxy` of a kubeadm cluster.
#[test]
fn what_kubeadm_writes() {
    let (configuration, problems) = read(json!({
        "bindAddress": "0.0.0.0", "bindAddressHardFail": false,
        "clientConnection": {"acceptContentTypes": "", "burst": 0, "contentType": "", "kubeconfig": "/var/lib/kube-proxy/kubeconfig.conf", "qps": 0},
        "clusterCIDR": "10.244.0.0/16,fd00:244::/48", "configSyncPeriod": "0s",
        "conntrack": {"maxPerCore": null, "min": null, "tcpBeLiberal": false, "tcpCloseWaitTimeout": null, "tcpEstablishedTimeout": null,
            "udpStreamTimeout": "0s", "udpTimeout": "0s"},
        "detectLocal": {"bridgeInterface": "", "interfaceNamePrefix": ""}, "detectLocalMode": "", "enableProfiling": false,
        "healthzBindAddress": "", "hostnameOverride": "",
        "iptables": {"localhostNodePorts": null, "masqueradeAll": false, "masqueradeBit": null, "minSyncPeriod": "0s", "syncPeriod": "0s"},
        "ipvs": {"excludeCIDRs": null, "minSyncPeriod": "0s", "scheduler": "", "strictARP": false, "syncPeriod": "0s", "tcpFinTimeout": "0s",
            "tcpTimeout": "0s", "udpTimeout": "0s"},
        "logging": {"flushFrequency": 0, "options": {"json": {"infoBufferSize": "0"}, "text": {"infoBufferSize": "0"}}, "verbosity": 0},
        "metricsBindAddress": "", "mode": "",
        "nftables": {"masqueradeAll": false, "masqueradeBit": null, "minSyncPeriod": "0s", "syncPeriod": "0s"},
        "nodePortAddresses": null, "oomScoreAdj": null, "portRange": "", "showHiddenMetricsForVersion": "",
        "winkernel": {"enableDSR": false, "forwardHealthCheckVip": false, "networkName": "", "rootHnsEndpointName": "", "sourceVip": ""},
    }));
    assert_eq!(problems, Vec::<String>::new());
    let ranges = ["10.244.0.0/16", "fd00:244::/48"].map(|range| range.parse().unwrap());
    assert_eq!(configuration.detect_local, DetectLocal::Ranges(ranges.to_vec()));
}

#[test]
fn each_setting_reaches_its_place() {
    let (c, problems) = read(json!({
        "mode": "nftables", "bindAddress": "::", "healthzBindAddress": "127.0.0.1", "metricsBindAddress": "[::1]:9000",
        "nftables": {"masqueradeAll": true, "masqueradeBit": 3}, "detectLocalMode": "InterfaceNamePrefix",
        "detectLocal": {"interfaceNamePrefix": "cali"}, "conntrack": {"udpTimeout": "90s", "maxPerCore": 0},
    }));
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!((c.healthz.to_string(), c.metrics.to_string()), ("127.0.0.1:10256".into(), "[::1]:9000".into()));
    assert_eq!((c.masquerade_all, c.masquerade_bit, c.node_ports), (true, 3, NodePorts::Primary));
    assert_eq!(c.detect_local, DetectLocal::Interface("cali*".into()));
    assert_eq!((c.conntrack.udp.as_secs(), c.conntrack.max_per_core), (90, 0));
}

#[test]
fn mistakes_are_all_named() {
    let (_, problems) = read(json!({
        "mode": "ipvs", "healthzBindAddress": "x:1", "metricsBindAddress": "127.0.0.1:0", "clusterCIDR": "10.0.0.0/8,10.1.0.0/16,x",
        "nodePortAddresses": ["primary", "10.0.0.1"], "iptables": {"masqueradeBit": 32}, "nftable": {},
        "featureGates": {"NoSuchGate": true},
    }));
    let text = problems.join("\n");
    for line in [
        "mode: ipvs is deprecated",
        "healthzBindAddress: \"x:1\" is no address with a port such as 0.0.0.0:10256",
        "metricsBindAddress: \"127.0.0.1:0\" is no address",
        "clusterCIDR: \"x\" is no range",
        "two ranges must be one of each family",
        "nodePortAddresses: primary must stand alone",
        "nodePortAddresses: \"10.0.0.1\" is no range",
        "iptables.masqueradeBit: expected a whole number from 0 to 31",
        "nftable: unknown field; did you mean \"nftables\"?",
        "NoSuchGate",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let (_, problems) = read(json!({"detectLocalMode": "BridgeInterface"}));
    assert!(problems[0].contains("detectLocal.bridgeInterface"), "{problems:?}");
}

#[test]
fn modes() {
    let mode = |document| read(document).0.mode;
    assert_eq!(mode(json!({})), Mode::Nftables);
    assert_eq!(mode(json!({"mode": "nftables"})), Mode::Nftables);
    assert_eq!(mode(json!({"mode": "iptables"})), Mode::Iptables { localhost_node_ports: true });
    assert_eq!(
        mode(json!({"mode": "iptables", "iptables": {"localhostNodePorts": false}})),
        Mode::Iptables { localhost_node_ports: false }
    );
}
