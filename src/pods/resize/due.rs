//! What of an allocation is not in force yet: pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container as Spec, Pod};

use crate::model::ContainerId;
use crate::model::resources::amount;
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
    /// The new memory limit in bytes, where it is less than what it has: there must be room for what is in use.
    pub less_memory: Option<i64>,
    /// Its resize policy wants a new instance for such a change.
    pub restart: bool,
}

/// What a container has, or shall have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// As the runtime is told it.
    pub limits: Limits,
    /// Bytes, which no runtime is told, but which a container may want to start anew for. Unknown of what an agent before this one started.
    pub memory_request: Option<i64>,
}

/// What each container of a pod shall have.
pub fn given(pod: &Pod, settings: &TranslateSettings) -> BTreeMap<String, Given> {
    let all = spec::init_containers(pod).iter().chain(spec::containers(pod));
    all.map(|c| {
        let told = container_resources(pod, c, settings);
        let limits = Limits {
            cpu_shares: told.cpu_shares,
            cpu_quota: told.cpu_quota,
            cpu_period: told.cpu_period,
            memory: told.memory_limit_in_bytes,
        };
        let request = c.resources.as_ref().and_then(|r| amount(r.requests.as_ref(), "memory")).unwrap_or_default();
        (c.name.clone(), Given { limits, memory_request: Some(request.value()) })
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
                return view.resize.changed.then_some(Due { id, name, shrinks: false, less_memory: None, restart: false });
            };
            let requested = now.memory_request.is_some() && now.memory_request != wanted.memory_request;
            let (now, wanted) = (now.limits, wanted.limits);
            let (cpu, memory) = (differs_in_cpu(now, wanted), capped(now.memory) != capped(wanted.memory));
            let less_memory = less(wanted.memory, now.memory).then_some(wanted.memory);
            let shrinks = less_memory.is_some() || less(wanted.cpu_quota, now.cpu_quota) || wanted.cpu_shares < now.cpu_shares;
            let restart = spec::container(pod, &record.name)
                .is_some_and(|c| (cpu && restarts(c, "cpu")) || ((memory || requested) && restarts(c, "memory")));
            (cpu || memory || restart).then(|| Due { id: record.id.clone(), name: record.name.to_string(), shrinks, less_memory, restart })
        })
        .collect();
    list.sort_by_key(|due| !due.shrinks);
    list
}

/// What the runtime was told last, by this agent or as it says itself.
fn in_force(view: &View, record: &Container) -> Option<Given> {
    let told = record.limits.map(|limits| Given { limits, memory_request: None });
    view.memory.in_force.get(&record.id).copied().or(told)
}

/// No limit is written as zero or below.
fn capped(limit: i64) -> i64 {
    limit.max(0)
}

fn less(new: i64, old: i64) -> bool {
    capped(new) > 0 && (capped(old) == 0 || new < old)
}

fn differs_in_cpu(now: Limits, wanted: Limits) -> bool {
    // A runtime that tells no shares does not know them.
    let shares = now.cpu_shares > 0 && now.cpu_shares != wanted.cpu_shares;
    let period = capped(wanted.cpu_quota) > 0 && now.cpu_period > 0 && now.cpu_period != wanted.cpu_period;
    shares || period || capped(now.cpu_quota) != capped(wanted.cpu_quota)
}

fn restarts(container: &Spec, resource: &str) -> bool {
    container.resize_policy.iter().flatten().any(|p| p.resource_name == resource && p.restart_policy == "RestartContainer")
}
