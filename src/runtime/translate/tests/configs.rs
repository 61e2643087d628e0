//! Whole configs of real-looking pods, and the fields that are refused.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use proto::cri::{ContainerConfig, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, Mount, NamespaceMode, PodSandboxConfig};
use serde_json::{Value, json};

use super::{first, image, pod, settings};
use crate::network::dns::DnsSettings;
use crate::runtime::Image;
use crate::runtime::translate::{ContainerInput, SandboxInput, TranslateError, container_config, mounts_hosts_file, sandbox_config};
use crate::volumes::{MountedVolume, PodVolumes};

fn sandbox(pod: &Pod) -> Result<PodSandboxConfig, TranslateError> {
    let host = DnsSettings { searches: vec!["lan".into()], ..Default::default() };
    let input = SandboxInput { pod, attempt: 2, cgroup_parent: "/kubepods/podu-1", host_dns: Some(&host) };
    sandbox_config(input, &settings()).map(|(config, _)| config)
}

fn container(pod: &Pod, image: &Image) -> Result<ContainerConfig, TranslateError> {
    container_by(pod, image, false)
}

/// By a runtime that can make mounts read-only with everything below them, or not.
fn container_by(pod: &Pod, image: &Image, recursive_read_only: bool) -> Result<ContainerConfig, TranslateError> {
    let volumes: PodVolumes = BTreeMap::from([
        ("data".to_owned(), MountedVolume { host_path: "/vol/data".into(), read_only: false }),
        ("token".to_owned(), MountedVolume { host_path: "/vol/token".into(), read_only: true }),
    ]);
    let parts = first(pod).volume_mounts.iter().flatten().enumerate().filter(|(_, mount)| mount.sub_path.is_some());
    let sub_paths = parts.map(|(n, _)| (n, "/vol/part".into())).collect();
    let input = ContainerInput {
        pod,
        container: first(pod),
        restart_count: 3,
        image,
        environment: &[("A".into(), "1".into()), ("B".into(), "two".into())],
        volumes: &volumes,
        sub_paths: &sub_paths,
        hosts_file: Some(Path::new("/var/lib/kubelet/pods/u-1/etc-hosts")),
        termination_log: Some(Path::new("/var/lib/kubelet/pods/u-1/containers/app/3")),
        target: None,
        recursive_read_only,
    };
    container_config(input, &settings())
}

fn app(fields: Value) -> Value {
    let mut container = json!({"name": "app", "image": "nginx:1.25"});
    container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    container
}

fn of(container: Value, fields: Value) -> Pod {
    let mut spec = json!({"containers": [container]});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    pod(spec)
}

fn security(pod: &Pod, image: &Image) -> LinuxContainerSecurityContext {
    container(pod, image).unwrap().linux.unwrap().security_context.unwrap()
}

fn sandbox_security(pod: &Pod) -> LinuxSandboxSecurityContext {
    sandbox(pod).unwrap().linux.unwrap().security_context.unwrap()
}

#[test]
fn a_plain_sandbox() {
    let ports = json!([
        {"name": "http", "containerPort": 80, "hostPort": 8080, "protocol": "TCP", "hostIP": "192.0.2.1"},
        {"name": "http", "containerPort": 81},
        {"containerPort": 53, "protocol": "UDP"},
        {"containerPort": 53, "protocol": "UDP"},
        {"containerPort": 53, "protocol": "SCTP"}
    ]);
    let config = sandbox(&of(app(json!({"ports": ports})), json!({"subdomain": "s", "setHostnameAsFQDN": true}))).unwrap();
    let metadata = config.metadata.unwrap();
    assert_eq!((metadata.name.as_str(), metadata.namespace.as_str(), metadata.uid.as_str(), metadata.attempt), ("web", "shop", "u-1", 2));
    assert_eq!(config.hostname, "web.s.shop.svc.cluster.local");
    assert_eq!(config.log_directory, "/var/log/pods/shop_web_u-1");
    assert_eq!(config.dns_config.unwrap().searches.last().unwrap(), "lan");
    let ports: Vec<_> = config.port_mappings.iter().map(|p| (p.protocol, p.container_port, p.host_port, p.host_ip.as_str())).collect();
    assert_eq!(ports, [(0, 80, 8080, "192.0.2.1"), (1, 53, 0, ""), (2, 53, 0, "")]);
    let labels: Vec<_> = config.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let want = ["app=web", "io.kubernetes.pod.name=web", "io.kubernetes.pod.namespace=shop", "io.kubernetes.pod.uid=u-1"];
    assert_eq!(labels, want);
    assert_eq!(config.annotations, BTreeMap::from([("note".to_owned(), "x".to_owned())]));
    assert_eq!(config.linux.unwrap().cgroup_parent, "/kubepods/podu-1");
}

