//! The serving certificate of a node that was given none: made once, kept as `kubelet.crt` and `kubelet.key`.
//!
//! Upstream uses the same names, so that a node keeps its certificate when it changes from one agent to the other. Who wants
//! to verify it gives a certificate; the API server doesn't by default.

use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::tls::CertFiles;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be written.
    #[error("can't write the serving certificate {}: {source}; make the directory writable, or set tlsCertFile and tlsPrivateKeyFile", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The certificate could not be made.
    #[error("can't make a serving certificate for {hostname:?}: {source}")]
    Make {
        /// The name it was for.
        hostname: String,
        /// What is wrong.
        source: rcgen::Error,
    },
}

/// Makes sure that there is a certificate that is valid now.
pub fn ensure(directory: &Path, hostname: &str, ips: &[IpAddr]) -> Result<CertFiles, Error> {
    let files = CertFiles { cert: directory.join("kubelet.crt"), key: directory.join("kubelet.key") };
    if let Err(why) = check(&files) {
        if files.cert.exists() || files.key.exists() {
            tracing::warn!(certificate = %files.cert.display(), why, "making a new serving certificate");
        }
        make(&files, directory, hostname, ips)?;
    }
    Ok(files)
}

fn check(files: &CertFiles) -> Result<(), String> {
    let der = CertificateDer::from_pem_file(&files.cert).map_err(|e| e.to_string())?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| e.to_string())?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|e| e.to_string())?;
    let now = Timestamp::now().as_second();
    if certificate.validity().not_after.timestamp() <= now {
        return Err("it has expired".into());
    }
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|e| e.to_string())?;
    CertifiedKey::new(vec![der.clone()], Arc::clone(&key)).keys_match().map_err(|e| e.to_string())
}

fn make(files: &CertFiles, directory: &Path, hostname: &str, ips: &[IpAddr]) -> Result<(), Error> {
    let (cert, key) = certificate(hostname, ips).map_err(|source| Error::Make { hostname: hostname.into(), source })?;
    std::fs::create_dir_all(directory).map_err(|source| Error::Write { path: directory.into(), source })?;
    // Killed between the two, the next start finds that they don't fit and makes both anew.
    for (path, mode, content) in [(&files.key, 0o600, key), (&files.cert, 0o644, cert)] {
        replace(path, mode, &content).map_err(|source| Error::Write { path: path.clone(), source })?;
    }
    Ok(())
}

fn certificate(hostname: &str, ips: &[IpAddr]) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(vec![hostname.to_owned()])?;
    params.subject_alt_names.extend(ips.iter().copied().map(SanType::IpAddress));
    params.distinguished_name.push(DnType::CommonName, hostname);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // From yesterday on: clocks of other machines may be behind.
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let midnight = |date: Date| rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs());
    params.not_before = midnight(today.saturating_sub(1.day()));
    params.not_after = midnight(today.saturating_add(1.year()));
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn replace(path: &Path, mode: u32, content: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use x509_parser::extensions::GeneralName;

    use super::*;

    fn read(files: &CertFiles) -> (String, String) {
        (std::fs::read_to_string(&files.cert).unwrap(), std::fs::read_to_string(&files.key).unwrap())
    }

    #[test]
    fn made_once_with_names_and_modes() {
        let dir = tempfile::tempdir().unwrap();
        let (certs, ip) = (dir.path().join("pki"), "10.1.2.3".parse().unwrap());
        let files = ensure(&certs, "node-1", &[ip]).unwrap();
        let first = read(&files);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&files.cert), mode(&files.key)), (0o644, 0o600));
        let der = CertificateDer::from_pem_file(&files.cert).unwrap();
        let (_, x509) = X509Certificate::from_der(&der).unwrap();
        let names = &x509.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert_eq!(names[..], [GeneralName::DNSName("node-1"), GeneralName::IPAddress(&[10, 1, 2, 3])]);
        let days = (x509.validity().not_after.timestamp() - Timestamp::now().as_second()) / 86400;
        assert!((363..=366).contains(&days), "{days}");
        ensure(&certs, "node-1", &[ip]).unwrap();
        assert_eq!(read(&files), first);
        assert_eq!(std::fs::read_dir(&certs).unwrap().count(), 2);
    }

    #[test]
    fn what_does_not_fit_is_made_anew() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = ensure(dir.path(), "node-1", &[]).unwrap();
        let stranger = ensure(other.path(), "node-1", &[]).unwrap();
        for damage in [0, 1, 2] {
            let before = read(&files);
            match damage {
                0 => std::fs::remove_file(&files.key).unwrap(),
                1 => std::fs::write(&files.cert, "garbage").unwrap(),
                _ => drop(std::fs::copy(&stranger.key, &files.key).unwrap()),
            }
            ensure(dir.path(), "node-1", &[]).unwrap();
            assert!(check(&files).is_ok());
            assert_ne!(read(&files), before);
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = ensure(&file.path().join("pki"), "node-1", &[]).unwrap_err();
        assert!(error.to_string().contains(&*file.path().to_string_lossy()), "{error}");
    }
}
