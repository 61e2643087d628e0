//! The programs' sizes, and the time from a cold start to a Node that is Ready.

use super::Bench;
use super::figures::Series;
use super::rows;
use crate::error::{Doing as _, Result};

/// Starts an agent several times with no Node object of its own.
pub async fn cold(bench: &mut Bench, index: usize) -> Result<()> {
    let who = bench.contenders[index].who;
    for _ in 0..bench.options.counts.starts {
        let taken = bench.contenders[index].start_node(&bench.lab).await?;
        bench.add(Series::NodeReady, who, taken.as_secs_f64());
        bench.contenders[index].stop().await?;
    }
    Ok(())
}

/// Sizes of the programs on disk.
pub fn sizes(bench: &mut Bench) {
    for index in 0..bench.contenders.len() {
        let who = bench.contenders[index].who;
        let sizes: Result<Vec<(String, f64)>> = bench.contenders[index]
            .programs()
            .map(|spec| {
                let size = std::fs::metadata(&spec.program).doing(|| format!("looking at {}", spec.program.display()))?.len();
                Ok((spec.program.file_name().unwrap_or_default().to_string_lossy().into_owned(), size as f64))
            })
            .collect();
        match sizes {
            Ok(sizes) => {
                bench.add(Series::Size, who, sizes.iter().map(|(_, size)| size).sum());
                if sizes.len() > 1 {
                    let parts: Vec<String> =
                        sizes.iter().map(|(name, size)| format!("{name} {}", rows::unit(Series::Size).show(*size))).collect();
                    bench.figures.note(Series::Size, who, parts.join(", "));
                }
            }
            Err(error) => bench.figures.fail(format!("size: {}: {error}", who.name())),
        }
    }
}
