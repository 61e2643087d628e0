//! Security contexts of sandboxes and containers.
//!
//! A field of the container wins over the same field of the pod. Rules from pkg/securitycontext and
//! pkg/kubelet/kuberuntime/security_context.go of Kubernetes.

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, PodSpec, SELinuxOptions, SecurityContext};
use proto::cri::{
    Capability, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption, SeLinuxOption,
    SupplementalGroupsPolicy,
};

use super::profiles::{self, RUNTIME_DEFAULT};
use super::{TranslateError, TranslateSettings};
use crate::model::ContainerId;
use crate::runtime::Image;

/// Parts of /proc and /sys that tell about the host or its other users (the default masks of container engines, which upstream
/// keeps in step with moby's oci/defaults.go).
const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// Parts of /proc that change the host.
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The sandbox's context. Its own process is the pause program: it always runs under the default seccomp profile.
pub(super) fn sandbox(spec: &PodSpec) -> Result<LinuxSandboxSecurityContext, TranslateError> {
    let none = PodSecurityContext::default();
    let pod = spec.security_context.as_ref().unwrap_or(&none);
    Ok(LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec, None)?),
        selinux_options: pod.se_linux_options.as_ref().map(selinux),
        run_as_user: pod.run_as_user.map(number),
        run_as_group: pod.run_as_group.map(number),
        readonly_rootfs: false,
        supplemental_groups: supplemental_groups(pod),
        supplemental_groups_policy: groups_policy(pod)?.into(),
        privileged: any_privileged(spec),
        seccomp: Some(RUNTIME_DEFAULT),
        apparmor: None,
    })
}

/// A container's context.
pub(super) fn container(
    pod: &Pod,
    spec: &PodSpec,
    container: &Container,
    image: &Image,
    target: Option<&ContainerId>,
    settings: &TranslateSettings,
) -> Result<LinuxContainerSecurityContext, TranslateError> {
    let (no_pod, no_own) = (PodSecurityContext::default(), SecurityContext::default());
    let of_pod = spec.security_context.as_ref().unwrap_or(&no_pod);
    let own = container.security_context.as_ref().unwrap_or(&no_own);
    let user = own.run_as_user.or(of_pod.run_as_user);
    if own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true) {
        check_not_root(user, image).map_err(TranslateError::Root)?;
    }
    let apparmor = profiles::apparmor(pod, of_pod, container, own)?;
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    let masked = MASKED_PATHS.iter().map(|p| (*p).to_owned()).chain(settings.host.thermal_throttle.iter().cloned());
    Ok(LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(|c| Capability {
            add_capabilities: c.add.clone().unwrap_or_default(),
            drop_capabilities: c.drop.clone().unwrap_or_default(),
            add_ambient_capabilities: vec![],
        }),
        privileged: own.privileged == Some(true),
        namespace_options: Some(namespaces(spec, target)?),
        selinux_options: own.se_linux_options.as_ref().or(of_pod.se_linux_options.as_ref()).map(selinux),
        run_as_user: user.or(image.uid).map(number),
        run_as_group: own.run_as_group.or(of_pod.run_as_group).map(number),
        run_as_username: if user.is_none() && image.uid.is_none() { image.username.clone() } else { String::new() },
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: supplemental_groups(of_pod),
        supplemental_groups_policy: groups_policy(of_pod)?.into(),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: if unmasked { vec![] } else { masked.collect() },
        readonly_paths: if unmasked { vec![] } else { READONLY_PATHS.iter().map(|p| (*p).to_owned()).collect() },
        seccomp: Some(profiles::seccomp(of_pod, own, settings)?),
        apparmor_profile: apparmor.as_ref().map(profiles::old_apparmor).unwrap_or_default(),
        apparmor,
    })
}

fn namespaces(spec: &PodSpec, target: Option<&ContainerId>) -> Result<NamespaceOption, TranslateError> {
    // Without ID mappings the container would run as the host's root: that must not happen silently.
    if spec.host_users == Some(false) {
        return Err(TranslateError::Unsupported { field: "spec.hostUsers: false" });
    }
    let mode = |host: Option<bool>, own| if host == Some(true) { NamespaceMode::Node } else { own };
    let pid = if spec.share_process_namespace == Some(true) { NamespaceMode::Pod } else { NamespaceMode::Container };
    Ok(NamespaceOption {
        network: mode(spec.host_network, NamespaceMode::Pod).into(),
        pid: target.map_or(mode(spec.host_pid, pid), |_| NamespaceMode::Target).into(),
        ipc: mode(spec.host_ipc, NamespaceMode::Pod).into(),
        target_id: target.map(ToString::to_string).unwrap_or_default(),
        userns_options: None,
    })
}

/// runAsNonRoot: numbers are compared; a name can't be, as only the image knows what number it stands for. An image that names no user
/// runs as root (`kuberuntime/helpers.go`, getImageUser). The texts are upstream's, which people search for.
fn check_not_root(user: Option<i64>, image: &Image) -> Result<(), String> {
    match (user, image.uid) {
        (Some(0), _) => Err("container's runAsUser breaks non-root policy".into()),
        (Some(_), _) => Ok(()),
        (None, None) if image.username.is_empty() => check_not_root(None, &Image { uid: Some(0), ..image.clone() }),
        (None, Some(0)) => Err("container has runAsNonRoot and image will run as root".into()),
        (None, Some(uid)) if !(0..=i64::from(i32::MAX)).contains(&uid) => {
            Err(format!("container has runAsNonRoot and image has an invalid user id ({uid}); set runAsUser"))
        }
        (None, Some(_)) => Ok(()),
        (None, None) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root; set runAsUser",
            image.username
        )),
    }
}

fn supplemental_groups(pod: &PodSecurityContext) -> Vec<i64> {
    pod.fs_group.into_iter().chain(pod.supplemental_groups.iter().flatten().copied()).collect()
}

fn groups_policy(pod: &PodSecurityContext) -> Result<SupplementalGroupsPolicy, TranslateError> {
    match pod.supplemental_groups_policy.as_deref() {
        None | Some("Merge") => Ok(SupplementalGroupsPolicy::Merge),
        Some("Strict") => Ok(SupplementalGroupsPolicy::Strict),
        Some(other) => {
            let (field, expected) = ("spec.securityContext.supplementalGroupsPolicy", "Merge or Strict");
            Err(TranslateError::Invalid { field, value: other.to_owned(), expected })
        }
    }
}

fn any_privileged(spec: &PodSpec) -> bool {
    let privileged = |s: &Option<SecurityContext>| s.as_ref().and_then(|s| s.privileged) == Some(true);
    let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut ephemeral = spec.ephemeral_containers.iter().flatten();
    containers.any(|c| privileged(&c.security_context)) || ephemeral.any(|c| privileged(&c.security_context))
}

fn number(value: i64) -> Int64Value {
    Int64Value { value }
}

fn selinux(options: &SELinuxOptions) -> SeLinuxOption {
    let text = |s: &Option<String>| s.clone().unwrap_or_default();
    SeLinuxOption { user: text(&options.user), role: text(&options.role), r#type: text(&options.type_), level: text(&options.level) }
}
