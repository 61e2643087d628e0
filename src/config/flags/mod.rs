//! The command line, the way upstream's flag library reads it: `--a=b`, `--a b`, `_` for `-`, bare booleans, `-v 2`.
//!
//! `parse` only splits; `apply` gives each flag its meaning, so that flags can be laid over a file that a flag names.

mod apply;
mod help;
mod setters;
mod table;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;

pub(super) use apply::{apply, set};
pub(super) use help::help;
pub(super) use values::convert;

use super::nearest::nearest;
use table::{FLAGS, Flag, Target};

/// One flag as given.
#[derive(Debug)]
pub(super) struct Given {
    flag: &'static Flag,
    value: String,
}

/// The command line, split.
#[derive(Debug, Default)]
pub(super) struct CommandLine {
    /// `--help`.
    pub help: bool,
    /// `--version` and its value.
    pub version: Option<String>,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--config-dir`.
    pub config_dir: Option<PathBuf>,
    /// All others in order.
    pub given: Vec<Given>,
}

/// Splits the arguments (without the program's name). Adds one line for each that can't be understood.
pub(super) fn parse(args: Vec<OsString>, problems: &mut Vec<String>) -> CommandLine {
    let mut line = CommandLine::default();
    let mut args = args.into_iter().map(OsString::into_string).peekable();
    while let Some(arg) = args.next() {
        let Ok(arg) = arg else {
            problems.push("an argument is not UTF-8".to_owned());
            continue;
        };
        let Some((name, mut value)) = split(&arg) else {
            problems.push(format!("unknown command {arg:?}: only flags are expected (see --help)"));
            continue;
        };
        let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else {
            problems.push(match nearest(&name, FLAGS.iter().map(|flag| flag.name)) {
                Some(close) => format!("unknown flag --{name}; did you mean --{close}?"),
                None => format!("unknown flag --{name} (see --help for those that are known)"),
            });
            continue;
        };
        if value.is_none() {
            value = flag.bare_value().map(str::to_owned);
        }
        let value = match value {
            Some(value) => value,
            None => match args.next() {
                Some(Ok(value)) => value,
                _ => {
                    problems.push(format!("--{name}: needs a value"));
                    continue;
                }
            },
        };
        match flag.target {
            Target::Help => line.help = true,
            Target::Version => line.version = Some(value),
            Target::ConfigFile => line.config = (!value.is_empty()).then(|| value.into()),
            Target::ConfigDir => line.config_dir = (!value.is_empty()).then(|| value.into()),
            _ => line.given.push(Given { flag, value }),
        }
    }
    line
}

/// Name in its usual spelling, and the value that is part of the argument; `None` when this is no flag.
pub(super) fn split(arg: &str) -> Option<(String, Option<String>)> {
    if let Some(long) = arg.strip_prefix("--").filter(|long| !long.is_empty()) {
        let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value.to_owned())));
        return Some((name.replace('_', "-"), value));
    }
    let short = arg.strip_prefix('-').filter(|short| !short.is_empty() && *short != "-")?;
    match short {
        "h" => Some(("help".to_owned(), None)),
        _ if short.starts_with('v') => {
            let value = short.get(1..).unwrap_or_default();
            let value = value.strip_prefix('=').unwrap_or(value);
            Some(("v".to_owned(), (!value.is_empty()).then(|| value.to_owned())))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
