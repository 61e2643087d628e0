//! Every flag that upstream's kubelet 1.36 knows, and those that it knew once.
//!
//! Sources: cmd/kubelet/app/options/{options,globalflags_linux}.go, k8s.io/component-base/logs/api/v1/options.go.

use super::super::Options;
use super::super::schema::{self, Kind};
use super::setters;

/// Sets one of the [`Options`]; the error says what was expected.
pub(super) type Setter = fn(&mut Options, &str) -> Result<(), String>;

/// Where a flag's value goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    Help,
    Version,
    ConfigFile,
    ConfigDir,
    /// A field of the configuration, by its path; the schema says how to read the value.
    Field(&'static str),
    /// A map whose pairs are written `signal<amount`.
    Thresholds(&'static str),
    /// A list of `key=value:effect`.
    Taints(&'static str),
    /// A list of `pattern=level`.
    VModule(&'static str),
    /// A map of lists written `name:value`.
    Headers(&'static str),
    /// Something that no config file holds: how it is set, and what it is for.
    Option(Setter, &'static str),
    /// Accepted without effect, with the reason; the value is thrown away.
    Ignored(&'static str),
    /// The same for a boolean.
    IgnoredBool(&'static str),
}

/// A flag.
#[derive(Debug)]
pub(super) struct Flag {
    /// In its usual spelling, without dashes.
    pub name: &'static str,
    pub target: Target,
}

impl Flag {
    /// What the flag means when it stands alone; `None` when the next argument is its value.
    pub fn bare_value(&self) -> Option<&'static str> {
        let boolean = match self.target {
            Target::Help | Target::Version | Target::IgnoredBool(_) => true,
            Target::Field(path) => matches!(schema::find(path).map(|field| &field.kind), Some(Kind::Bool)),
            _ => false,
        };
        boolean.then_some("true")
    }
}

const fn flag(name: &'static str, target: Target) -> Flag {
    Flag { name, target }
}

const CADVISOR: &str = "stats are not collected by cAdvisor here";
const REMOVED: &str = "upstream has removed it";
const NOT_YET: &str = "not implemented yet";

use Target::{Field, Headers, Ignored, IgnoredBool, Option as Opt, Taints, Thresholds, VModule};

pub(super) static FLAGS: &[Flag] = &[
    flag("help", Target::Help),
    flag("version", Target::Version),
    flag("config", Target::ConfigFile),
    flag("config-dir", Target::ConfigDir),
    // What only flags can say.
    flag("kubeconfig", Opt(setters::kubeconfig, "how to reach the API server; without it the agent runs alone")),
    flag("bootstrap-kubeconfig", Opt(setters::bootstrap_kubeconfig, "credentials for asking for a client certificate")),
    flag("hostname-override", Opt(setters::hostname_override, "the node's name, in place of the host's")),
    flag("node-ip", Opt(setters::node_ip, "the node's address, or one of each family; 0.0.0.0 or :: choose the family")),
    flag("node-labels", Opt(setters::node_labels, "labels (key=value,…) of a newly registered node")),
    flag(
        "service-proxy",
        Opt(setters::service_proxy, "true, or false on nodes where somebody else programs Services: kube-proxy, or a network plugin"),
    ),
    flag("root-dir", Opt(setters::root_dir, "directory for pods, volumes and plugins")),
    flag("cert-dir", Opt(setters::cert_dir, "directory for certificates")),
    flag("cloud-provider", Opt(setters::cloud_provider, "'external', or nothing")),
    flag("minimum-container-ttl-duration", Opt(setters::minimum_container_ttl, "keep exited containers at least this long")),
    flag(
        "maximum-dead-containers-per-container",
        Opt(setters::maximum_dead_containers_per_container, "exited instances kept of each container"),
    ),
    flag("maximum-dead-containers", Opt(setters::maximum_dead_containers, "exited containers kept in all; negative: without limit")),
    // What the config file can say too.
    flag("address", Field("address")),
    flag("allowed-unsafe-sysctls", Field("allowedUnsafeSysctls")),
    flag("anonymous-auth", Field("authentication.anonymous.enabled")),
    flag("authentication-token-webhook", Field("authentication.webhook.enabled")),
    flag("authentication-token-webhook-cache-ttl", Field("authentication.webhook.cacheTTL")),
    flag("authorization-mode", Field("authorization.mode")),
    flag("authorization-webhook-cache-authorized-ttl", Field("authorization.webhook.cacheAuthorizedTTL")),
    flag("authorization-webhook-cache-unauthorized-ttl", Field("authorization.webhook.cacheUnauthorizedTTL")),
    flag("cgroup-driver", Field("cgroupDriver")),
    flag("cgroup-root", Field("cgroupRoot")),
    flag("cgroups-per-qos", Field("cgroupsPerQOS")),
    flag("client-ca-file", Field("authentication.x509.clientCAFile")),
    flag("cluster-dns", Field("clusterDNS")),
    flag("cluster-domain", Field("clusterDomain")),
    flag("container-log-max-files", Field("containerLogMaxFiles")),
    flag("container-log-max-size", Field("containerLogMaxSize")),
    flag("container-runtime-endpoint", Field("containerRuntimeEndpoint")),
    flag("contention-profiling", Field("enableContentionProfiling")),
    flag("cpu-cfs-quota", Field("cpuCFSQuota")),
    flag("cpu-cfs-quota-period", Field("cpuCFSQuotaPeriod")),
    flag("cpu-manager-policy", Field("cpuManagerPolicy")),
    flag("cpu-manager-policy-options", Field("cpuManagerPolicyOptions")),
    flag("cpu-manager-reconcile-period", Field("cpuManagerReconcilePeriod")),
    flag("enable-controller-attach-detach", Field("enableControllerAttachDetach")),
    flag("enable-debugging-handlers", Field("enableDebuggingHandlers")),
    flag("enable-server", Field("enableServer")),
    flag("enforce-node-allocatable", Field("enforceNodeAllocatable")),
    flag("event-burst", Field("eventBurst")),
    flag("event-qps", Field("eventRecordQPS")),
    flag("eviction-hard", Thresholds("evictionHard")),
    flag("eviction-max-pod-grace-period", Field("evictionMaxPodGracePeriod")),
    flag("eviction-minimum-reclaim", Field("evictionMinimumReclaim")),
    flag("eviction-pressure-transition-period", Field("evictionPressureTransitionPeriod")),
    flag("eviction-soft", Thresholds("evictionSoft")),
    flag("eviction-soft-grace-period", Field("evictionSoftGracePeriod")),
    flag("fail-cgroupv1", Field("failCgroupV1")),
    flag("fail-swap-on", Field("failSwapOn")),
    flag("feature-gates", Field("featureGates")),
    flag("file-check-frequency", Field("fileCheckFrequency")),
    flag("hairpin-mode", Field("hairpinMode")),
    flag("healthz-bind-address", Field("healthzBindAddress")),
    flag("healthz-port", Field("healthzPort")),
    flag("http-check-frequency", Field("httpCheckFrequency")),
    flag("image-gc-high-threshold", Field("imageGCHighThresholdPercent")),
    flag("image-gc-low-threshold", Field("imageGCLowThresholdPercent")),
    flag("image-service-endpoint", Field("imageServiceEndpoint")),
    flag("kernel-memcg-notification", Field("kernelMemcgNotification")),
    flag("kube-api-burst", Field("kubeAPIBurst")),
    flag("kube-api-content-type", Field("contentType")),
    flag("kube-api-qps", Field("kubeAPIQPS")),
    flag("kube-reserved", Field("kubeReserved")),
    flag("kube-reserved-cgroup", Field("kubeReservedCgroup")),
    flag("kubelet-cgroups", Field("kubeletCgroups")),
    flag("local-storage-capacity-isolation", Field("localStorageCapacityIsolation")),
    flag("log-flush-frequency", Field("logging.flushFrequency")),
    flag("log-json-info-buffer-size", Field("logging.options.json.infoBufferSize")),
    flag("log-json-split-stream", Field("logging.options.json.splitStream")),
    flag("log-text-info-buffer-size", Field("logging.options.text.infoBufferSize")),
    flag("log-text-split-stream", Field("logging.options.text.splitStream")),
    flag("logging-format", Field("logging.format")),
    flag("make-iptables-util-chains", Field("makeIPTablesUtilChains")),
    flag("manifest-url", Field("staticPodURL")),
    flag("manifest-url-header", Headers("staticPodURLHeader")),
    flag("max-open-files", Field("maxOpenFiles")),
    flag("max-pods", Field("maxPods")),
    flag("memory-manager-policy", Field("memoryManagerPolicy")),
    flag("minimum-image-ttl-duration", Field("imageMinimumGCAge")),
    flag("node-status-max-images", Field("nodeStatusMaxImages")),
    flag("node-status-update-frequency", Field("nodeStatusUpdateFrequency")),
    flag("oom-score-adj", Field("oomScoreAdj")),
    flag("pod-cidr", Field("podCIDR")),
    flag("pod-manifest-path", Field("staticPodPath")),
    flag("pod-max-pids", Field("podPidsLimit")),
    flag("pods-per-core", Field("podsPerCore")),
    flag("port", Field("port")),
    flag("protect-kernel-defaults", Field("protectKernelDefaults")),
    flag("provider-id", Field("providerID")),
    flag("qos-reserved", Field("qosReserved")),
    flag("read-only-port", Field("readOnlyPort")),
    flag("register-node", Field("registerNode")),
    flag("register-with-taints", Taints("registerWithTaints")),
    flag("registry-burst", Field("registryBurst")),
    flag("registry-qps", Field("registryPullQPS")),
    flag("reserved-cpus", Field("reservedSystemCPUs")),
    flag("resolv-conf", Field("resolvConf")),
    flag("rotate-certificates", Field("rotateCertificates")),
    flag("rotate-server-certificates", Field("serverTLSBootstrap")),
    flag("runonce", Field("runOnce")),
    flag("runtime-request-timeout", Field("runtimeRequestTimeout")),
    flag("seccomp-default", Field("seccompDefault")),
    flag("serialize-image-pulls", Field("serializeImagePulls")),
    flag("streaming-connection-idle-timeout", Field("streamingConnectionIdleTimeout")),
    flag("sync-frequency", Field("syncFrequency")),
    flag("system-cgroups", Field("systemCgroups")),
    flag("system-reserved", Field("systemReserved")),
    flag("system-reserved-cgroup", Field("systemReservedCgroup")),
    flag("tls-cert-file", Field("tlsCertFile")),
    flag("tls-cipher-suites", Field("tlsCipherSuites")),
    flag("tls-min-version", Field("tlsMinVersion")),
    flag("tls-private-key-file", Field("tlsPrivateKeyFile")),
    flag("topology-manager-policy", Field("topologyManagerPolicy")),
    flag("topology-manager-policy-options", Field("topologyManagerPolicyOptions")),
    flag("topology-manager-scope", Field("topologyManagerScope")),
    flag("v", Field("logging.verbosity")),
    flag("vmodule", VModule("logging.vmodule")),
    flag("volume-plugin-dir", Field("volumePluginDir")),
    flag("volume-stats-agg-period", Field("volumeStatsAggPeriod")),
    // Known upstream, without effect here.
    flag("exit-on-lock-contention", IgnoredBool(NOT_YET)),
    flag("experimental-allocatable-ignore-eviction", IgnoredBool(NOT_YET)),
    flag("experimental-mounter-path", Ignored(NOT_YET)),
    flag("image-credential-provider-bin-dir", Ignored(NOT_YET)),
    flag("image-credential-provider-config", Ignored(NOT_YET)),
    flag("lock-file", Ignored(NOT_YET)),
    flag("reserved-memory", Ignored(NOT_YET)),
    flag("runtime-cgroups", Ignored(NOT_YET)),
    flag("application-metrics-count-limit", Ignored(CADVISOR)),
    flag("boot-id-file", Ignored(CADVISOR)),
    flag("container-hints", Ignored(CADVISOR)),
    flag("containerd", Ignored(CADVISOR)),
    flag("containerd-namespace", Ignored(CADVISOR)),
    flag("enable-load-reader", IgnoredBool(CADVISOR)),
    flag("event-storage-age-limit", Ignored(CADVISOR)),
    flag("event-storage-event-limit", Ignored(CADVISOR)),
    flag("global-housekeeping-interval", Ignored(CADVISOR)),
    flag("housekeeping-interval", Ignored(CADVISOR)),
    flag("log-cadvisor-usage", IgnoredBool(CADVISOR)),
    flag("machine-id-file", Ignored(CADVISOR)),
    flag("storage-driver-buffer-duration", Ignored(CADVISOR)),
    flag("storage-driver-db", Ignored(CADVISOR)),
    flag("storage-driver-host", Ignored(CADVISOR)),
    flag("storage-driver-password", Ignored(CADVISOR)),
    flag("storage-driver-secure", IgnoredBool(CADVISOR)),
    flag("storage-driver-table", Ignored(CADVISOR)),
    flag("storage-driver-user", Ignored(CADVISOR)),
    // Gone upstream, still in kubeadm-flags.env and unit files of clusters that were upgraded.
    flag("add-dir-header", IgnoredBool(REMOVED)),
    flag("allow-privileged", IgnoredBool(REMOVED)),
    flag("alsologtostderr", IgnoredBool(REMOVED)),
    flag("azure-container-registry-config", Ignored(REMOVED)),
    flag("cloud-config", Ignored(REMOVED)),
    flag("cni-bin-dir", Ignored(REMOVED)),
    flag("cni-cache-dir", Ignored(REMOVED)),
    flag("cni-conf-dir", Ignored(REMOVED)),
    flag("container-runtime", Ignored(REMOVED)),
    flag("docker-endpoint", Ignored(REMOVED)),
    flag("dynamic-config-dir", Ignored(REMOVED)),
    flag("image-pull-progress-deadline", Ignored(REMOVED)),
    flag("keep-terminated-pod-volumes", IgnoredBool(REMOVED)),
    flag("log-backtrace-at", Ignored(REMOVED)),
    flag("log-dir", Ignored(REMOVED)),
    flag("log-file", Ignored(REMOVED)),
    flag("log-file-max-size", Ignored(REMOVED)),
    flag("logtostderr", IgnoredBool(REMOVED)),
    flag("master-service-namespace", Ignored(REMOVED)),
    flag("network-plugin", Ignored(REMOVED)),
    flag("network-plugin-mtu", Ignored(REMOVED)),
    flag("non-masquerade-cidr", Ignored(REMOVED)),
    flag("one-output", IgnoredBool(REMOVED)),
    flag("pod-infra-container-image", Ignored(REMOVED)),
    flag("register-schedulable", IgnoredBool(REMOVED)),
    flag("skip-headers", IgnoredBool(REMOVED)),
    flag("skip-log-headers", IgnoredBool(REMOVED)),
    flag("stderrthreshold", Ignored(REMOVED)),
];
