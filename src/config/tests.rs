//! Whole command lines with files on disk.

use std::path::Path;
use std::time::Duration;

use super::*;

const HEADER: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

fn run(args: &[&str]) -> Result<Config, Vec<String>> {
    match load(args.iter().map(Into::into).collect()) {
        Ok(Invocation::Run(config)) => Ok(*config),
        Ok(Invocation::Print(text)) => panic!("printed {text}"),
        Err(error) => Err(error.problems),
    }
}

/// Loads one config file; the directory's name is cut out of the problems.
fn file(text: &str) -> Result<Config, Vec<String>> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = write(directory.path(), "config.yaml", text);
    run(&["--config", &path])
        .map_err(|problems| problems.iter().map(|p| p.replace(&format!("{}/", directory.path().display()), "")).collect())
}

/// What kubeadm 1.36 writes.
#[test]
fn kubeadm_configuration() {
    let text = format!(
        "{HEADER}authentication:\n  anonymous:\n    enabled: false\n  webhook:\n    cacheTTL: 0s\n    enabled: true\n  x509:\n    clientCAFile: /etc/kubernetes/pki/ca.crt\n\
         authorization:\n  mode: Webhook\n  webhook:\n    cacheAuthorizedTTL: 0s\n    cacheUnauthorizedTTL: 0s\ncgroupDriver: systemd\nclusterDNS:\n- 10.96.0.10\n\
         clusterDomain: cluster.local\ncontainerRuntimeEndpoint: \"\"\ncpuManagerReconcilePeriod: 0s\ncrashLoopBackOff: {{}}\nevictionPressureTransitionPeriod: 0s\n\
         fileCheckFrequency: 0s\nhealthzBindAddress: 127.0.0.1\nhealthzPort: 10248\nhttpCheckFrequency: 0s\nimageMaximumGCAge: 0s\nimageMinimumGCAge: 0s\n\
         logging:\n  flushFrequency: 0\n  options:\n    json:\n      infoBufferSize: \"0\"\n    text:\n      infoBufferSize: \"0\"\n  verbosity: 0\nmemorySwap: {{}}\n\
         nodeStatusReportFrequency: 0s\nnodeStatusUpdateFrequency: 0s\nresolvConf: /run/systemd/resolve/resolv.conf\nrotateCertificates: true\nruntimeRequestTimeout: 0s\n\
         shutdownGracePeriod: 0s\nshutdownGracePeriodCriticalPods: 0s\nstaticPodPath: /etc/kubernetes/manifests\nstreamingConnectionIdleTimeout: 0s\nsyncFrequency: 0s\nvolumeStatsAggPeriod: 0s\n"
    );
    let config = file(&text).expect("accepted");
    let kubelet = &config.kubelet;
    assert_eq!(kubelet.cgroup_driver, CgroupDriver::Systemd);
    assert_eq!(kubelet.authentication.webhook.cache_ttl, Duration::from_secs(120));
    assert_eq!(kubelet.node_status_report_frequency, Duration::from_secs(300));
    assert_eq!(kubelet.cluster_dns, ["10.96.0.10".parse::<std::net::IpAddr>().expect("an address")]);
    assert_eq!(kubelet.image_endpoint(), "unix:///run/containerd/containerd.sock");
    assert_eq!(kubelet.eviction_hard.get("nodefs.available"), Some(&Threshold::Share(0.1)));
    assert_eq!(kubelet.container_log_max_size, Some(10 << 20));
    assert_eq!(config.warnings, ["settings that are accepted but not acted on yet: rotateCertificates"]);
}

