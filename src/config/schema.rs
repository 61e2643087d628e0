//! Every field of upstream's `KubeletConfiguration` v1beta1: its type, its range and its default.
//!
//! One table serves the strict decoder, the defaults, the flags and `/configz`. Source: k8s.io/kubelet/config/v1beta1/types.go,
//! pkg/kubelet/apis/config/v1beta1/defaults.go and, for ranges, pkg/kubelet/apis/config/validation/validation.go.

/// The type of a value.
#[derive(Debug)]
pub(super) enum Kind {
    Bool,
    /// A whole number within bounds.
    Int(i64, i64),
    /// Any number.
    Float,
    Text,
    /// A file or directory: relative ones are meant from the config file's own directory.
    Path,
    /// One of a few words.
    OneOf(&'static [&'static str]),
    Ip,
    /// A text that must be a Kubernetes quantity.
    Quantity,
    Duration,
    /// A duration that may be negative, which switches something off.
    SignedDuration,
    /// A duration, or a number of nanoseconds.
    DurationOrNanos,
    List(&'static Kind),
    Map(&'static Kind),
    Struct(&'static [Field]),
}

/// What a field holds when the configuration says nothing.
#[derive(Debug)]
pub(super) enum Default {
    /// Nothing: the field is not there.
    Absent,
    /// This JSON value; an explicit zero is kept (a pointer in upstream's type).
    Json(&'static str),
    /// This JSON value; zero and the empty text mean the same as nothing (kubeadm writes `0s` everywhere).
    ForZero(&'static str),
}

/// One field of a struct.
#[derive(Debug)]
pub(super) struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub default: Default,
}

impl Field {
    pub(super) const fn or(self, json: &'static str) -> Self {
        Self { name: self.name, kind: self.kind, default: Default::Json(json) }
    }
    pub(super) const fn for_zero(self, json: &'static str) -> Self {
        Self { name: self.name, kind: self.kind, default: Default::ForZero(json) }
    }
}

pub(super) const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, default: Default::Absent }
}

/// Finds a field of the kubelet's configuration by its dotted path.
pub(super) fn find(path: &str) -> Option<&'static Field> {
    find_in(KUBELET, path)
}

