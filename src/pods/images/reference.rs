//! Image references: `[host[:port]/]path[:tag][@digest]`. Pure.
//!
//! Grammar and short-name rules of github.com/distribution/reference, which the runtimes use too.

/// Why a text is not an image reference. The first words are upstream's: people search for them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("couldn't parse image name {image:?}: {problem}")]
pub struct InvalidReference {
    image: String,
    problem: &'static str,
}

/// An image reference, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// As the spec has it, with `:latest` added where it names neither tag nor digest.
    pub image: String,
    /// Registry and path with short names written out (`docker.io/library/busybox`): what credentials are matched with.
    pub repository: String,
    /// The tag is `latest`, or none was given: what makes `Always` the default pull policy.
    pub latest: bool,
}

/// Takes a reference apart.
pub fn parse(image: &str) -> Result<Reference, InvalidReference> {
    parse_parts(image).map_err(|problem| InvalidReference { image: image.to_owned(), problem })
}

fn parse_parts(image: &str) -> Result<Reference, &'static str> {
    if image.is_empty() {
        return Err("it is empty");
    }
    if image.len() == 64 && image.bytes().all(is_lower_hex) {
        return Err("a bare 64-digit id names no repository");
    }
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    // A colon before the last slash belongs to a port.
    let name_end = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest.get(name_end..).and_then(|last| last.find(':')) {
        Some(colon) => (rest.get(..name_end + colon).unwrap_or_default(), rest.get(name_end + colon + 1..)),
        None => (rest, None),
    };
    if let Some(digest) = digest {
        check_digest(digest)?;
    }
    if tag.is_some_and(|t| !is_tag(t)) {
        return Err("the tag must be up to 128 letters, digits, dots, dashes and underscores");
    }
    let (host, path) = split_host(name);
    if !is_host(host) {
        return Err("the registry must be a host name or address, with a port where one is needed");
    }
    if name.chars().any(|c| c.is_ascii_uppercase()) && path.chars().any(|c| c.is_ascii_uppercase()) {
        return Err("the repository name must be lowercase");
    }
    if !path.split('/').all(is_path_component) {
        return Err("invalid reference format");
    }
    let repository = format!("{host}/{path}");
    if repository.len() > 255 {
        return Err("the repository name must not be more than 255 characters");
    }
    let plain = tag.is_none() && digest.is_none();
    Ok(Reference {
        image: if plain { format!("{image}:latest") } else { image.to_owned() },
        repository,
        latest: plain || tag == Some("latest"),
    })
}

/// Registry and path, with Docker Hub's names where the reference leaves them out.
fn split_host(name: &str) -> (&str, std::borrow::Cow<'_, str>) {
    let (host, path) = match name.split_once('/') {
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" || first.chars().any(|c| c.is_ascii_uppercase()) => {
            (first, path)
        }
        _ => ("docker.io", name),
    };
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    if host == "docker.io" && !path.contains('/') { (host, format!("library/{path}").into()) } else { (host, path.into()) }
}

fn is_host(host: &str) -> bool {
    let bare = match host.strip_prefix('[').and_then(|h| h.split_once(']')) {
        Some((v6, port)) => {
            let address = !v6.is_empty() && v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            return address && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
        }
        None => host,
    };
    let (name, port) = bare.split_once(':').map_or((bare, None), |(n, p)| (n, Some(p)));
    let component = |c: &str| {
        let inner = c.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        inner && !c.is_empty() && !c.starts_with('-') && !c.ends_with('-')
    };
    port.is_none_or(is_port) && name.split('.').all(component)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// Runs of lower-case letters and digits, separated by one dot, one or two underscores, or any number of dashes.
fn is_path_component(component: &str) -> bool {
    let is_alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    if !bytes.first().copied().is_some_and(is_alnum) || !bytes.last().copied().is_some_and(is_alnum) {
        return false;
    }
    component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&tag.len()) && tag.bytes().next().is_some_and(word) && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

/// Known algorithms with as many digits as they make.
fn check_digest(digest: &str) -> Result<(), &'static str> {
    let Some((algorithm, hex)) = digest.split_once(':') else { return Err("the digest must look like sha256:HEX") };
    let digits = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err("the digest's algorithm must be sha256, sha384 or sha512"),
    };
    if hex.len() == digits && hex.bytes().all(is_lower_hex) {
        Ok(())
    } else {
        Err("the digest has the wrong length or characters other than 0-9 and a-f")
    }
}

fn is_lower_hex(b: u8) -> bool {
    matches!(b, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let sha = format!("sha256:{}", "a".repeat(64));
        let table = [
            ("busybox", "busybox:latest", "docker.io/library/busybox", true),
            ("busybox:latest", "busybox:latest", "docker.io/library/busybox", true),
            ("busybox:1.36", "busybox:1.36", "docker.io/library/busybox", false),
            ("team/app", "team/app:latest", "docker.io/team/app", true),
            ("index.docker.io/app:1", "index.docker.io/app:1", "docker.io/library/app", false),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10", "registry.k8s.io/pause", false),
            ("localhost/app", "localhost/app:latest", "localhost/app", true),
            ("host:5000/a/b__c/d--e", "host:5000/a/b__c/d--e:latest", "host:5000/a/b__c/d--e", true),
            ("[fd00::1]:5000/a:2", "[fd00::1]:5000/a:2", "[fd00::1]:5000/a", false),
            ("Host/app:1", "Host/app:1", "Host/app", false),
            (&format!("app@{sha}"), &format!("app@{sha}"), "docker.io/library/app", false),
            (&format!("app:latest@{sha}"), &format!("app:latest@{sha}"), "docker.io/library/app", true),
        ];
        for (text, image, repository, latest) in table {
            let want = Reference { image: image.into(), repository: repository.into(), latest };
            assert_eq!(parse(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused_with_upstreams_words() {
        let long = format!("a/{}", "b".repeat(254));
        let id = "0".repeat(64);
        for text in [
            "",
            " ",
            "a b",
            "App",
            "team/App",
            ":1",
            "a:",
            "a:-1",
            "/a",
            "a/",
            "a//b",
            "a..b/c:1",
            "-a/b",
            "a_._b",
            "a@sha256:12",
            "a@md5:0",
            "host:/a",
            "host:5000x/a",
            "[zz]:1/a",
            "é",
            "https://host/a",
            &long,
            &id,
            "a:b:c",
            "a@sha256",
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.to_string().starts_with(&format!("couldn't parse image name {text:?}: ")), "{error}");
        }
    }
}
