//! `kubelet-rs proxy`: the Service proxy without the rest of the agent, told what kube-proxy is told.
//!
//! Source of the flags: cmd/kube-proxy/app/options.go. With `--config` the file says everything, and flags that have a field in it count for
//! nothing, as upstream has it; only `--hostname-override` and `-v` still do.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::super::flags::{convert, set, split};
use super::super::nearest::nearest;
use super::super::schema::{self, Field, Kind};
use super::super::view::View;
use super::super::{ConfigError, LogFormat, Logging, check, document};
use super::{PROXY, ProxyConfiguration, complete};

/// What the proxy alone was told.
#[derive(Debug)]
pub struct Alone {
    /// The settings.
    pub proxy: ProxyConfiguration,
    /// How to reach the API server; `None`: as a pod of the cluster does.
    pub kubeconfig: Option<PathBuf>,
    /// The node's name, if it isn't the host's.
    pub node: Option<String>,
    /// How the kernel treats the process when memory is short.
    pub oom_score_adj: i32,
    /// How much is logged, and in which form.
    pub logging: Logging,
    /// Do what needs root alone (settings of the kernel), and end.
    pub init_only: bool,
    /// What was accepted although it has no effect.
    pub warnings: Vec<String>,
}

/// What its command line asks for.
#[derive(Debug)]
pub enum Asked {
    /// Program Services.
    Run(Box<Alone>),
    /// Remove all rules of Services.
    CleanUp,
    /// Print this.
    Print(String),
}

