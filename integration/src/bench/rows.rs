//! The rows of the report, and what is to be reached.

use super::figures::{Figures, Load, Series, Who, median};
use super::format::{Unit, ratio};
use super::options::Part;

/// Which of a series' samples the row shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// The one in the middle.
    Median,
    /// The worst.
    Max,
}

/// What kubelet-rs is to reach in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Nothing in particular.
    None,
    /// Not more than this.
    AtMost(f64),
    /// Not more than the floor, so many times.
    TimesFloor(f64),
    /// Not more than the floor and so much.
    FloorPlus(f64),
    /// Not more than this share of what upstream takes.
    OfUpstream(f64),
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The part that measures it.
    pub part: Part,
    /// In words.
    pub label: &'static str,
    /// Its samples.
    pub series: Series,
    /// Which of them.
    pub take: Take,
    /// What is to be reached.
    pub goal: Goal,
    /// Whether the plot shows it.
    pub plot: bool,
}

const fn row(part: Part, label: &'static str, series: Series, goal: Goal) -> Row {
    Row { part, label, series, take: Take::Median, goal, plot: false }
}

const fn plotted(part: Part, label: &'static str, series: Series, goal: Goal) -> Row {
    Row { plot: true, ..row(part, label, series, goal) }
}

const fn worst(part: Part, label: &'static str, series: Series) -> Row {
    Row { take: Take::Max, ..row(part, label, series, Goal::None) }
}

/// All rows, in the order of the report.
pub const ROWS: &[Row] = &[
    plotted(
        Part::Memory,
        "resident (VmRSS), 110 pods and 1,000 Services × 2 endpoints",
        Series::Resident(Load::PodsAndServices),
        Goal::AtMost(20e6),
    ),
    row(Part::Memory, "peak (VmHWM), 110 pods and 1,000 Services", Series::Peak(Load::PodsAndServices), Goal::None),
    row(Part::Memory, "proportional share (PSS), 110 pods and 1,000 Services", Series::Share(Load::PodsAndServices), Goal::None),
    row(Part::Memory, "resident, 110 pods", Series::Resident(Load::Pods), Goal::None),
    row(Part::Memory, "peak, 110 pods", Series::Peak(Load::Pods), Goal::None),
    row(Part::Memory, "proportional share, 110 pods", Series::Share(Load::Pods), Goal::None),
    row(Part::Memory, "resident, nothing to do", Series::Resident(Load::Idle), Goal::None),
    row(Part::Memory, "peak, nothing to do", Series::Peak(Load::Idle), Goal::None),
    row(Part::Memory, "proportional share, nothing to do", Series::Share(Load::Idle), Goal::None),
    row(
        Part::Services,
        "resident, 10,000 Services (upstream: kube-proxy alone)",
        Series::Resident(Load::ManyServices),
        Goal::OfUpstream(0.2),
    ),
    row(
        Part::Services,
        "peak, 10,000 Services (upstream: kube-proxy alone)",
        Series::Peak(Load::ManyServices),
        Goal::OfUpstream(1.0 / 12.0),
    ),
    plotted(Part::Memory, "CPU of the agent in 60 s, 110 pods, nothing happens", Series::IdleCpu, Goal::AtMost(0.3)),
    plotted(Part::Memory, "CPU of containerd meanwhile", Series::IdleRuntimeCpu, Goal::AtMost(1.0)),
    plotted(Part::Pods, "one pod, created → Ready", Series::PodReady, Goal::TimesFloor(1.15)),
    plotted(Part::Pods, "one pod, deleted → gone", Series::PodGone, Goal::FloorPlus(0.3)),
    plotted(Part::Pods, "50 pods at once, created → all Ready", Series::ManyReady, Goal::TimesFloor(1.05)),
    row(Part::Pods, "50 pods at once, deleted → all gone", Series::ManyGone, Goal::None),
    row(Part::Pods, "50 pods by bare calls, 4 at a time", Series::BareMany(4), Goal::None),
    row(Part::Pods, "50 pods by bare calls, 8 at a time", Series::BareMany(8), Goal::None),
    row(Part::Pods, "50 pods by bare calls, 16 at a time", Series::BareMany(16), Goal::None),
    row(Part::Pods, "50 pods by bare calls, all at once", Series::BareMany(50), Goal::None),
    row(Part::Pods, "50 pods by bare calls, 4 at a time, and the API server's part of them", Series::BareManyWithApi, Goal::None),
    plotted(Part::Life, "pod bound → first call to the runtime", Series::FirstCall, Goal::AtMost(0.02)),
    plotted(Part::Life, "container ended → status in the API", Series::ExitSeen, Goal::AtMost(0.15)),
    worst(Part::Life, "the slowest from a container's end to its status", Series::ExitSeen),
    plotted(Part::Probes, "CPU of the agent in 60 s, 1,000 probes a second", Series::ProbeCpu, Goal::OfUpstream(1.0 / 3.0)),
    row(Part::Probes, "CPU of containerd meanwhile, 1,000 probes a second", Series::ProbeRuntimeCpu, Goal::None),
    plotted(Part::Services, "endpoint changed → answered by the new one, 1,000 Services", Series::Change(1_000), Goal::AtMost(0.005)),
    worst(Part::Services, "the slowest change of an endpoint, 1,000 Services", Series::Change(1_000)),
    row(Part::Services, "endpoint changed, from when another watcher saw it, 1,000 Services", Series::ChangeSeen(1_000), Goal::None),
    row(Part::Services, "CPU for one change, 1,000 Services", Series::ChangeCpu(1_000), Goal::None),
    plotted(Part::Services, "endpoint changed → answered by the new one, 10,000 Services", Series::Change(10_000), Goal::AtMost(0.005)),
    worst(Part::Services, "the slowest change of an endpoint, 10,000 Services", Series::Change(10_000)),
    row(Part::Services, "endpoint changed, from when another watcher saw it, 10,000 Services", Series::ChangeSeen(10_000), Goal::None),
    plotted(Part::Services, "CPU for one change, 10,000 Services", Series::ChangeCpu(10_000), Goal::OfUpstream(0.001)),
    plotted(Part::Services, "start → 10,000 Services answer", Series::Programmed(10_000), Goal::AtMost(1.5)),
    row(Part::Services, "CPU for that", Series::ProgramCpu(10_000), Goal::OfUpstream(1.0 / 30.0)),
    plotted(Part::Services, "CPU of 50 changes a second for 30 s, 10,000 Services", Series::ChurnCpu, Goal::OfUpstream(1.0 / 60.0)),
    row(Part::Services, "endpoint changed → answered by the new one, meanwhile", Series::ChurnLag, Goal::AtMost(0.01)),
    row(Part::Services, "a connection through a ClusterIP, 10,000 Services (floor: no rules)", Series::Connect, Goal::TimesFloor(1.3)),
    row(Part::Services, "start → 1,000 Services answer", Series::Programmed(1_000), Goal::None),
    plotted(Part::Start, "start → Node registered and Ready", Series::NodeReady, Goal::AtMost(1.0)),
    plotted(Part::Size, "program, stripped", Series::Size, Goal::AtMost(15e6)),
];

