//! Nothing has begun yet, and nothing can be done without the person: the agent says what is wrong and ends.

use std::path::Path;

use crate::{LAB, agent, config_with, file, start, with};

#[test]
fn a_malformed_config() {
    LAB.run("malformed", async |lab, _| {
        let config =
            file(lab, "malformed.yaml", "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nauthentication: {\n")?;
        start(lab, &with(agent(lab, "malformed")?, "--config", &config))?.refuses(1, &["malformed.yaml"]).await
    });
}

#[test]
fn all_wrong_fields_are_told_at_once_with_their_paths() {
    LAB.run("fields", async |lab, _| {
        let config = config_with(lab, "fields", "maxPodss: 3\nshutdownGracePeriod: soon\nhealthzPort: 700000")?;
        start(lab, &with(agent(lab, "fields")?, "--config", &config))?.refuses(5, &["maxPodss", "shutdownGracePeriod", "healthzPort"]).await
    });
}

#[test]
fn a_kind_that_nobody_knows() {
    LAB.run("kind", async |lab, _| {
        let config = file(lab, "kind.yaml", "apiVersion: v1\nkind: Pod\n")?;
        start(lab, &with(agent(lab, "kind")?, "--config", &config))?.refuses(2, &["KubeletConfiguration"]).await
    });
}

#[test]
fn no_config_file() {
    LAB.run("no-config", async |lab, _| {
        start(lab, &with(agent(lab, "no-config")?, "--config", Path::new("/no/such.yaml")))?.refuses(1, &["/no/such.yaml"]).await
    });
}

#[test]
fn an_unknown_flag() {
    LAB.run("flag", async |lab, _| {
        let mut spec = agent(lab, "flag")?;
        spec.args.push("--no-such-flag=1".into());
        start(lab, &spec)?.refuses(2, &["--no-such-flag"]).await
    });
}

#[test]
fn no_kubeconfig() {
    LAB.run("no-kubeconfig", async |lab, _| {
        start(lab, &with(agent(lab, "no-kubeconfig")?, "--kubeconfig", Path::new("/no/such.conf")))?.refuses(1, &["/no/such.conf"]).await
    });
}

#[test]
fn a_malformed_kubeconfig() {
    LAB.run("kubeconfig", async |lab, _| {
        let config = file(lab, "broken.conf", "apiVersion: v1\nkind: Config\nclusters: 7\n")?;
        start(lab, &with(agent(lab, "kubeconfig")?, "--kubeconfig", &config))?.refuses(1, &["broken.conf"]).await
    });
}

#[test]
fn not_root() {
    LAB.run("not-root", async |lab, _| {
        let mut spec = agent(lab, "not-root")?;
        let as_nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"].map(Into::into).into_iter();
        spec.args = as_nobody.chain([spec.program.into_os_string()]).chain(spec.args).collect();
        spec.program = "setpriv".into();
        start(lab, &spec)?.refuses(2, &["root"]).await
    });
}