#[test]
fn the_same_pod_gives_the_same_sandbox() {
    let pod = of(app(json!({})), json!({"securityContext": {"sysctls": [{"name": "b", "value": "1"}, {"name": "a", "value": "2"}]}}));
    assert_eq!(sandbox(&pod), sandbox(&pod));
}

#[test]
fn host_namespaces() {
    let modes = |fields: Value| {
        let context = sandbox_security(&of(app(json!({})), fields)).namespace_options.unwrap();
        [context.network, context.pid, context.ipc].map(|m| NamespaceMode::try_from(m).unwrap())
    };
    use NamespaceMode::{Container, Node, Pod};
    assert_eq!(modes(json!({})), [Pod, Container, Pod]);
    assert_eq!(modes(json!({"shareProcessNamespace": true})), [Pod, Pod, Pod]);
    assert_eq!(modes(json!({"hostNetwork": true, "hostPID": true, "hostIPC": true})), [Node, Node, Node]);
    let host = of(app(json!({})), json!({"hostNetwork": true}));
    assert_eq!(sandbox(&host).unwrap().hostname, "");
    assert_eq!(security(&host, &image()).namespace_options, sandbox_security(&host).namespace_options);
}

#[test]
fn the_sandbox_takes_the_pods_context() {
    let fields = json!({
        "securityContext": {"runAsUser": 1000, "runAsGroup": 2000, "fsGroup": 3000, "supplementalGroups": [4000, 5000],
            "supplementalGroupsPolicy": "Strict", "sysctls": [{"name": "net.core.somaxconn", "value": "9"}],
            "seLinuxOptions": {"level": "s0:c1"}, "seccompProfile": {"type": "Unconfined"}},
        "initContainers": [{"name": "i", "securityContext": {"privileged": true}}]
    });
    let pod = of(app(json!({})), fields);
    let context = sandbox_security(&pod);
    assert_eq!((context.run_as_user.unwrap().value, context.run_as_group.unwrap().value), (1000, 2000));
    assert_eq!((context.supplemental_groups, context.supplemental_groups_policy), (vec![3000, 4000, 5000], 1));
    assert_eq!((context.privileged, context.selinux_options.unwrap().level.as_str()), (true, "s0:c1"));
    assert_eq!(context.seccomp.unwrap().profile_type, 0, "the pause program runs under the default profile whatever the pod wants");
    assert_eq!(sandbox(&pod).unwrap().linux.unwrap().sysctls["net.core.somaxconn"], "9");
}

