//! Which specs a run takes, from the command line.

/// What `conformance --help` prints.
pub const USAGE: &str = "usage: make conformance ARGS='...', or conformance [--agent NAME] [--slice] [--focus REGEX] [--slow] [--procs N]
  --agent   kubelet-rs (if not said) or upstream
  --slice   the specs of integration/conformance/slice.txt alone
  --focus   specs whose name matches, of whatever file and label
  --slow    those that upstream marks as slow too: half an hour more
  --procs   specs at a time (6)
docs/CONFORMANCE.md and the agent's list beside it are written by a run that is neither a slice nor focused.";

/// The specs that `make test` runs.
const SLICE: &str = include_str!("../../conformance/slice.txt");
/// Where the specs of a node agent are, in upstream's tree.
const FILES: &str = "test/e2e/(common/)?node/";
/// What upstream asks of every node and every cluster.
const WANTED: &str = "Conformance || NodeConformance";

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whose node.
    pub agent: String,
    /// Only the specs of the slice.
    pub slice: bool,
    /// Only specs whose name matches.
    pub focus: Option<String>,
    /// Slow ones too.
    pub slow: bool,
    /// Specs at a time.
    pub processes: usize,
}

/// One pass of the suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// For people.
    pub name: &'static str,
    /// ginkgo's label filter.
    pub labels: String,
    /// Expression for files.
    pub files: Option<&'static str>,
    /// Expressions for names, any of which must match.
    pub focus: Vec<String>,
    /// Specs at a time.
    pub processes: usize,
}

impl Options {
    /// Reads the arguments that follow the program's name.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { agent: "kubelet-rs".into(), slice: false, focus: None, slow: false, processes: 6 };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n{USAGE}"));
            match arg.as_str() {
                "--agent" => options.agent = value()?,
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

    /// What the suite is asked for: specs that bear others first, then those that want the cluster for themselves.
    pub fn passes(&self) -> Vec<Choice> {
        let pass = |name, labels: &str| Choice { name, labels: labels.to_owned(), files: None, focus: vec![], processes: self.processes };
        if let Some(focus) = &self.focus {
            return vec![Choice { focus: vec![focus.clone()], ..pass("the specs that match", "") }];
        }
        if self.slice {
            return vec![Choice { focus: slice().map(exactly).collect(), ..pass("the slice", "") }];
        }
        let alone = "Serial || Disruptive";
        let slow = if self.slow { "" } else { " && !Slow" };
        let side_by_side = pass("specs that run side by side", &format!("({WANTED}) && !({alone}){slow}"));
        let serial = pass("specs that run alone", &format!("({WANTED}) && ({alone}){slow}"));
        vec![Choice { files: Some(FILES), ..side_by_side }, Choice { files: Some(FILES), processes: 1, ..serial }]
    }
}

/// Names of the specs of the slice.
pub fn slice() -> impl Iterator<Item = &'static str> {
    SLICE.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// An expression that matches this text alone.
fn exactly(name: &str) -> String {
    let mut expression = String::new();
    for c in name.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            expression.push('\\');
        }
        expression.push(c);
    }
    expression
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, String> {
        Options::parse(args.iter().map(ToString::to_string))
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (args, word) in [(&["--all"][..], "--all"), (&["--focus"], "--focus needs a value"), (&["--procs", "0"], "1 to 32")] {
            let error = parse(args).map(drop).unwrap_err();
            assert!(error.contains(word), "{args:?}: {error}");
        }
    }

    #[test]
    fn a_whole_run_has_two_passes_and_the_second_is_one_at_a_time() {
        let options = parse(&["--procs", "4"]).unwrap();
        assert_eq!(options.passes().iter().map(|pass| pass.processes).collect::<Vec<_>>(), [4, 1]);
        assert!(options.is_whole() && !parse(&["--slice"]).unwrap().is_whole());
    }

    #[test]
    fn the_slice_names_specs_that_are_taken_literally() {
        assert!(slice().count() > 0);
        assert_eq!(exactly("a [B] (c) d.e"), r"a \[B\] \(c\) d\.e");
    }
}
