//! `--help`.

use std::fmt::Write;

use super::table::{FLAGS, Target};

/// The whole text.
pub(in super::super) fn help() -> String {
    let mut text = String::from(
        "kubelet-rs is the agent of a Kubernetes node: it runs the pods that are bound to the node, and programs Services.\n\n\
         Usage:\n  kubelet-rs --config FILE --kubeconfig FILE [flags]\n  kubelet-rs proxy      program Services alone, beside a Go kubelet (see kubelet-rs \
         proxy --help)\n  kubelet-rs cleanup    remove the rules of Services, also those of kube-proxy (without\n                        them: --own), from this host\n\nFlags:\n",
    );
    let mut line = |name: &str, about: &str| {
        let dashes = if name.len() == 1 { "-" } else { "--" };
        let name = format!("{dashes}{name}");
        // Writing to a String can't fail.
        let _ = writeln!(text, "  {name:<46} {about}");
    };
    line("help", "print this text (also -h)");
    line("version", "print the Kubernetes version that this agent stands for (=raw: with its parts)");
    line("config", "file with KubeletConfiguration and, optionally, KubeProxyConfiguration");
    line("config-dir", "directory of drop-ins (*.conf) that change the config file's fields");
    for flag in FLAGS {
        match flag.target {
            Target::Option(_, about) => line(flag.name, about),
            Target::Field(path) | Target::Thresholds(path) | Target::Taints(path) | Target::VModule(path) | Target::Headers(path) => {
                line(flag.name, &format!("sets {path} of the config file"));
            }
            Target::Help | Target::Version | Target::ConfigFile | Target::ConfigDir | Target::Ignored(_) | Target::IgnoredBool(_) => {}
        }
    }
    text
}