#[test]
fn json_works_too_and_configz_shows_the_whole() {
    let mut config =
        file(r#"{"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1", "maxPods": 20}"#).expect("accepted");
    config.kubelet.cgroup_driver = CgroupDriver::Systemd;
    let shown = config.configz();
    let field = |name: &str| shown.get("kubeletconfig").and_then(|c| c.get(name)).cloned();
    assert_eq!(field("kind"), Some(json!("KubeletConfiguration")));
    assert_eq!(field("maxPods"), Some(json!(20)));
    assert_eq!(field("syncFrequency"), Some(json!("1m0s")));
    assert_eq!(field("cgroupDriver"), Some(json!("systemd")));
}

#[test]
fn bad_files_are_one_clear_line_each() {
    let table = [
        ("", vec!["config.yaml: holds no KubeletConfiguration; add one with apiVersion: kubelet.config.k8s.io/v1beta1"]),
        (
            "kind: KubeletConfiguration\n",
            vec!["config.yaml: document 1: apiVersion is missing; add apiVersion: kubelet.config.k8s.io/v1beta1"],
        ),
        ("apiVersion: kubelet.config.k8s.io/v1beta1\n", vec!["config.yaml: document 1: kind is missing; add kind: KubeletConfiguration"]),
        ("- a\n", vec!["config.yaml: document 1: expected a block of fields that starts with apiVersion and kind"]),
        (
            "apiVersion: v1\nkind: Pod\n",
            vec![
                "config.yaml: document 1: can't read kind Pod of apiVersion v1; expected kind KubeletConfiguration of apiVersion \
                 kubelet.config.k8s.io/v1beta1 or kind KubeProxyConfiguration of apiVersion kubeproxy.config.k8s.io/v1alpha1",
            ],
        ),
    ];
    for (text, problems) in table {
        assert_eq!(file(text).map(|_| ()), Err(problems.into_iter().map(str::to_owned).collect()), "{text:?}");
    }
    for text in
        [format!("{HEADER}port: [1\n"), format!("{HEADER}port: 1\nport: 2\n"), "\u{1}".to_owned(), "{\"a\": 1, \"a\": 2}".to_owned()]
    {
        let problems = file(&text).expect_err("refused");
        assert!(matches!(problems.as_slice(), [one] if one.contains("not valid YAML or JSON")), "{text:?}: {problems:?}");
        assert!(problems.iter().all(|problem| !problem.contains('\n')), "one line: {problems:?}");
    }
    let problems = run(&["--config", "/no/such/file"]).expect_err("refused");
    assert!(matches!(problems.as_slice(), [one] if one.contains("can't read the config file")), "{problems:?}");
}

#[test]
fn all_mistakes_of_file_and_flags_come_together() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = write(directory.path(), "c.yaml", &format!("{HEADER}maxPod: 5\nauthentication:\n  webhook:\n    cacheTTL: 5\n"));
    let problems = run(&["--config", &path, "--max-pods=x"]).expect_err("refused");
    assert_eq!(
        problems,
        [
            format!("{path}: authentication.webhook.cacheTTL: expected a duration such as \"2m0s\", got 5"),
            format!("{path}: maxPod: unknown field; did you mean \"maxPods\"?"),
            "--max-pods: expected a whole number, 0 or more, got \"x\"".to_owned(),
        ]
    );
}

#[test]
fn further_documents() {
    let proxy = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\n";
    let config = file(&format!("{proxy}---\n{HEADER}maxPods: 7\n---\n")).expect("accepted");
    assert_eq!(config.kubelet.max_pods, 7);
    assert_eq!((config.proxy.node_ports, config.warnings.as_slice()), (super::proxy::NodePorts::Primary, &[][..]));
    let problems = file(&format!("{HEADER}---\n{HEADER}")).expect_err("refused");
    assert_eq!(problems, ["config.yaml: document 2: there is a KubeletConfiguration already; keep one"]);
    let problems = file(proxy).expect_err("refused");
    assert!(problems.join("").contains("holds no KubeletConfiguration"));
}

#[test]
fn precedence_and_relative_paths() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    let path = write(
        root,
        "etc/c.yaml",
        &format!(
            "{HEADER}maxPods: 10\nport: 1001\nhealthzPort: 1002\nstaticPodPath: ../manifests\nclusterDNS: [10.0.0.1, 10.0.0.2]\nfeatureGates: {{MemoryQoS: true, NodeLogQuery: true, ImageVolume: true}}\n"
        ),
    );
    write(
        root,
        "d/20-b.conf",
        &format!("{HEADER}maxPods: 30\nport: 2001\nclusterDNS: [10.0.0.9]\ntlsCertFile: a.crt\ntlsPrivateKeyFile: a.key\n"),
    );
    write(root, "d/10-a.conf", &format!("{HEADER}maxPods: 20\nevictionHard:\n  imagefs.available: null\nfailSwapOn: no\n"));
    write(root, "d/30/x.conf", &format!("{HEADER}podsPerCore: 3\n"));
    write(root, "d/99.yaml", "not read");
    let config_dir = root.join("d").display().to_string();
    let config = run(&["--config", &path, "--config-dir", &config_dir, "--port=3001", "--feature-gates=MemoryQoS=false,AllAlpha=true"])
        .expect("accepted")
        .kubelet;
    assert_eq!((config.max_pods, config.port, config.healthz_port, config.pods_per_core), (30, 3001, 1002, 3));
    assert_eq!(config.cluster_dns.len(), 1, "lists are replaced");
    assert_eq!(config.static_pod_path, root.join("manifests"));
    assert_eq!(config.tls_cert_file, root.join("d/a.crt"));
    assert_eq!(config.eviction_hard.len(), 4, "null takes one default away");
    assert!(!config.fail_swap_on, "booleans of YAML 1.1 work in drop-ins too");
    assert_eq!(config.feature_gates.get("ImageVolume"), Some(&true));
    assert_eq!(config.feature_gates.get("MemoryQoS"), Some(&false));

    write(root, "d/40.conf", "maxPods: 1\n");
    write(root, "d/50.conf", &format!("{HEADER}maxPods: many\n"));
    let problems = run(&["--config", &path, "--config-dir", &config_dir]).expect_err("refused");
    assert_eq!(
        problems,
        [
            format!("{config_dir}/40.conf: apiVersion is missing; add apiVersion: kubelet.config.k8s.io/v1beta1"),
            format!("{config_dir}/50.conf: maxPods: expected a whole number, 0 or more, got \"many\""),
        ]
    );
}