/// Finds one among these fields and those in them.
pub(super) fn find_in(mut fields: &'static [Field], path: &str) -> Option<&'static Field> {
    let mut found = None;
    for part in path.split('.') {
        let next = fields.iter().find(|f| f.name == part)?;
        fields = if let Kind::Struct(inner) = &next.kind { inner } else { &[] };
        found = Some(next);
    }
    found
}

use Kind::{Bool, Duration, DurationOrNanos, Float, Int, Ip, List, Map, OneOf, Path, Quantity, SignedDuration, Struct, Text};

const I32: i64 = i32::MAX as i64;
const PORT: Kind = Int(1, 65535);
const PORT_OR_OFF: Kind = Int(0, 65535);
const COUNT: Kind = Int(0, I32);
const PERCENT: Kind = Int(0, 100);
const BIT: Kind = Int(0, 31);
const TEXTS: Kind = List(&Text);
const TEXT_MAP: Kind = Map(&Text);

/// The document's own fields, besides `kind` and `apiVersion`.
pub(super) static KUBELET: &[Field] = &[
    field("enableServer", Bool).or("true"),
    field("staticPodPath", Path).or("\"\""),
    field("podLogsDir", Path).for_zero("\"/var/log/pods\""),
    field("syncFrequency", Duration).for_zero("\"1m0s\""),
    field("fileCheckFrequency", Duration).for_zero("\"20s\""),
    field("httpCheckFrequency", Duration).for_zero("\"20s\""),
    field("staticPodURL", Text),
    field("staticPodURLHeader", Map(&TEXTS)),
    field("address", Ip).for_zero("\"0.0.0.0\""),
    field("port", PORT).for_zero("10250"),
    field("readOnlyPort", PORT_OR_OFF).or("0"),
    field("tlsCertFile", Path).or("\"\""),
    field("tlsPrivateKeyFile", Path).or("\"\""),
    field("tlsCipherSuites", TEXTS),
    field("tlsCurvePreferences", List(&COUNT)),
    field("tlsMinVersion", OneOf(&["VersionTLS10", "VersionTLS11", "VersionTLS12", "VersionTLS13", ""])).or("\"\""),
    field("rotateCertificates", Bool).or("false"),
    field("serverTLSBootstrap", Bool).or("false"),
    field("authentication", Struct(AUTHENTICATION)).or("{}"),
    field("authorization", Struct(AUTHORIZATION)).or("{}"),
    field("registryPullQPS", COUNT).or("5"),
    field("registryBurst", COUNT).for_zero("10"),
    field("imagePullCredentialsVerificationPolicy", OneOf(PULL_POLICIES)).for_zero("\"NeverVerifyPreloadedImages\""),
    field("preloadedImagesVerificationAllowlist", TEXTS),
    field("eventRecordQPS", COUNT).or("50"),
    field("eventBurst", COUNT).for_zero("100"),
    field("enableDebuggingHandlers", Bool).or("true"),
    field("enableContentionProfiling", Bool).or("false"),
    field("healthzPort", PORT_OR_OFF).or("10248"),
    field("healthzBindAddress", Ip).for_zero("\"127.0.0.1\""),
    field("oomScoreAdj", Int(-1000, 1000)).or("-999"),
    field("clusterDomain", Text).or("\"\""),
    field("clusterDNS", List(&Ip)).or("[]"),
    field("streamingConnectionIdleTimeout", Duration).for_zero("\"4h0m0s\""),
    field("nodeStatusUpdateFrequency", Duration).for_zero("\"10s\""),
    field("nodeStatusReportFrequency", Duration).for_zero("\"5m0s\""),
    field("nodeLeaseDurationSeconds", Int(1, I32)).for_zero("40"),
    field("imageMinimumGCAge", Duration).for_zero("\"2m0s\""),
    field("imageMaximumGCAge", Duration).or("\"0s\""),
    field("imageGCHighThresholdPercent", PERCENT).or("85"),
    field("imageGCLowThresholdPercent", PERCENT).or("80"),
    field("volumeStatsAggPeriod", SignedDuration).for_zero("\"1m0s\""),
    field("kubeletCgroups", Text),
    field("systemCgroups", Text),
    field("cgroupRoot", Text).or("\"\""),
    field("cgroupsPerQOS", Bool).or("true"),
    field("cgroupDriver", OneOf(&["cgroupfs", "systemd"])).for_zero("\"cgroupfs\""),
    field("cpuManagerPolicy", OneOf(&["none", "static"])).for_zero("\"none\""),
    field("singleProcessOOMKill", Bool),
    field("cpuManagerPolicyOptions", TEXT_MAP),
    field("cpuManagerReconcilePeriod", Duration).for_zero("\"10s\""),
    field("memoryManagerPolicy", OneOf(&["None", "Static"])).for_zero("\"None\""),
    field("topologyManagerPolicy", OneOf(&["none", "best-effort", "restricted", "single-numa-node"])).for_zero("\"none\""),
    field("topologyManagerScope", OneOf(&["container", "pod"])).for_zero("\"container\""),
    field("topologyManagerPolicyOptions", TEXT_MAP),
    field("qosReserved", TEXT_MAP),
    field("runtimeRequestTimeout", Duration).for_zero("\"2m0s\""),
    field("hairpinMode", OneOf(&["promiscuous-bridge", "hairpin-veth", "none"])).for_zero("\"promiscuous-bridge\""),
    field("maxPods", COUNT).for_zero("110"),
    field("podCIDR", Text),
    field("podPidsLimit", Int(i64::MIN, i64::MAX)).or("-1"),
    field("resolvConf", Path).or("\"/etc/resolv.conf\""),
    field("runOnce", Bool).or("false"),
    field("cpuCFSQuota", Bool).or("true"),
    field("cpuCFSQuotaPeriod", Duration).or("\"100ms\""),
    field("nodeStatusMaxImages", Int(-1, I32)).or("50"),
    field("maxOpenFiles", Int(0, i64::MAX)).for_zero("1000000"),
    field("contentType", Text).for_zero("\"application/vnd.kubernetes.protobuf\""),
    field("kubeAPIQPS", COUNT).or("50"),
    field("kubeAPIBurst", COUNT).for_zero("100"),
    field("serializeImagePulls", Bool),
    field("maxParallelImagePulls", Int(1, I32)),
    field("evictionHard", TEXT_MAP),
    field("evictionSoft", TEXT_MAP),
    field("evictionSoftGracePeriod", TEXT_MAP),
    field("evictionPressureTransitionPeriod", Duration).for_zero("\"5m0s\""),
    field("evictionMaxPodGracePeriod", Int(-I32, I32)),
    field("evictionMinimumReclaim", TEXT_MAP),
    field("mergeDefaultEvictionSettings", Bool).or("false"),
    field("podsPerCore", COUNT).or("0"),
    field("enableControllerAttachDetach", Bool).or("true"),
    field("protectKernelDefaults", Bool).or("false"),
    field("makeIPTablesUtilChains", Bool).or("true"),
    field("iptablesMasqueradeBit", BIT).or("14"),
    field("iptablesDropBit", BIT).or("15"),
    field("featureGates", Map(&Bool)).or("{}"),
    field("failSwapOn", Bool).or("true"),
    field("memorySwap", Struct(&[field("swapBehavior", OneOf(&["NoSwap", "LimitedSwap", ""])).or("\"\"")])).or("{}"),
    field("containerLogMaxSize", Quantity).for_zero("\"10Mi\""),
    field("containerLogMaxFiles", Int(2, I32)).or("5"),
    field("containerLogMaxWorkers", Int(1, I32)).or("1"),
    field("containerLogMonitorInterval", Duration).or("\"10s\""),
    field("configMapAndSecretChangeDetectionStrategy", OneOf(&["Watch", "Cache", "Get"])).for_zero("\"Watch\""),
    field("systemReserved", TEXT_MAP).or("{}"),
    field("kubeReserved", TEXT_MAP).or("{}"),
    field("reservedSystemCPUs", Text),
    field("showHiddenMetricsForVersion", Text),
    field("systemReservedCgroup", Text).or("\"\""),
    field("kubeReservedCgroup", Text).or("\"\""),
    field("enforceNodeAllocatable", List(&OneOf(ENFORCEMENTS))).or("[\"pods\"]"),
    field("allowedUnsafeSysctls", TEXTS).or("[]"),
    field("volumePluginDir", Path).for_zero("\"/usr/libexec/kubernetes/kubelet-plugins/volume/exec/\""),
    field("providerID", Text).or("\"\""),
    field("kernelMemcgNotification", Bool).or("false"),
    field("logging", Struct(LOGGING)).or("{}"),
    field("enableSystemLogHandler", Bool).or("true"),
    field("enableSystemLogQuery", Bool).or("false"),
    field("shutdownGracePeriod", Duration).or("\"0s\""),
    field("shutdownGracePeriodCriticalPods", Duration).or("\"0s\""),
    field("shutdownGracePeriodByPodPriority", List(&Struct(SHUTDOWN_PRIORITY))),
    field("crashLoopBackOff", Struct(&[field("maxContainerRestartPeriod", Duration).or("\"5m0s\"")])).or("{}"),
    field("reservedMemory", List(&Struct(RESERVED_MEMORY))),
    field("enableProfilingHandler", Bool).or("true"),
    field("enableDebugFlagsHandler", Bool).or("true"),
    field("seccompDefault", Bool).or("false"),
    field("memoryThrottlingFactor", Float).or("0.9"),
    field("memoryReservationPolicy", OneOf(&["None", "TieredReservation"])).for_zero("\"None\""),
    field("registerWithTaints", List(&Struct(TAINT))).or("[]"),
    field("registerNode", Bool).or("true"),
    field("tracing", Struct(&[field("endpoint", Text), field("samplingRatePerMillion", Int(0, 1_000_000))])),
    field("localStorageCapacityIsolation", Bool).or("true"),
    field("containerRuntimeEndpoint", Text).for_zero("\"unix:///run/containerd/containerd.sock\""),
    field("imageServiceEndpoint", Text).or("\"\""),
    field("failCgroupV1", Bool).or("true"),
    field("userNamespaces", Struct(&[field("idsPerPod", Int(65536, u32::MAX as i64))])),
];

const PULL_POLICIES: &[&str] = &["NeverVerify", "NeverVerifyPreloadedImages", "NeverVerifyAllowlistedImages", "AlwaysVerify"];
const ENFORCEMENTS: &[&str] =
    &["pods", "system-reserved", "system-reserved-compressible", "kube-reserved", "kube-reserved-compressible", "none"];

static AUTHENTICATION: &[Field] = &[
    field("x509", Struct(&[field("clientCAFile", Path).or("\"\"")])).or("{}"),
    field("webhook", Struct(&[field("enabled", Bool).or("true"), field("cacheTTL", Duration).for_zero("\"2m0s\"")])).or("{}"),
    field("anonymous", Struct(&[field("enabled", Bool).or("false")])).or("{}"),
];

static AUTHORIZATION: &[Field] =
    &[field("mode", OneOf(&["Webhook", "AlwaysAllow"])).for_zero("\"Webhook\""), field("webhook", Struct(ACCESS_WEBHOOK)).or("{}")];
static ACCESS_WEBHOOK: &[Field] =
    &[field("cacheAuthorizedTTL", Duration).for_zero("\"5m0s\""), field("cacheUnauthorizedTTL", Duration).for_zero("\"30s\"")];

pub(super) static LOGGING: &[Field] = &[
    field("format", OneOf(&["text", "json"])).for_zero("\"text\""),
    field("flushFrequency", DurationOrNanos).for_zero("\"5s\""),
    field("verbosity", Int(0, u32::MAX as i64)).or("0"),
    field("vmodule", List(&Struct(&[field("filePattern", Text), field("verbosity", Int(0, u32::MAX as i64))]))),
    field("options", Struct(&[field("text", Struct(LOG_ROUTING)), field("json", Struct(LOG_ROUTING))])),
];
static LOG_ROUTING: &[Field] = &[field("splitStream", Bool), field("infoBufferSize", Quantity)];

static SHUTDOWN_PRIORITY: &[Field] = &[field("priority", Int(-1 - I32, I32)), field("shutdownGracePeriodSeconds", Int(0, i64::MAX))];
static RESERVED_MEMORY: &[Field] = &[field("numaNode", COUNT), field("limits", Map(&Quantity))];
static TAINT: &[Field] = &[
    field("key", Text),
    field("value", Text),
    field("effect", OneOf(&["NoSchedule", "PreferNoSchedule", "NoExecute"])),
    field("timeAdded", Text),
];
