//! New limits for what runs.

use super::{RETRY, Run};
use crate::api::events::EventType;
use crate::pods::memory::Subject;
use crate::pods::progress::Progress;
use crate::pods::resize::{Due, message};
use crate::pods::spec;
use crate::runtime::ErrorKind;
use crate::runtime::translate::{container_resources, sandbox_resources};

impl Run {
    /// The pod's cgroup first, as far as the kernel lets it go while containers have their old limits; then the containers, those that get less before
    /// those that get more; then the rest of the pod's (upstream: `doPodResizeAction`, which orders by resource).
    pub(super) async fn resize(&self, list: Vec<Due>) {
        let Some(pod) = &self.job.pod else { return };
        let ctx = &self.job.ctx;
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

    fn resize_failed(&self, error: String) {
        tracing::warn!(pod = %self.job.name, %error, "Can't change the pod's limits, will try again");
        if let Some(pod) = &self.job.pod {
            self.event(None, EventType::Warning, "ResizeError", &message("error", pod, Some(&error)));
        }
        self.failed(Subject::Resize, "Error", error, RETRY);
    }
}
