//! Which specs a run takes, from the command line.

use super::choice::{Choice, Suite, everything, matching, slice};

/// What `conformance --help` prints.
pub const USAGE: &str =
    "usage: make conformance ARGS='...', or conformance [--agent NAME] [--suite NAME] [--slice] [--focus REGEX] [--slow] [--procs N]
  --agent   kubelet-rs (if not said) or upstream
  --suite   cluster (e2e.test) or node (e2e_node.test); one after the other if not said
  --slice   the specs of integration/conformance/slice-*.txt alone
  --focus   specs whose name matches, of whatever file and label
  --slow    those that upstream marks as slow too: an hour more
  --procs   specs at a time (6)
docs/CONFORMANCE.md and the agent's lists beside it are written by a run that is neither a slice nor focused.";

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whose node.
    pub agent: String,
    /// Which suites.
    pub suites: Vec<Suite>,
    /// Only the specs of the slices.
    pub slice: bool,
    /// Only specs whose name matches.
    pub focus: Option<String>,
    /// Slow ones too.
    pub slow: bool,
    /// Specs at a time.
    pub processes: usize,
}

impl Options {
    /// Reads the arguments that follow the program's name.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options =
            Self { agent: "kubelet-rs".into(), suites: Suite::ALL.to_vec(), slice: false, focus: None, slow: false, processes: 6 };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n{USAGE}"));
            match arg.as_str() {
                "--agent" => options.agent = value()?,
                "--suite" => {
                    let name = value()?;
                    let suite = Suite::ALL.into_iter().find(|suite| suite.name() == name);
                    options.suites = vec![suite.ok_or_else(|| format!("no suite is called {name:?}: it can be cluster or node"))?];
                }
                "--slice" => options.slice = true,
                "--focus" => options.focus = Some(value()?),
                "--slow" => options.slow = true,
                "--procs" => {
                    let text = value()?;
                    let number = text.parse().ok().filter(|n| (1..=32).contains(n));
                    options.processes = number.ok_or_else(|| format!("--procs is {text:?}: it must be a number from 1 to 32"))?;
                }
                _ => return Err(format!("{arg:?} is no option of conformance\n{USAGE}")),
            }
        }
        Ok(options)
    }

    /// Whether the result says all that the document is to say.
    pub fn is_whole(&self) -> bool {
        !self.slice && self.focus.is_none()
    }

    /// What a suite is asked for.
    pub fn passes(&self, suite: Suite) -> Vec<Choice> {
        match &self.focus {
            Some(focus) => vec![matching(focus, self.processes)],
            None if self.slice => vec![slice(suite, self.processes)],
            None => everything(suite, self.slow, self.processes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, String> {
        Options::parse(args.iter().map(ToString::to_string))
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = [
            (&["--all"][..], "--all"),
            (&["--focus"], "--focus needs a value"),
            (&["--procs", "0"], "1 to 32"),
            (&["--suite", "e2e"], "cluster or node"),
        ];
        for (args, word) in wrong {
            let error = parse(args).map(drop).unwrap_err();
            assert!(error.contains(word), "{args:?}: {error}");
        }
    }

    #[test]
    fn a_whole_run_has_both_suites_and_neither_slice_nor_focus() {
        assert_eq!(parse(&[]).unwrap().suites, Suite::ALL);
        assert_eq!(parse(&["--suite", "node"]).unwrap().suites, [Suite::Node]);
        assert!(parse(&["--slow"]).unwrap().is_whole());
        assert!(!parse(&["--slice"]).unwrap().is_whole() && !parse(&["--focus", "Probe"]).unwrap().is_whole());
    }
}
