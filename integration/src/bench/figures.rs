//! What has been measured: samples, by what they tell and of whom.

use std::collections::BTreeMap;
use std::fmt;

/// Whose sample it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// kubelet-rs: one process.
    KubeletRs,
    /// kubelet and kube-proxy.
    Upstream,
    /// No agent at all: the least that the runtime below needs.
    Floor,
}

impl Who {
    /// As the report says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::KubeletRs => "kubelet-rs",
            Self::Upstream => "upstream",
            Self::Floor => "floor",
        }
    }
}

/// What the node has to care for while memory is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
    /// Nothing.
    Idle,
    /// 110 pods.
    Pods,
    /// 110 pods and 1,000 Services.
    PodsAndServices,
    /// 10,000 Services, no pods. Of upstream it is kube-proxy alone.
    ManyServices,
}

/// What a sample tells. Bytes for sizes, seconds for times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Series {
    /// The programs on disk.
    Size,
    /// From the agent's start to a Node that is Ready, newly registered.
    NodeReady,
    /// One pod, created → Ready.
    PodReady,
    /// One pod, deleted → gone.
    PodGone,
    /// 50 pods, created → all Ready.
    ManyReady,
    /// 50 pods, deleted → all gone.
    ManyGone,
    /// 50 pods by bare calls, so many at a time.
    BareMany(usize),
    /// 50 pods by bare calls, while the API server does its part for as many.
    BareManyWithApi,
    /// From the moment when another watcher saw a pod bound to the node to the first call to the runtime about it.
    FirstCall,
    /// From the end of a container's process to the status in the API that says so.
    ExitSeen,
    /// CPU of the agent while it makes 1,000 probes a second, for 60 s.
    ProbeCpu,
    /// CPU of containerd meanwhile.
    ProbeRuntimeCpu,
    /// VmRSS.
    Resident(Load),
    /// VmHWM since the agent's start.
    Peak(Load),
    /// Pss: shared pages divided among those that share them.
    Share(Load),
    /// CPU of the agent while 110 pods run and nothing happens, for 60 s.
    IdleCpu,
    /// CPU of containerd meanwhile.
    IdleRuntimeCpu,
    /// From the agent's start to so many Services that answer.
    Programmed(usize),
    /// From the patch of an EndpointSlice to the first answer of the new endpoint, at so many Services.
    Change(usize),
    /// The same from the moment when another watcher saw the patch.
    ChangeSeen(usize),
    /// CPU for one change.
    ChangeCpu(usize),
    /// CPU from the start until so many Services are programmed.
    ProgramCpu(usize),
    /// CPU while 50 endpoints change each second, for 30 s.
    ChurnCpu,
    /// From a change to the first answer of the new endpoint meanwhile.
    ChurnLag,
    /// One connection through a ClusterIP; of the floor: to an endpoint, with no rules at all.
    Connect,
}

impl fmt::Display for Series {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size => write!(out, "size"),
            Self::NodeReady => write!(out, "Node Ready after"),
            Self::PodReady => write!(out, "pod Ready after"),
            Self::PodGone => write!(out, "pod gone after"),
            Self::ManyReady => write!(out, "all pods Ready after"),
            Self::ManyGone => write!(out, "all pods gone after"),
            Self::BareMany(width) => write!(out, "all pods run, {width} at a time, after"),
            Self::BareManyWithApi => write!(out, "all pods run, and the API server says so, after"),
            Self::FirstCall => write!(out, "first call to the runtime after"),
            Self::ExitSeen => write!(out, "exit seen in the API after"),
            Self::ProbeCpu => write!(out, "CPU of the agent in 60 s with 1,000 probes a second"),
            Self::ProbeRuntimeCpu => write!(out, "CPU of containerd in 60 s with 1,000 probes a second"),
            Self::Resident(load) => write!(out, "VmRSS ({load:?})"),
            Self::Peak(load) => write!(out, "VmHWM ({load:?})"),
            Self::Share(load) => write!(out, "PSS ({load:?})"),
            Self::IdleCpu => write!(out, "CPU of the agent in 60 s"),
            Self::IdleRuntimeCpu => write!(out, "CPU of containerd in 60 s"),
            Self::ProgramCpu(count) => write!(out, "CPU for {count} Services"),
            Self::ChurnCpu => write!(out, "CPU of 50 changes a second for 30 s"),
            Self::ChurnLag => write!(out, "change amid others answers after"),
            Self::Connect => write!(out, "connection made in"),
            Self::Programmed(count) => write!(out, "{count} Services answer after"),
            Self::Change(count) => write!(out, "change at {count} Services answers after"),
            Self::ChangeSeen(count) => write!(out, "change at {count} Services answers, since it was seen, after"),
            Self::ChangeCpu(count) => write!(out, "CPU of a change at {count} Services"),
        }
    }
}

/// All samples of a run.
#[derive(Debug, Default)]
pub struct Figures {
    samples: BTreeMap<(Series, Who), Vec<f64>>,
    notes: BTreeMap<(Series, Who), String>,
    failures: Vec<String>,
}

impl Figures {
    /// Adds a sample.
    pub fn add(&mut self, series: Series, who: Who, value: f64) {
        self.samples.entry((series, who)).or_default().push(value);
    }

    /// Adds what a reader should know beside the figure, such as what it is the sum of. The last one counts.
    pub fn note(&mut self, series: Series, who: Who, note: String) {
        self.notes.insert((series, who), note);
    }

    /// What was noted.
    pub fn noted(&self, series: Series, who: Who) -> Option<&str> {
        self.notes.get(&(series, who)).map(String::as_str)
    }

    /// Writes down that something could not be measured.
    pub fn fail(&mut self, what: String) {
        self.failures.push(what);
    }

    /// What could not be measured.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// The samples of a series in rising order, if there are any.
    pub fn sorted(&self, series: Series, who: Who) -> Option<Vec<f64>> {
        let mut samples = self.samples.get(&(series, who))?.clone();
        samples.sort_by(f64::total_cmp);
        Some(samples)
    }

    /// The middle of the samples, or the mean of the two in the middle.
    pub fn median(&self, series: Series, who: Who) -> Option<f64> {
        self.sorted(series, who).as_deref().and_then(median)
    }
}

/// The median of samples in rising order.
pub fn median(sorted: &[f64]) -> Option<f64> {
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get((sorted.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_what_came_in_any_order() {
        for (samples, expected) in [(&[3.0, 1.0, 2.0][..], Some(2.0)), (&[4.0, 1.0, 3.0, 2.0], Some(2.5)), (&[7.0], Some(7.0)), (&[], None)]
        {
            let mut figures = Figures::default();
            for sample in samples {
                figures.add(Series::PodReady, Who::Floor, *sample);
            }
            assert_eq!(figures.median(Series::PodReady, Who::Floor), expected, "{samples:?}");
            assert_eq!(figures.median(Series::PodReady, Who::Upstream), None);
        }
    }
}