enum To {
    /// A field of the file.
    Field(&'static str),
    Config,
    Help,
    Version,
    CleanUp,
    InitOnly,
    /// Accepted without effect, with the reason.
    Ignored(&'static str),
}

const FLAGS: &[(&str, To)] = &[
    ("config", To::Config),
    ("help", To::Help),
    ("version", To::Version),
    ("cleanup", To::CleanUp),
    ("init-only", To::InitOnly),
    ("proxy-mode", To::Field("mode")),
    ("kubeconfig", To::Field("clientConnection.kubeconfig")),
    ("hostname-override", To::Field("hostnameOverride")),
    ("bind-address", To::Field("bindAddress")),
    ("healthz-bind-address", To::Field("healthzBindAddress")),
    ("metrics-bind-address", To::Field("metricsBindAddress")),
    ("bind-address-hard-fail", To::Field("bindAddressHardFail")),
    ("profiling", To::Field("enableProfiling")),
    ("show-hidden-metrics-for-version", To::Field("showHiddenMetricsForVersion")),
    ("feature-gates", To::Field("featureGates")),
    ("cluster-cidr", To::Field("clusterCIDR")),
    ("detect-local-mode", To::Field("detectLocalMode")),
    ("pod-bridge-interface", To::Field("detectLocal.bridgeInterface")),
    ("pod-interface-name-prefix", To::Field("detectLocal.interfaceNamePrefix")),
    ("nodeport-addresses", To::Field("nodePortAddresses")),
    ("masquerade-all", To::Field("iptables.masqueradeAll")),
    ("iptables-masquerade-bit", To::Field("iptables.masqueradeBit")),
    ("iptables-localhost-nodeports", To::Field("iptables.localhostNodePorts")),
    ("iptables-sync-period", To::Field("iptables.syncPeriod")),
    ("iptables-min-sync-period", To::Field("iptables.minSyncPeriod")),
    ("conntrack-max-per-core", To::Field("conntrack.maxPerCore")),
    ("conntrack-min", To::Field("conntrack.min")),
    ("conntrack-tcp-timeout-established", To::Field("conntrack.tcpEstablishedTimeout")),
    ("conntrack-tcp-timeout-close-wait", To::Field("conntrack.tcpCloseWaitTimeout")),
    ("conntrack-tcp-be-liberal", To::Field("conntrack.tcpBeLiberal")),
    ("conntrack-udp-timeout", To::Field("conntrack.udpTimeout")),
    ("conntrack-udp-timeout-stream", To::Field("conntrack.udpStreamTimeout")),
    ("config-sync-period", To::Field("configSyncPeriod")),
    ("oom-score-adj", To::Field("oomScoreAdj")),
    ("kube-api-content-type", To::Field("clientConnection.contentType")),
    ("kube-api-burst", To::Field("clientConnection.burst")),
    ("kube-api-qps", To::Field("clientConnection.qps")),
    ("ipvs-sync-period", To::Field("ipvs.syncPeriod")),
    ("ipvs-min-sync-period", To::Field("ipvs.minSyncPeriod")),
    ("ipvs-scheduler", To::Field("ipvs.scheduler")),
    ("ipvs-exclude-cidrs", To::Field("ipvs.excludeCIDRs")),
    ("ipvs-strict-arp", To::Field("ipvs.strictARP")),
    ("ipvs-tcp-timeout", To::Field("ipvs.tcpTimeout")),
    ("ipvs-tcpfin-timeout", To::Field("ipvs.tcpFinTimeout")),
    ("ipvs-udp-timeout", To::Field("ipvs.udpTimeout")),
    ("v", To::Field("logging.verbosity")),
    ("logging-format", To::Field("logging.format")),
    ("vmodule", To::Ignored("log levels of single files are not offered")),
    ("log-flush-frequency", To::Ignored("log lines are written at once")),
    ("master", To::Ignored("name the API server in the kubeconfig")),
    ("write-config-to", To::Ignored("the settings in force are served at /configz")),
    ("healthz-port", To::Ignored("set --healthz-bind-address")),
    ("metrics-port", To::Ignored("set --metrics-bind-address")),
];

fn field(path: &str) -> Option<&'static Field> {
    schema::find_in(PROXY, path)
}

fn is_boolean(to: &To) -> bool {
    match to {
        To::Field(path) => field(path).is_some_and(|field| matches!(field.kind, Kind::Bool)),
        To::Help | To::Version | To::CleanUp | To::InitOnly => true,
        To::Config | To::Ignored(_) => false,
    }
}

/// Reads the command line behind `kubelet-rs proxy`, and the file that it names.
pub fn load(args: Vec<OsString>) -> Result<Asked, ConfigError> {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let mut given: Vec<(&str, &To, String)> = Vec::new();
    let mut args = args.into_iter().map(|arg| arg.to_string_lossy().into_owned());
    while let Some(arg) = args.next() {
        let Some((name, value)) = split(&arg) else {
            problems.push(format!("unknown command {arg:?}: only flags are expected (see kubelet-rs proxy --help)"));
            continue;
        };
        let Some((name, to)) = FLAGS.iter().find(|(known, _)| *known == name) else {
            problems.push(match nearest(&name, FLAGS.iter().map(|(known, _)| *known)) {
                Some(close) => format!("unknown flag --{name}; did you mean --{close}?"),
                None => format!("unknown flag --{name} (see kubelet-rs proxy --help for those that are known)"),
            });
            continue;
        };
        match value.or_else(|| is_boolean(to).then(|| "true".to_owned())).or_else(|| args.next()) {
            Some(value) => given.push((name, to, value)),
            None => problems.push(format!("--{name}: needs a value")),
        }
    }
    let is_on = |what: fn(&To) -> bool| given.iter().any(|(_, to, value)| what(to) && value != "false");
    if problems.is_empty() && is_on(|to| matches!(to, To::Help)) {
        return Ok(Asked::Print(help()));
    }
    if problems.is_empty() && is_on(|to| matches!(to, To::Version)) {
        return Ok(Asked::Print(format!("Kubernetes {}\n", super::super::KUBERNETES_VERSION)));
    }
    if problems.is_empty() && is_on(|to| matches!(to, To::CleanUp)) {
        return Ok(Asked::CleanUp);
    }
    let file = given.iter().rev().find(|(_, to, _)| matches!(to, To::Config)).map(|(.., path)| PathBuf::from(path));
    let mut settings = match &file {
        Some(path) => document::read_proxy_file(path, &mut problems),
        None => Map::new(),
    };
    let mut without = Vec::new();
    for (name, to, text) in &given {
        match to {
            To::Field(path) if file.is_none() || matches!(*name, "hostname-override" | "v") => {
                let Some(field) = field(path) else { continue };
                match convert(&field.kind, text) {
                    Ok(mut value) => {
                        check::check(&mut value, &field.kind, &format!("--{name}"), &mut problems);
                        set(&mut settings, path, value, true);
                    }
                    Err(problem) => problems.push(format!("--{name}: {problem}")),
                }
            }
            To::Field(_) => without.push(format!("--{name}")),
            To::Ignored(reason) => warnings.push(format!("--{name} has no effect: {reason}")),
            _ => {}
        }
    }
    if !without.is_empty() {
        warnings.push(format!("flags without effect, because the config file says everything: {}", without.join(", ")));
    }
    // One flag for both modes.
    if file.is_none() {
        let of_iptables = settings.get("iptables").cloned();
        for name in ["masqueradeAll", "masqueradeBit"] {
            if let Some(value) = of_iptables.as_ref().and_then(|of| of.get(name)) {
                set(&mut settings, &format!("nftables.{name}"), value.clone(), true);
            }
        }
    }
    let view = View(&settings);
    let text = |path: &str| Some(view.text(path).to_owned()).filter(|text| !text.is_empty());
    let number = |path: &str| view.value(path).and_then(Value::as_i64);
    let alone = Alone {
        kubeconfig: text("clientConnection.kubeconfig").map(PathBuf::from),
        node: text("hostnameOverride"),
        oom_score_adj: number("oomScoreAdj").and_then(|score| i32::try_from(score).ok()).unwrap_or(-999),
        logging: Logging {
            format: if text("logging.format").as_deref() == Some("json") { LogFormat::Json } else { LogFormat::Text },
            verbosity: number("logging.verbosity").and_then(|verbosity| u32::try_from(verbosity).ok()).unwrap_or(0),
        },
        init_only: is_on(|to| matches!(to, To::InitOnly)),
        proxy: complete(settings.clone(), &mut problems),
        warnings,
    };
    if problems.is_empty() { Ok(Asked::Run(Box::new(alone))) } else { Err(ConfigError { problems }) }
}

fn help() -> String {
    let mut text = String::from(
        "kubelet-rs proxy programs Services on a node whose pods a Go kubelet runs. It takes kube-proxy's flags and its config file.\n\n\
         Usage:\n  kubelet-rs proxy --config FILE\n  kubelet-rs proxy --kubeconfig FILE [flags]\n\nFlags:\n",
    );
    for (name, to) in FLAGS {
        let about = match to {
            To::Field(path) => format!("sets {path} of the config file"),
            To::Config => "file with KubeProxyConfiguration".to_owned(),
            To::Help => "print this text".to_owned(),
            To::Version => "print the Kubernetes version that this agent stands for".to_owned(),
            To::CleanUp => "remove the rules of Services from this host, and end".to_owned(),
            To::InitOnly => "do what needs root alone, and end: afterwards CAP_NET_ADMIN is enough".to_owned(),
            To::Ignored(_) => continue,
        };
        // Writing to a String can't fail.
        let _ = writeln!(text, "  --{name:<44} {about}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{Mode, NodePorts};
    use super::*;

    fn read(line: &str) -> Result<Asked, ConfigError> {
        load(line.split_whitespace().map(OsString::from).collect())
    }

    fn run(line: &str) -> Alone {
        match read(line) {
            Ok(Asked::Run(alone)) => *alone,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_alone() {
        let alone = run(
            "--kubeconfig=/etc/kube --proxy-mode iptables --masquerade-all --iptables-masquerade-bit=3 --nodeport-addresses=10.0.0.0/8,fd00::/8 \
             --hostname-override n1 -v=4 --conntrack-min 7 --oom-score-adj=-5 --master=https://x",
        );
        assert_eq!((alone.kubeconfig, alone.node.as_deref()), (Some("/etc/kube".into()), Some("n1")));
        assert_eq!(alone.proxy.mode, Mode::Iptables { localhost_node_ports: true });
        assert_eq!((alone.proxy.masquerade_all, alone.proxy.masquerade_bit, alone.proxy.conntrack.min), (true, 3, 7));
        assert_eq!(alone.proxy.node_ports, NodePorts::In(["10.0.0.0/8", "fd00::/8"].map(|range| range.parse().unwrap()).to_vec()));
        assert_eq!((alone.oom_score_adj, alone.logging.verbosity, alone.init_only), (-5, 4, false));
        assert_eq!(alone.warnings.len(), 1, "{:?}", alone.warnings);
        assert!(run("--proxy-mode=nftables --masquerade-all").proxy.masquerade_all);
        assert_eq!(run("--init-only").kubeconfig, None);
    }

    #[test]
    fn a_file_says_everything() {
        let directory = std::env::temp_dir().join(format!("kubelet-rs-alone-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("config.conf");
        std::fs::write(
            &file,
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\nhostnameOverride: n0\nclientConnection:\n  kubeconfig: kubeconfig.conf\n",
        )
        .unwrap();
        let alone = run(&format!("--config={} --hostname-override=n1 --proxy-mode=iptables", file.display()));
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!((alone.proxy.mode, alone.node.as_deref()), (Mode::Nftables, Some("n1")));
        assert_eq!(alone.kubeconfig, Some(directory.join("kubeconfig.conf")), "relative to the file");
        assert!(alone.warnings.iter().any(|line| line.contains("--proxy-mode")), "{:?}", alone.warnings);
    }

    #[test]
    fn other_commands_and_mistakes() {
        assert!(matches!(read("--cleanup"), Ok(Asked::CleanUp)));
        assert!(matches!(read("--help"), Ok(Asked::Print(text)) if text.contains("--proxy-mode")));
        let error = read("--proxy-mode=ipvs --clustercidr=x --conntrack-min=many --config").unwrap_err().to_string();
        for line in ["--cluster-cidr?", "--config: needs a value", "--conntrack-min", "ipvs is deprecated"] {
            assert!(error.contains(line), "{line}: {error}");
        }
        assert!(read("--config=/nowhere").unwrap_err().to_string().contains("/nowhere: can't read the config file"));
    }
}
