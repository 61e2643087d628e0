use serde_json::{Value, json};

use super::super::{Options, schema};
use super::*;

/// Parses and applies; returns the settings, the options, the problems and the warnings.
fn run(args: &[&str], file: Value) -> (Value, Options, Vec<String>, Vec<String>) {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let line = parse(args.iter().map(OsString::from).collect(), &mut problems);
    let Value::Object(mut config) = file else { panic!("an object") };
    let mut options = Options::default();
    apply(&line.given, &mut config, &mut options, &mut problems, &mut warnings);
    (Value::Object(config), options, problems, warnings)
}

fn problems(args: &[&str]) -> Vec<String> {
    run(args, json!({})).2
}

#[test]
fn all_spellings() {
    let (config, options, problems, _) = run(
        &[
            "--max-pods=50",
            "--max_open_files",
            "77",
            "--fail-swap-on",
            "--cpu-cfs-quota=false",
            "-v",
            "3",
            "--kubeconfig",
            "/k",
            "--node-ip=10.0.0.1,fd00::1",
            "--node-labels=a=b,c=d",
            "--node-labels=e=f",
            "--hostname-override=Web",
        ],
        json!({"maxPods": 10}),
    );
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(config, json!({"maxPods": 50, "maxOpenFiles": 77, "failSwapOn": true, "cpuCFSQuota": false, "logging": {"verbosity": 3}}));
    assert_eq!(options.kubeconfig, Some("/k".into()));
    assert_eq!(options.node_ips.len(), 2);
    assert_eq!(options.node_labels.len(), 3);
    assert_eq!(options.node_name("host"), Some("web".to_owned()));
    for verbosity in ["-v=3", "-v3", "--v=3"] {
        assert_eq!(run(&[verbosity], json!({})).0, json!({"logging": {"verbosity": 3}}), "{verbosity}");
    }
}

#[test]
fn a_bare_boolean_takes_no_argument() {
    assert_eq!(problems(&["--fail-swap-on", "false"]), ["unknown command \"false\": only flags are expected (see --help)"]);
}

#[test]
fn lists_and_maps() {
    let file = json!({"clusterDNS": ["1.1.1.1"], "featureGates": {"A": true, "B": true}, "systemReserved": {"cpu": "1"}});
    let (config, _, problems, _) = run(
        &[
            "--cluster-dns=10.0.0.1,10.0.0.2",
            "--cluster-dns=10.0.0.3",
            "--feature-gates=B=false,C=true",
            "--system-reserved=memory=1Gi",
            "--eviction-hard=memory.available<5%,nodefs.available<1Gi",
            "--register-with-taints=a=b:NoSchedule,c:NoExecute",
            "--vmodule=pods*=4",
            "--manifest-url-header=a:b,a:c",
        ],
        file,
    );
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(
        config,
        json!({
            "clusterDNS": ["10.0.0.1", "10.0.0.2", "10.0.0.3"],
            "featureGates": {"A": true, "B": false, "C": true},
            "systemReserved": {"memory": "1Gi"},
            "evictionHard": {"memory.available": "5%", "nodefs.available": "1Gi"},
            "registerWithTaints": [{"key": "a", "value": "b", "effect": "NoSchedule"}, {"key": "c", "effect": "NoExecute"}],
            "logging": {"vmodule": [{"filePattern": "pods*", "verbosity": 4}]},
            "staticPodURLHeader": {"a": ["b", "c"]},
        })
    );
}

#[test]
fn mistakes_are_all_named() {
    assert_eq!(
        problems(&[
            "--max-pod=5",
            "--utterly-unknown-thing",
            "--port=0",
            "--sync-frequency=5",
            "--fail-swap-on=maybe",
            "--cgroup-driver=runc",
            "run",
            "--cluster-dns=x",
            "--cloud-provider=aws",
            "--node-labels=kubernetes.io/x=y",
            "--register-with-taints=a=b",
            "--node-ip=1.1.1.1,2.2.2.2",
            "-x",
            "--kubeconfig",
        ]),
        [
            "unknown flag --max-pod; did you mean --max-pods?",
            "unknown flag --utterly-unknown-thing (see --help for those that are known)",
            "unknown command \"run\": only flags are expected (see --help)",
            "unknown command \"-x\": only flags are expected (see --help)",
            "--kubeconfig: needs a value",
            "--port: expected a whole number from 1 to 65535, got 0",
            "--sync-frequency: expected a duration such as \"2m0s\", got \"5\"",
            "--fail-swap-on: expected true or false, got \"maybe\"",
            "--cgroup-driver: expected one of \"cgroupfs\", \"systemd\", got \"runc\"",
            "--cluster-dns[0]: expected an IP address such as \"10.96.0.10\", got \"x\"",
            "--cloud-provider: expected external or nothing (cloud providers are no part of the agent any more), got \"aws\"",
            "--node-labels: a node can't give itself the label \"kubernetes.io/x\"; in the domains kubernetes.io and k8s.io it may set those below \
             kubelet.kubernetes.io, node.kubernetes.io and: beta.kubernetes.io/arch, beta.kubernetes.io/instance-type, beta.kubernetes.io/os, \
             failure-domain.beta.kubernetes.io/region, failure-domain.beta.kubernetes.io/zone, kubernetes.io/arch, kubernetes.io/hostname, \
             kubernetes.io/os, node.kubernetes.io/instance-type, topology.kubernetes.io/region, topology.kubernetes.io/zone",
            "--register-with-taints: expected key=value:effect, got \"a=b\"",
            "--node-ip: expected one address, or one of each family, got \"1.1.1.1,2.2.2.2\"",
        ]
    );
}

#[test]
fn removed_and_deprecated_flags_only_warn() {
    let (config, _, problems, warnings) = run(
        &["--pod-infra-container-image=pause:3.9", "--housekeeping_interval=5s", "--network-plugin", "cni", "--logtostderr", "--port=1"],
        json!({}),
    );
    assert_eq!((config, problems), (json!({"port": 1}), vec![]));
    assert_eq!(
        warnings,
        [
            "flags that belong into the config file, where they have fields: --port",
            "flags without effect (upstream has removed it): --pod-infra-container-image, --network-plugin, --logtostderr",
            "flags without effect (stats are not collected by cAdvisor here): --housekeeping-interval",
        ]
    );
}

#[test]
fn the_tables_agree() {
    let mut names: Vec<_> = FLAGS.iter().map(|flag| flag.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a flag is listed twice");
    for flag in FLAGS {
        if let Target::Field(path) | Target::Thresholds(path) | Target::Taints(path) | Target::VModule(path) | Target::Headers(path) =
            flag.target
        {
            assert!(schema::find(path).is_some(), "--{}: there is no field {path}", flag.name);
        }
    }

    assert!(help().contains("--config-dir"));
    assert!(help().contains("-v "));
}
