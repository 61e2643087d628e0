//! The host's own programs.

use std::time::Duration;

use crate::nft::Family;
use crate::sys::command::{self, Output};

use super::restore::{Restore, Table};
use super::saved::{Reader, Saved};
use super::{Error, Iptables};

/// How long to wait for another program that holds the lock of iptables' legacy flavour, in seconds.
const LOCK: &str = "5";
/// How long a program may take. The nf_tables flavour is slow with many chains: minutes were measured for tens of thousands.
const PATIENCE: Duration = Duration::from_secs(600);
/// The same for a question about one chain.
const PATIENCE_CHAIN: Duration = Duration::from_secs(30);

/// iptables of the network namespace that the agent is in.
#[derive(Clone, Copy, Debug)]
pub struct Programs;

impl Programs {
    /// Makes sure that there is an iptables that works.
    pub async fn open() -> Result<Self, Error> {
        let doing = "look for iptables";
        let out = command::run("iptables", &["--version"], &[], PATIENCE_CHAIN).await.map_err(|error| missing(doing, &error))?;
        if out.status.success() { Ok(Self) } else { Err(Error::Missing { doing: doing.into(), reason: said(&out) }) }
    }
}

impl Iptables for Programs {
    async fn restore(&mut self, family: Family, restore: &Restore) -> Result<(), Error> {
        let program = name(family, "-restore");
        let text = restore.text();
        let out = command::run(&program, &["-w", LOCK, "--noflush", "--counters"], text.as_bytes(), PATIENCE)
            .await
            .map_err(|error| missing(&program, &error))?;
        if out.status.success() {
            return Ok(());
        }
        let reason = said(&out);
        let reason = match at_fault(&reason, &text) {
            Some(line) => format!("{reason} (that line is: {line})"),
            None => reason,
        };
        Err(Error::Failed { doing: format!("{program}, {} lines", text.lines().count()), reason })
    }

    async fn saved(&mut self, family: Family, prefix: &str) -> Result<Saved, Error> {
        let program = name(family, "-save");
        let mut reader = Reader::new(prefix);
        let out = command::run_by_line(&program, &[] as &[&str], PATIENCE, |line| reader.line(line))
            .await
            .map_err(|error| missing(&program, &error))?;
        if out.status.success() { Ok(reader.end()) } else { Err(Error::Failed { doing: program, reason: said(&out) }) }
    }

    async fn has_chain(&mut self, family: Family, table: Table, chain: &str) -> Result<bool, Error> {
        let program = name(family, "");
        let out = command::run(&program, &["-w", LOCK, "-t", table.name(), "-S", chain], &[], PATIENCE_CHAIN)
            .await
            .map_err(|error| missing(&program, &error))?;
        match out.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(Error::Failed { doing: format!("{program} -t {table} -S {chain}"), reason: said(&out) }),
        }
    }
}

fn name(family: Family, rest: &str) -> String {
    match family {
        Family::Ip => format!("iptables{rest}"),
        Family::Ip6 => format!("ip6tables{rest}"),
    }
}

fn missing(doing: &str, error: &command::Error) -> Error {
    let (doing, reason) = (doing.to_owned(), error.to_string());
    match error {
        command::Error::Start { .. } => Error::Missing { doing, reason },
        _ => Error::Failed { doing, reason },
    }
}

/// What the program said, in one line.
fn said(out: &Output) -> String {
    let text = String::from_utf8_lossy(&out.stderr);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("Try `")).collect();
    if lines.is_empty() { format!("it ended with {}", out.status) } else { lines.join("; ").chars().take(500).collect() }
}

/// The line of the text that the program complains about: "line 12 failed", "Error occurred at line: 12".
fn at_fault<'a>(reason: &str, text: &'a str) -> Option<&'a str> {
    let (_, rest) = reason.split_once("line")?;
    let digits: String = rest.trim_start_matches([' ', ':']).chars().take_while(char::is_ascii_digit).collect();
    text.lines().nth(digits.parse::<usize>().ok()?.checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_at_fault_is_shown() {
        let text = "*nat\n:A - [0:0]\n-A A -j NOWHERE\nCOMMIT\n";
        assert_eq!(at_fault("iptables-restore: line 3 failed", text), Some("-A A -j NOWHERE"));
        assert_eq!(at_fault("Error occurred at line: 2; Try", text), Some(":A - [0:0]"));
        assert_eq!(at_fault("line 99 failed", text), None);
        assert_eq!(at_fault("no idea", text), None);
    }
}