/// How values of a series are shown.
pub fn unit(series: Series) -> Unit {
    match series {
        Series::Size | Series::Resident(_) | Series::Peak(_) | Series::Share(_) => Unit::Bytes,
        _ => Unit::Seconds,
    }
}

impl Row {
    /// The row's value for one of the three.
    pub fn value(&self, figures: &Figures, who: Who) -> Option<f64> {
        let samples = figures.sorted(self.series, who)?;
        match self.take {
            Take::Median => median(&samples),
            Take::Max => samples.last().copied(),
        }
    }

    /// The goal in words, and whether it is reached; nothing where there is no goal.
    pub fn verdict(&self, figures: &Figures) -> Option<(String, Option<bool>)> {
        let [ours, upstream, floor] = [Who::KubeletRs, Who::Upstream, Who::Floor].map(|who| self.value(figures, who));
        let unit = unit(self.series);
        let below = |limit: Option<f64>| Some(ours? <= limit?);
        Some(match self.goal {
            Goal::None => return None,
            Goal::AtMost(limit) => (format!("≤ {}", unit.show(limit)), below(Some(limit))),
            Goal::TimesFloor(times) => (format!("≤ {} floor", ratio(times)), below(floor.map(|floor| floor * times))),
            Goal::FloorPlus(more) => (format!("≤ floor + {}", unit.show(more)), below(floor.map(|floor| floor + more))),
            Goal::OfUpstream(share) => (format!("≤ upstream ∕ {:.0}", 1.0 / share), below(upstream.map(|upstream| upstream * share))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_look_at_what_they_name() {
        let figures = {
            let mut figures = Figures::default();
            for (who, value) in [(Who::KubeletRs, 0.30), (Who::Upstream, 0.53), (Who::Floor, 0.26)] {
                figures.add(Series::PodReady, who, value);
            }
            figures
        };
        let verdict =
            |goal| Row { goal, ..row(Part::Pods, "", Series::PodReady, Goal::None) }.verdict(&figures).and_then(|verdict| verdict.1);
        for (goal, expected) in [
            (Goal::None, None),
            (Goal::AtMost(0.3), Some(true)),
            (Goal::AtMost(0.29), Some(false)),
            (Goal::TimesFloor(1.15), Some(false)),
            (Goal::TimesFloor(1.16), Some(true)),
            (Goal::FloorPlus(0.05), Some(true)),
            (Goal::OfUpstream(0.5), Some(false)),
            (Goal::OfUpstream(0.6), Some(true)),
        ] {
            assert_eq!(verdict(goal), expected, "{goal:?}");
        }
    }

    #[test]
    fn a_goal_without_its_figures_is_neither_reached_nor_missed() {
        let row = row(Part::Pods, "", Series::PodReady, Goal::TimesFloor(2.0));
        assert_eq!(row.verdict(&Figures::default()).map(|verdict| verdict.1), Some(None));
    }
}
