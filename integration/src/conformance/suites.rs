//! Where `setup.sh conformance` put the suite and its images.

use std::path::PathBuf;

use super::choice::Suite;
use crate::error::{Error, Result};
use crate::tools::{cache_dir, kubernetes_version};

/// The programs and images of the suite, each seen to be there.
#[derive(Clone, Debug)]
pub struct Suites {
    /// Runs specs side by side.
    pub ginkgo: PathBuf,
    folder: PathBuf,
    /// Image archives, under upstream's names.
    pub images: Vec<PathBuf>,
}

/// Names of the image archives.
const IMAGES: [&str; 10] =
    ["busybox", "agnhost", "agnhost-prev", "dns", "nonewprivs", "nonroot", "nginx", "nginx-new", "kitten", "nautilus"];

impl Suites {
    /// Finds them, or names the first that is missing.
    pub fn find() -> Result<Self> {
        let cache = cache_dir()?;
        let bin = cache.join(format!("bin/suites-{}", kubernetes_version()));
        let folder = cache.join("images/suites");
        // Of the lab's own images, what every pod needs.
        let images =
            [cache.join("images/current/pause.tar")].into_iter().chain(IMAGES.map(|name| folder.join(format!("{name}.tar")))).collect();
        let suites = Self { ginkgo: bin.join("ginkgo"), folder: bin, images };
        let programs = Suite::ALL.map(|suite| suites.program(suite));
        let missing = [&suites.ginkgo].into_iter().chain(&programs).chain(&suites.images).find(|path| !path.exists()).cloned();
        match missing {
            Some(path) => Err(Error::Other(format!("{} is missing: run integration/setup.sh conformance", path.display()))),
            None => Ok(suites),
        }
    }

    /// A suite's program.
    pub fn program(&self, suite: Suite) -> PathBuf {
        self.folder.join(suite.program())
    }
}
