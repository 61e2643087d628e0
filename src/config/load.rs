//! Command line → [`Config`]: lays the layers over each other, then checks the whole.
//!
//! Precedence: flags, then drop-ins in lexical order, then the file, then defaults (cmd/kubelet/app/server.go).

use std::ffi::OsString;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::view::View;
use super::{
    Config, ConfigError, Invocation, KubeletConfiguration, Options, ProxyConfiguration, cpu_list, defaults, document, flags, gates, proxy,
    unserved, validate,
};

/// The Kubernetes release that this agent stands for, as kubeadm and the API server's clients expect to read it.
pub const KUBERNETES_VERSION: &str = "v1.36.3";

/// Reads the command line (without the program's name) and the files that it names.
pub fn load(args: Vec<OsString>) -> Result<Invocation, ConfigError> {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let line = flags::parse(args, &mut problems);
    if problems.is_empty() && line.help {
        return Ok(Invocation::Print(flags::help()));
    }
    if let (Some(form), true) = (&line.version, problems.is_empty()) {
        match form.as_str() {
            "true" => return Ok(Invocation::Print(format!("Kubernetes {KUBERNETES_VERSION}\n"))),
            "raw" => return Ok(Invocation::Print(raw_version())),
            "false" => {}
            other => problems.push(format!("--version: expected true or raw, got {other:?}")),
        }
    }

    let (mut config, mut proxy_document) = (Map::new(), Map::new());
    match &line.config {
        Some(path) => {
            let (kubelet, of_proxy) = document::read_config_file(path, &mut problems);
            document::merge(&mut config, kubelet);
            proxy_document = of_proxy;
        }
        None => {
            warnings.push(
                "no --config: as upstream does, the server lets anonymous callers do everything unless flags say otherwise; name a config file".to_owned(),
            );
            config = defaults::legacy();
        }
    }
    // Drop-ins change a complete configuration, so that they can take one threshold out of the default ones.
    defaults::fill(&mut config);
    if let Some(directory) = &line.config_dir {
        for path in document::drop_ins(directory, &mut problems) {
            let patch = document::read_drop_in(&path, &mut problems);
            document::merge(&mut config, patch);
        }
    }
    defaults::fill(&mut config);
    let mut options = Options::default();
    flags::apply(&line.given, &mut config, &mut options, &mut problems, &mut warnings);
    defaults::fill_after_flags(&mut config);
    let proxy = proxy::complete(proxy_document, &mut problems);
    // Values of a wrong type would only lead to more lines about the same mistakes.
    if problems.is_empty() {
        validate::validate(&config, &mut problems);
    }
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    warnings.extend(unserved::warning(&config));
    warnings.extend(unserved::flags_warning(&options));
    warnings.extend(gates::warning(&View(&config)));
    reserve_cpus(&mut config);
    let mut config = complete(config)?;
    config.options = options;
    config.proxy = proxy;
    config.warnings = warnings;
    Ok(Invocation::Run(Box::new(config)))
}

/// `reservedSystemCPUs` says how much CPU the system and the agent keep, whatever else is said (cmd/kubelet/app/server.go).
fn reserve_cpus(config: &mut Map<String, Value>) {
    let Some(count) = config.get("reservedSystemCPUs").and_then(Value::as_str).and_then(cpu_list::count) else { return };
    if let Some(Value::Object(reserved)) = config.get_mut("kubeReserved") {
        reserved.remove("cpu");
    }
    if let Some(Value::Object(reserved)) = config.get_mut("systemReserved") {
        reserved.insert("cpu".to_owned(), count.to_string().into());
    }
}

/// The typed form of a complete, valid configuration.
pub(super) fn complete(mut effective: Map<String, Value>) -> Result<Config, ConfigError> {
    let kubelet = KubeletConfiguration::deserialize(&Value::Object(effective.clone()))
        .map_err(|error| ConfigError { problems: vec![format!("the configuration can't be used: {error}")] })?;
    effective.insert("kind".to_owned(), "KubeletConfiguration".into());
    effective.insert("apiVersion".to_owned(), "kubelet.config.k8s.io/v1beta1".into());
    let effective = Value::Object(effective).to_string().into();
    Ok(Config { kubelet, proxy: ProxyConfiguration::default(), options: Options::default(), warnings: Vec::new(), effective })
}

fn raw_version() -> String {
    let mut parts = KUBERNETES_VERSION.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("version.Info{{Major:\"{major}\", Minor:\"{minor}\", GitVersion:\"{KUBERNETES_VERSION}\"}}\n")
}
