//! New limits for what runs.

use k8s_openapi::api::core::v1::Pod;

use super::{RETRY, Run};
use crate::api::events::EventType;
use crate::pods::memory::Subject;
use crate::pods::progress::Progress;
use crate::pods::resize::{Due, message};
use crate::pods::spec;
use crate::resources::PodMemory;
use crate::runtime::ErrorKind;
use crate::runtime::translate::{container_resources, sandbox_resources};

impl Run {
    /// The pod's cgroup first, as far as the kernel lets it go while containers have their old limits; then the containers, those that get less before
    /// those that get more; then the rest of the pod's (upstream: `doPodResizeAction`, which orders by resource).
    pub(super) async fn resize(&self, list: Vec<Due>) {
        let Some(pod) = &self.job.pod else { return };
        let ctx = &self.job.ctx;
        let lacking = self.lacking_memory(pod, &list).await;
        if !lacking.is_empty() {
            return self.resize_failed(format!("cannot decrease memory limits: {}", lacking.join(", ")));
        }
        let first = ctx.cgroups.set_up(pod).await;
        for due in &list {
            let Some(container) = spec::container(pod, &due.name) else { continue };
            let resources = container_resources(pod, container, &ctx.translate);
            match ctx.runtime.update_container(&due.id, resources).await {
                Ok(()) => self.report(Progress::Limited(due.id.clone())),
                // It has ended meanwhile: the next one gets the new limits when it starts.
                Err(error) if error.is_not_found() => self.report(Progress::Uncertain),
                Err(error) => return self.resize_failed(format!("container {}: {error}", due.name)),
            }
        }
        // Most often all is done: only what did not go before is tried again.
        if first.is_err()
            && let Err(error) = ctx.cgroups.set_up(pod).await
        {
            return self.resize_failed(error.to_string());
        }
        if let Some(sandbox) = &self.job.sandbox {
            let (overhead, resources) = sandbox_resources(pod, &ctx.translate);
            match ctx.runtime.update_sandbox(&sandbox.id, overhead, resources).await {
                Ok(()) => {}
                // For information: runtimes without virtual machines need not know it.
                Err(error) if error.kind == ErrorKind::Unimplemented || error.to_string().contains("not implemented") => {}
                Err(error) => return self.resize_failed(error.to_string()),
            }
        }
        self.report(Progress::Succeeded(Subject::Resize));
        self.report(Progress::Resized);
    }

    /// Memory limits below what is in use already: processes would end for them (upstream: `validateMemoryResizeAction`).
    async fn lacking_memory(&self, pod: &Pod, list: &[Due]) -> Vec<String> {
        let ctx = &self.job.ctx;
        let below = |whose: &str, limit: u64, in_use: u64| {
            (in_use >= limit).then(|| format!("attempting to set {whose} memory limit ({limit}) below current usage ({in_use})"))
        };
        let mut lacking = vec![];
        if let Some(PodMemory { in_use, limit, wanted: Some(wanted) }) = ctx.cgroups.memory(pod).await
            && limit.is_none_or(|limit| wanted < limit)
        {
            lacking.extend(below("pod", wanted, in_use));
        }
        for due in list {
            let Some(limit) = due.less_memory.and_then(|limit| u64::try_from(limit).ok()) else { continue };
            match ctx.runtime.container_usage(&due.id).await.map(|usage| usage.memory) {
                Ok(Some(in_use)) => lacking.extend(below(&format!("container {:?}", due.name), limit, in_use)),
                // It has ended, or the runtime does not tell: then the kernel decides.
                Ok(None) => {}
                Err(error) => tracing::debug!(pod = %self.job.name, container = due.name, %error, "Can't ask what the container uses"),
            }
        }
        lacking
    }

    fn resize_failed(&self, error: String) {
        tracing::warn!(pod = %self.job.name, %error, "Can't change the pod's limits, will try again");
        if let Some(pod) = &self.job.pod {
            self.event(None, EventType::Warning, "ResizeError", &message("error", pod, Some(&error)));
        }
        self.failed(Subject::Resize, "Error", error, RETRY);
    }
}
