//! What of an allocation is not in force yet: pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container as Spec, Pod};

use crate::model::ContainerId;
use crate::pods::plan::View;
use crate::pods::spec;
use crate::runtime::translate::{TranslateSettings, container_resources};
use crate::runtime::{Container, ContainerPhase, Limits};

/// One running instance whose limits are not those that are allocated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Which.
    pub id: ContainerId,
    /// Its container.
    pub name: String,
    /// It gets less than it has of something: that comes first, so that there is room for what others get.
    pub shrinks: bool,
    /// Its resize policy wants a new instance for such a change.
    pub restart: bool,
}

/// The limits of each container of a pod, as the runtime is told them.
pub fn limits(pod: &Pod, settings: &TranslateSettings) -> BTreeMap<String, Limits> {
    let all = spec::init_containers(pod).iter().chain(spec::containers(pod));
    all.map(|c| {
        let told = container_resources(pod, c, settings);
        let limits = Limits {
            cpu_shares: told.cpu_shares,
            cpu_quota: told.cpu_quota,
            cpu_period: told.cpu_period,
            memory: told.memory_limit_in_bytes,
        };
        (c.name.clone(), limits)
    })
    .collect()
}

/// All that is due.
pub fn due(view: &View, pod: &Pod) -> Vec<Due> {
    let running = view.observed.containers.iter().filter(|r| r.phase == ContainerPhase::Running);
    let mut list: Vec<Due> = running
        .filter_map(|record| {
            let wanted = *view.resize.wanted.get(&*record.name)?;
            let Some(now) = in_force(view, record) else {
                // Nobody knows what it has: it is told again with each change.
                let (id, name) = (record.id.clone(), record.name.to_string());
                return view.resize.changed.then_some(Due { id, name, shrinks: false, restart: false });
            };
            let (cpu, memory) = (differs_in_cpu(now, wanted), amount(now.memory) != amount(wanted.memory));
            let shrinks = less(wanted.memory, now.memory) || less(wanted.cpu_quota, now.cpu_quota) || wanted.cpu_shares < now.cpu_shares;
            let restart =
                spec::container(pod, &record.name).is_some_and(|c| (cpu && restarts(c, "cpu")) || (memory && restarts(c, "memory")));
            (cpu || memory).then(|| Due { id: record.id.clone(), name: record.name.to_string(), shrinks, restart })
        })
        .collect();
    list.sort_by_key(|due| !due.shrinks);
    list
}

/// What the runtime was told last, by this agent or as it says itself.
fn in_force(view: &View, record: &Container) -> Option<Limits> {
    view.memory.in_force.get(&record.id).copied().or(record.limits)
}

/// No limit is written as zero or below.
fn amount(limit: i64) -> i64 {
    limit.max(0)
}

fn less(new: i64, old: i64) -> bool {
    amount(new) > 0 && (amount(old) == 0 || new < old)
}

fn differs_in_cpu(now: Limits, wanted: Limits) -> bool {
    // A runtime that tells no shares does not know them.
    let shares = now.cpu_shares > 0 && now.cpu_shares != wanted.cpu_shares;
    let period = amount(wanted.cpu_quota) > 0 && now.cpu_period > 0 && now.cpu_period != wanted.cpu_period;
    shares || period || amount(now.cpu_quota) != amount(wanted.cpu_quota)
}

fn restarts(container: &Spec, resource: &str) -> bool {
    container.resize_policy.iter().flatten().any(|p| p.resource_name == resource && p.restart_policy == "RestartContainer")
}