/// Upstream's two sets of defaults.
#[test]
fn without_a_config_file_the_old_defaults_hold() {
    let config = run(&[]).expect("accepted");
    let kubelet = &config.kubelet;
    assert!(kubelet.authentication.anonymous.enabled && !kubelet.authentication.webhook.enabled);
    assert_eq!((kubelet.authorization.mode, kubelet.read_only_port), (AuthorizationMode::AlwaysAllow, 10255));
    assert!(config.warnings.iter().any(|warning| warning.contains("anonymous")));

    let kubelet = run(&["--anonymous-auth=false", "--authorization-mode=Webhook", "--read-only-port=0", "--authentication-token-webhook"])
        .expect("accepted")
        .kubelet;
    assert!(!kubelet.authentication.anonymous.enabled && kubelet.authentication.webhook.enabled);
    assert_eq!((kubelet.authorization.mode, kubelet.read_only_port), (AuthorizationMode::Webhook, 0));

    let kubelet = file(HEADER).expect("accepted").kubelet;
    assert!(!kubelet.authentication.anonymous.enabled && kubelet.authentication.webhook.enabled);
    assert_eq!((kubelet.authorization.mode, kubelet.read_only_port), (AuthorizationMode::Webhook, 0));
    assert_eq!(kubelet, Config::default().kubelet);
}

#[test]
fn version_and_help() {
    let printed = |args: &[&str]| match load(args.iter().map(Into::into).collect()) {
        Ok(Invocation::Print(text)) => text,
        other => panic!("{other:?}"),
    };
    assert_eq!(printed(&["--version"]), "Kubernetes v1.36.3\n");
    assert!(printed(&["--version=raw"]).contains("GitVersion:\"v1.36.3\""));
    for help in ["--help", "-h"] {
        assert!(printed(&[help]).contains("--kubeconfig"));
    }
    assert_eq!(run(&["--version=v1.2.3"]).map(|_| ()), Err(vec!["--version: expected true or raw, got \"v1.2.3\"".to_owned()]));
    assert_eq!(run(&["--help", "--confg=x"]).map(|_| ()), Err(vec!["unknown flag --confg; did you mean --config?".to_owned()]));
}

#[test]
fn zeros_of_flags_are_meant() {
    let config = run(&["--max-pods=0", "--registry-burst=0"]).expect("accepted").kubelet;
    assert_eq!((config.max_pods, config.registry_burst), (0, 0));
    assert_eq!(file(&format!("{HEADER}maxPods: 0\n")).expect("accepted").kubelet.max_pods, 110);
}

#[test]
fn reserved_cpus_win_over_reserved_amounts() {
    let text =
        format!("{HEADER}reservedSystemCPUs: 0-1,4\nsystemReserved: {{cpu: 100m, memory: 1Gi}}\nkubeReserved: {{cpu: 200m, pid: '10'}}\n");
    let config = file(&text).expect("accepted").kubelet;
    assert_eq!(config.system_reserved, Reserved { milli_cpu: 3000, memory: 1 << 30, ..Reserved::default() });
    assert_eq!(config.kube_reserved, Reserved { pids: 10, ..Reserved::default() });
}

#[test]
fn what_has_no_effect_yet_is_said() {
    let text = format!(
        "{HEADER}allowedUnsafeSysctls: [net.core.somaxconn]\nconfigMapAndSecretChangeDetectionStrategy: Cache\nkubeAPIQPS: 5\n\
         evictionHard: {{memory.available: 200Mi}}\nfeatureGates: {{NodeSwap: true}}\n"
    );
    let warnings = file(&text).expect("accepted").warnings;
    assert_eq!(
        warnings,
        [
            "settings that are accepted but not acted on yet: configMapAndSecretChangeDetectionStrategy, kubeAPIQPS, \
             featureGates",
            "feature gates that will be removed in a future release: NodeSwap",
        ]
    );
    let warnings = run(&["--maximum-dead-containers=5", "--bootstrap-kubeconfig=/b"]).expect("accepted").warnings;
    assert!(
        warnings.contains(&"flags that are accepted but not acted on yet: --bootstrap-kubeconfig, --maximum-dead-containers".to_owned()),
        "{warnings:?}"
    );
}