#[test]
fn a_plain_container() {
    let fields = json!({
        "command": ["sh", "-c", "echo $(A) $(B) $(C) $$(A)"], "args": ["$(B)"], "workingDir": "/srv", "stdin": true, "tty": true,
        "ports": [{"containerPort": 80, "protocol": "TCP"}],
        "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
        "volumeMounts": [
            {"name": "data", "mountPath": "srv/data", "mountPropagation": "Bidirectional"},
            {"name": "data", "mountPath": "/ro", "readOnly": true},
            {"name": "token", "mountPath": "/token"}
        ]
    });
    let mut pod = of(app(fields), json!({"terminationGracePeriodSeconds": 30}));
    pod.metadata.deletion_grace_period_seconds = Some(5);
    let config = container(&pod, &image()).unwrap();
    let (metadata, spec) = (config.metadata.unwrap(), config.image.unwrap());
    assert_eq!((metadata.name.as_str(), metadata.attempt), ("app", 3));
    assert_eq!((spec.image.as_str(), spec.user_specified_image.as_str()), ("sha256:1", "nginx:1.25"));
    assert_eq!(config.command, ["sh", "-c", "echo 1 two $(C) $(A)"]);
    assert_eq!((config.args, config.working_dir.as_str(), config.log_path.as_str()), (vec!["two".to_owned()], "/srv", "app/3.log"));
    assert_eq!((config.stdin, config.stdin_once, config.tty), (true, false, true));
    assert_eq!(config.envs[1].value, b"two");
    assert_eq!(config.labels["io.kubernetes.container.name"], "app");
    let annotations: Vec<_> = config.annotations.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let want = [
        "io.kubernetes.container.hash=e324a2d6",
        r#"io.kubernetes.container.ports=[{"containerPort":80,"protocol":"TCP"}]"#,
        r#"io.kubernetes.container.preStopHandler={"exec":{"command":["true"]}}"#,
        "io.kubernetes.container.restartCount=3",
        "io.kubernetes.container.terminationMessagePath=/dev/termination-log",
        "io.kubernetes.container.terminationMessagePolicy=File",
        "io.kubernetes.pod.deletionGracePeriod=5",
        "io.kubernetes.pod.terminationGracePeriod=30",
    ];
    assert_eq!(annotations, want);
    let show = |m: &Mount| format!("{} -> {} ro={} propagation={}", m.host_path, m.container_path, m.readonly, m.propagation);
    let want = [
        "/vol/data -> /srv/data ro=false propagation=2",
        "/vol/data -> /ro ro=true propagation=0",
        "/vol/token -> /token ro=true propagation=0",
        "/var/lib/kubelet/pods/u-1/etc-hosts -> /etc/hosts ro=false propagation=0",
        "/var/lib/kubelet/pods/u-1/containers/app/3 -> /dev/termination-log ro=false propagation=0",
    ];
    assert_eq!(config.mounts.iter().map(show).collect::<Vec<_>>(), want);
}

#[test]
fn hosts_files() {
    let plain = of(app(json!({})), json!({}));
    let own = of(app(json!({"volumeMounts": [{"name": "data", "mountPath": "/etc/hosts"}]})), json!({"hostNetwork": true}));
    let host = of(app(json!({})), json!({"hostNetwork": true}));
    let mounts = |pod: &Pod, has_address| mounts_hosts_file(pod, first(pod), has_address);
    assert_eq!([mounts(&plain, true), mounts(&plain, false), mounts(&host, false), mounts(&own, true)], [true, false, true, false]);
}

#[test]
fn a_container_wins_over_its_pod() {
    let fields = json!({"securityContext": {
        "runAsUser": 1, "privileged": true, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false, "procMount": "Unmasked",
        "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}, "seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"},
        "appArmorProfile": {"type": "Localhost", "localhostProfile": "mine"}
    }});
    let of_pod = json!({"securityContext": {"runAsUser": 9, "runAsGroup": 8, "fsGroup": 7, "supplementalGroups": [6],
        "seccompProfile": {"type": "RuntimeDefault"}, "appArmorProfile": {"type": "RuntimeDefault"}}});
    let context = security(&of(app(fields), of_pod.clone()), &image());
    assert_eq!((context.run_as_user.unwrap().value, context.run_as_group.unwrap().value), (1, 8));
    assert!(context.privileged && context.readonly_rootfs && context.no_new_privs);
    assert_eq!((context.masked_paths.len(), context.readonly_paths.len()), (0, 0));
    let capabilities = context.capabilities.unwrap();
    assert_eq!((capabilities.add_capabilities, capabilities.drop_capabilities), (vec!["NET_ADMIN".to_owned()], vec!["ALL".to_owned()]));
    assert_eq!(context.seccomp.unwrap().localhost_ref, "/var/lib/kubelet/seccomp/a/b.json");
    assert_eq!((context.apparmor.unwrap().localhost_ref.as_str(), context.apparmor_profile.as_str()), ("mine", "localhost/mine"));

    let context = security(&of(app(json!({})), of_pod), &image());
    assert_eq!((context.run_as_user.unwrap().value, context.supplemental_groups), (9, vec![7, 6]));
    assert!(!context.privileged && !context.no_new_privs && context.masked_paths.contains(&"/proc/kcore".to_owned()));
    assert_eq!((context.seccomp.unwrap().profile_type, context.apparmor_profile.as_str()), (0, "runtime/default"));
}

