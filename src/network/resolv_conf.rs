//! The host's resolv.conf.

use std::path::Path;

use crate::network::dns::DnsSettings;

/// Reads and parses the host's resolv.conf. The file is small and local, so this does not leave the calling thread.
pub fn read(path: &Path) -> Result<DnsSettings, ResolvConfError> {
    let text = std::fs::read_to_string(path).map_err(|e| ResolvConfError { path: path.display().to_string(), message: e.to_string() })?;
    Ok(parse(&text))
}

/// Why the host's resolv.conf can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read {path}: {message}; set resolvConf in the kubelet configuration to a file that can be read")]
pub struct ResolvConfError {
    /// The file.
    pub path: String,
    /// Why.
    pub message: String,
}

/// Parses resolv.conf. Name servers add up, the last `search` line wins, of options with the same name the last one wins; lines
/// that make no sense are skipped, as the C library does (resolv.conf(5)).
pub fn parse(text: &str) -> DnsSettings {
    let mut out = DnsSettings::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => out.servers.extend(words.next().map(str::to_owned)),
            Some("search") => {
                // `a.b` and `a.b.` are the same domain, and a lone dot would make every lookup try the root first.
                let domains = words.filter(|w| *w != ".").map(|w| w.strip_suffix('.').unwrap_or(w).to_owned());
                out.searches = domains.collect();
            }
            Some("options") => words.for_each(|w| out.set_option(w.to_owned())),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_says() {
        let text = "# made by hand\n\
                    domain old.example.org\n\
                    nameserver 192.0.2.1\n  nameserver\t2001:db8::1 trailing\nnameserver\n\
                    search first.example.org\n\
                    search lan. . example.org\n\
                    options ndots:1 rotate\noptions ndots:2 edns0\n\
                    ;comment\nnonsense here\n";
        let parsed = parse(text);
        assert_eq!(parsed.servers, ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(parsed.searches, ["lan", "example.org"]);
        assert_eq!(parsed.options, ["ndots:2", "rotate", "edns0"]);
        assert_eq!(parse(""), DnsSettings::default());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("/nonexistent/resolv.conf")).expect_err("no such file").to_string();
        assert!(error.starts_with("read /nonexistent/resolv.conf: "), "{error}");
    }
}
