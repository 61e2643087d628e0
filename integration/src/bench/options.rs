//! What a run shall measure, from the command line.

use super::figures::Who;

/// What `bench --help` prints.
pub const USAGE: &str = "usage: make bench ARGS='...', or bench [--only PART[,PART]] [--agent NAME] [--rounds N] [--quick]
  --only    size, start, pods, life, probes, memory, services; all if not said
  --agent   kubelet-rs or upstream alone; both if not said
  --rounds  how often the order of the agents is turned round and everything is measured again (2; memory and probes are measured once)
  --quick   one round, few samples, short windows: shows that it works
docs/BENCHMARKS.md is written by a whole run: all parts, both agents, not quick.";

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Sizes of the programs.
    Size,
    /// From the start of the agent to a Node that is Ready.
    Start,
    /// Pods that come and go.
    Pods,
    /// How soon a pod's events are acted on: bound → first call to the runtime, exit → status.
    Life,
    /// CPU while a thousand probes a second are made.
    Probes,
    /// Resident memory, and CPU while nothing happens.
    Memory,
    /// Services: from the start of the agent to all of them, and changes of endpoints.
    Services,
}

impl Part {
    /// In the order in which they run.
    pub const ALL: [Self; 7] = [Self::Size, Self::Start, Self::Pods, Self::Life, Self::Probes, Self::Memory, Self::Services];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Start => "start",
            Self::Pods => "pods",
            Self::Life => "life",
            Self::Probes => "probes",
            Self::Memory => "memory",
            Self::Services => "services",
        }
    }

    /// Whether a second round tells more: memory, and CPU over a minute, are windows already.
    pub fn repeats(self) -> bool {
        !matches!(self, Self::Size | Self::Memory | Self::Probes)
    }
}

/// How often, and how long. Times are seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Rounds of each part that repeats.
    pub rounds: usize,
    /// Cold starts in a round.
    pub starts: usize,
    /// Pods one after the other in a round.
    pub pods: usize,
    /// Changes of endpoints in a round, at the smaller and at the greater number of Services.
    pub changes: [usize; 2],
    /// The window of idle CPU.
    pub idle_window: u64,
    /// How long an agent is left alone before its memory is read.
    pub settle: u64,
}

const FULL: Counts = Counts { rounds: 2, starts: 3, pods: 10, changes: [10, 6], idle_window: 60, settle: 15 };
const QUICK: Counts = Counts { rounds: 1, starts: 1, pods: 3, changes: [3, 2], idle_window: 10, settle: 3 };

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What is measured.
    pub parts: Vec<Part>,
    /// Whose.
    pub agents: Vec<Who>,
    /// How often.
    pub counts: Counts,
    /// What makes such a run, for the report.
    pub command: String,
}

impl Options {
    /// Reads the arguments that follow the program's name.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let args: Vec<String> = args.into_iter().collect();
        let mut options = Self {
            parts: Part::ALL.to_vec(),
            agents: vec![Who::Upstream, Who::KubeletRs],
            counts: FULL,
            command: if args.is_empty() { "make bench".to_owned() } else { format!("make bench ARGS='{}'", args.join(" ")) },
        };
        let mut rounds = None;
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n{USAGE}"));
            match arg.as_str() {
                "--only" => options.parts = value()?.split(',').map(part).collect::<Result<_, _>>()?,
                "--agent" => options.agents = vec![agent(&value()?)?],
                "--rounds" => rounds = Some(value()?),
                "--quick" => options.counts = QUICK,
                _ => return Err(format!("{arg:?} is no option of bench\n{USAGE}")),
            }
        }
        if let Some(text) = rounds {
            let number = text.parse().ok().filter(|number| (1..=20).contains(number));
            options.counts.rounds = number.ok_or_else(|| format!("--rounds is {text:?}: it must be a number from 1 to 20"))?;
        }
        Ok(options)
    }

    /// Whether the result says all that the report is to say.
    pub fn is_whole(&self) -> bool {
        Part::ALL.iter().all(|part| self.parts.contains(part)) && self.agents.len() == 2 && self.counts.pods >= FULL.pods
    }
}

fn part(name: &str) -> Result<Part, String> {
    Part::ALL.into_iter().find(|part| part.name() == name).ok_or_else(|| format!("no part is called {name:?}\n{USAGE}"))
}

fn agent(name: &str) -> Result<Who, String> {
    match name {
        "kubelet-rs" => Ok(Who::KubeletRs),
        "upstream" => Ok(Who::Upstream),
        _ => Err(format!("no agent is called {name:?}\n{USAGE}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, String> {
        Options::parse(args.iter().map(ToString::to_string))
    }

    #[test]
    fn a_whole_run_is_what_nobody_has_cut() {
        for (args, whole) in [
            (&[][..], true),
            (&["--rounds", "3"], true),
            (&["--only", "services,memory,pods,start,size,life,probes"], true),
            (&["--only", "start,memory"], false),
            (&["--agent", "upstream"], false),
            (&["--quick"], false),
        ] {
            assert_eq!(parse(args).map(|options| options.is_whole()), Ok(whole), "{args:?}");
        }
    }

    #[test]
    fn rounds_are_kept_wherever_they_are_said() {
        for args in [["--quick", "--rounds", "4"], ["--rounds", "4", "--quick"]] {
            assert_eq!(parse(&args).map(|options| options.counts), Ok(Counts { rounds: 4, ..QUICK }), "{args:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (args, word) in [
            (&["--only", "start,pod"][..], "\"pod\""),
            (&["--only"], "--only needs a value"),
            (&["--agent", "k3s"], "\"k3s\""),
            (&["--rounds", "0"], "1 to 20"),
            (&["--fast"], "--fast"),
        ] {
            let error = parse(args).map(drop).unwrap_err();
            assert!(error.contains(word), "{args:?}: {error}");
        }
    }
}