#[test]
fn profiles_without_a_wish() {
    let mut plain = of(app(json!({})), json!({}));
    let context = security(&plain, &image());
    assert_eq!((context.seccomp.unwrap().profile_type, context.apparmor, context.apparmor_profile.as_str()), (1, None, ""));
    let key = "container.apparmor.security.beta.kubernetes.io/app".to_owned();
    plain.metadata.annotations = Some(BTreeMap::from([(key, "localhost/old".to_owned())]));
    assert_eq!(security(&plain, &image()).apparmor_profile, "localhost/old");
}

#[test]
fn users() {
    let user = |fields: Value, image: Image| {
        let config = container(&of(app(json!({"securityContext": fields})), json!({})), &image).map_err(|e| e.to_string())?;
        let context = config.linux.unwrap().security_context.unwrap();
        Ok::<_, String>((context.run_as_user.map(|u| u.value), context.run_as_username))
    };
    let numbered = |uid| Image { uid: Some(uid), ..image() };
    let named = || Image { username: "www".into(), ..image() };
    let non_root = || json!({"runAsNonRoot": true});
    assert_eq!(user(json!({}), numbered(0)), Ok((Some(0), String::new())));
    assert_eq!(user(json!({}), named()), Ok((None, "www".into())));
    assert_eq!(user(json!({"runAsUser": 5}), named()), Ok((Some(5), String::new())));
    assert_eq!(user(json!({"runAsUser": 5, "runAsNonRoot": true}), named()), Ok((Some(5), String::new())));
    assert_eq!(user(non_root(), numbered(7)), Ok((Some(7), String::new())));
    for (fields, image, want) in [
        (json!({"runAsUser": 0, "runAsNonRoot": true}), numbered(7), "runAsUser breaks non-root policy"),
        (non_root(), numbered(0), "container has runAsNonRoot and image will run as root"),
        (non_root(), image(), "container has runAsNonRoot and image will run as root"),
        (non_root(), numbered(-1), "invalid user id (-1)"),
        (non_root(), named(), "image has non-numeric user (www), cannot verify user is non-root"),
    ] {
        let error = user(fields, image).expect_err(want);
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn mounts_are_read_only_with_everything_below_where_the_runtime_can() {
    let refused = |why: &str| {
        Err(format!("failed to resolve recursive read-only mode: volume \"data\" requested recursive read-only mode, but it is {why}"))
    };
    for (mode, more, supported, want) in [
        ("Disabled", json!({}), true, Ok(false)),
        ("IfPossible", json!({}), false, Ok(false)),
        ("IfPossible", json!({}), true, Ok(true)),
        ("Enabled", json!({"mountPropagation": "None"}), true, Ok(true)),
        ("Enabled", json!({}), false, refused("not supported by the runtime")),
        ("Enabled", json!({"mountPropagation": "HostToContainer"}), true, refused("not compatible with propagation \"HostToContainer\"")),
        ("IfPossible", json!({"readOnly": false}), true, refused("not read-only")),
        ("x", json!({}), true, Err("recursiveReadOnly \"x\" is not valid: Disabled, IfPossible or Enabled".to_owned())),
    ] {
        let mut mount = json!({"name": "data", "mountPath": "/d", "readOnly": true, "recursiveReadOnly": mode});
        mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = container_by(&of(app(json!({"volumeMounts": [mount]})), json!({})), &image(), supported);
        assert_eq!(made.map(|config| config.mounts[0].recursive_read_only).map_err(|e| e.to_string()), want, "{mode} {more}");
    }
}

#[test]
fn parts_of_volumes() {
    let mounts = json!([{"name": "data", "mountPath": "/all"}, {"name": "data", "mountPath": "/part", "subPath": "a", "readOnly": true}]);
    let config = container(&of(app(json!({ "volumeMounts": mounts })), json!({})), &image()).unwrap();
    let paths: Vec<_> = config.mounts.iter().map(|m| (m.container_path.as_str(), m.host_path.as_str(), m.readonly)).collect();
    assert_eq!(paths[..2], [("/all", "/vol/data", false), ("/part", "/vol/part", true)]);

    let environment =
        [("POD", "web-0"), ("EMPTY", ""), ("SLASH", "/etc"), ("UP", "..")].map(|(name, value)| (name.to_owned(), value.into()));
    for (fields, want) in [
        (json!({}), Ok(None)),
        (json!({"subPath": ""}), Ok(None)),
        (json!({"subPath": "a/b"}), Ok(Some("a/b"))),
        (json!({"subPath": "$(POD)"}), Ok(Some("$(POD)"))),
        (json!({"subPathExpr": "logs/$(POD)/$$(POD)"}), Ok(Some("logs/web-0/$(POD)"))),
        (json!({"subPathExpr": "$(POD)/$(NONE)/$(EMPTY)"}), Err("missing value for EMPTY, NONE")),
        (json!({"subPathExpr": "$(SLASH)"}), Err("unable to provision SubPath `/etc`: must not be an absolute path")),
        (json!({"subPathExpr": "a/$(UP)/$(UP)"}), Err("unable to provision SubPath `a/../..`: must not contain '..'")),
        (json!({"subPath": "..data/x"}), Ok(Some("..data/x"))),
    ] {
        let mut mount = json!({"name": "data", "mountPath": "/d"});
        mount.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let got = super::super::sub_path(&serde_json::from_value(mount).unwrap(), &environment).map_err(|error| error.to_string());
        assert_eq!(got, want.map(|path| path.map(str::to_owned)).map_err(str::to_owned), "{fields}");
    }
}

#[test]
fn what_cannot_be_done_is_refused_with_the_fields_name() {
    let mount = |fields: Value| {
        let mut mount = json!({"name": "data", "mountPath": "/d"});
        mount.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        app(json!({"volumeMounts": [mount]}))
    };
    let context = |fields: Value| app(json!({ "securityContext": fields }));
    for (of_container, of_pod, want) in [
        (mount(json!({"name": "none"})), json!({}), r#"cannot find volume "none" to mount into container "app""#),
        (mount(json!({"mountPropagation": "x"})), json!({}), r#"mountPropagation "x" is not valid: None, HostToContainer or"#),
        (app(json!({"volumeDevices": [{"name": "data", "devicePath": "/dev/x"}]})), json!({}), "volumeDevices is not supported yet"),
        (app(json!({})), json!({"hostUsers": false}), "spec.hostUsers: false is not supported yet"),
        (context(json!({"seccompProfile": {"type": "Localhost"}})), json!({}), "seccompProfile.localhostProfile"),
        (
            context(json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "../x"}})),
            json!({}),
            "seccompProfile.localhostProfile",
        ),
        (context(json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "/x"}})), json!({}), "seccompProfile.localhostProfile"),
        (context(json!({"seccompProfile": {"type": "x"}})), json!({}), "seccompProfile.type \"x\" is not valid"),
        (context(json!({"appArmorProfile": {"type": "Localhost"}})), json!({}), "appArmorProfile.localhostProfile"),
        (
            app(json!({})),
            json!({"securityContext": {"supplementalGroupsPolicy": "x"}}),
            "spec.securityContext.supplementalGroupsPolicy \"x\"",
        ),
    ] {
        let error = container(&of(of_container, of_pod), &image()).expect_err(want).to_string();
        assert!(error.starts_with(want), "{error}");
    }
    let error = sandbox(&of(app(json!({})), json!({"hostname": "UP"}))).expect_err("hostname").to_string();
    assert!(error.starts_with("spec.hostname \"UP\""), "{error}");
}
