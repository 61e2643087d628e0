//! Every field of upstream's `KubeProxyConfiguration` v1alpha1: its type, its range and its default.
//!
//! Source: k8s.io/kube-proxy/config/v1alpha1/types.go, pkg/proxy/apis/config/v1alpha1/defaults.go and pkg/proxy/apis/config/validation.

use super::super::schema::Kind::{Bool, Duration, Float, Int, Ip, List, Map, OneOf, Path, Struct, Text};
use super::super::schema::{Field, Kind, LOGGING, field};

const COUNT: Kind = Int(0, i32::MAX as i64);
const BIT: Kind = Int(0, 31);

/// The document's own fields, besides `kind` and `apiVersion`.
pub(in crate::config) static PROXY: &[Field] = &[
    field("featureGates", Map(&Bool)).or("{}"),
    field("clientConnection", Struct(CLIENT)).or("{}"),
    field("logging", Struct(LOGGING)).or("{}"),
    field("hostnameOverride", Text).or("\"\""),
    field("bindAddress", Ip).for_zero("\"0.0.0.0\""),
    field("healthzBindAddress", Text).or("\"\""),
    field("metricsBindAddress", Text).or("\"\""),
    field("bindAddressHardFail", Bool).or("false"),
    field("enableProfiling", Bool).or("false"),
    field("showHiddenMetricsForVersion", Text).or("\"\""),
    field("mode", OneOf(&["", "iptables", "ipvs", "nftables"])).or("\"\""),
    field("iptables", Struct(IPTABLES)).or("{}"),
    field("ipvs", Struct(IPVS)).or("{}"),
    field("nftables", Struct(NFTABLES)).or("{}"),
    field("winkernel", Struct(WINKERNEL)).or("{}"),
    field("detectLocalMode", OneOf(&["", "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"])).for_zero("\"ClusterCIDR\""),
    field("detectLocal", Struct(DETECT_LOCAL)).or("{}"),
    field("clusterCIDR", Text).or("\"\""),
    field("nodePortAddresses", List(&Text)).or("[]"),
    field("oomScoreAdj", Int(-1000, 1000)).or("-999"),
    field("conntrack", Struct(CONNTRACK)).or("{}"),
    field("configSyncPeriod", Duration).for_zero("\"15m0s\""),
    field("portRange", Text).or("\"\""),
    field("windowsRunAsService", Bool).or("false"),
];

const CLIENT: &[Field] = &[
    field("kubeconfig", Path).or("\"\""),
    field("acceptContentTypes", Text).or("\"\""),
    field("contentType", Text).for_zero("\"application/vnd.kubernetes.protobuf\""),
    field("qps", Float).for_zero("5"),
    field("burst", COUNT).for_zero("10"),
];

const IPTABLES: &[Field] = &[
    field("masqueradeBit", BIT).or("14"),
    field("masqueradeAll", Bool).or("false"),
    field("localhostNodePorts", Bool).or("true"),
    field("syncPeriod", Duration).for_zero("\"30s\""),
    field("minSyncPeriod", Duration).for_zero("\"1s\""),
];

const IPVS: &[Field] = &[
    field("syncPeriod", Duration).for_zero("\"30s\""),
    field("minSyncPeriod", Duration).or("\"0s\""),
    field("scheduler", Text).or("\"\""),
    field("excludeCIDRs", List(&Text)).or("[]"),
    field("strictARP", Bool).or("false"),
    field("tcpTimeout", Duration).or("\"0s\""),
    field("tcpFinTimeout", Duration).or("\"0s\""),
    field("udpTimeout", Duration).or("\"0s\""),
];

const NFTABLES: &[Field] = &[
    field("masqueradeBit", BIT).or("14"),
    field("masqueradeAll", Bool).or("false"),
    field("syncPeriod", Duration).for_zero("\"30s\""),
    field("minSyncPeriod", Duration).for_zero("\"1s\""),
];

const WINKERNEL: &[Field] = &[
    field("networkName", Text).or("\"\""),
    field("sourceVip", Text).or("\"\""),
    field("enableDSR", Bool).or("false"),
    field("rootHnsEndpointName", Text).or("\"\""),
    field("forwardHealthCheckVip", Bool).or("false"),
];

const DETECT_LOCAL: &[Field] = &[field("bridgeInterface", Text).or("\"\""), field("interfaceNamePrefix", Text).or("\"\"")];

const CONNTRACK: &[Field] = &[
    field("maxPerCore", COUNT).or("32768"),
    field("min", COUNT).or("131072"),
    field("tcpEstablishedTimeout", Duration).or("\"24h0m0s\""),
    field("tcpCloseWaitTimeout", Duration).or("\"1h0m0s\""),
    field("tcpBeLiberal", Bool).or("false"),
    field("udpTimeout", Duration).or("\"0s\""),
    field("udpStreamTimeout", Duration).or("\"0s\""),
];
