//! Memory while nothing, 110 pods, and 110 pods with 1,000 Services are there, and what CPU it takes to do nothing.

use std::time::Duration;

use tokio::time::sleep;

use super::Bench;
use super::figures::{Load, Series, Who, median};
use super::pods::Pods;
use super::probe::until_all_answered;
use super::usage::{CpuMeter, Memory};
use crate::error::{Error, Result};
use crate::lab::PATIENCE;

/// A node's usual limit.
const PODS: usize = 110;
/// Services beside them.
const SERVICES: usize = 1_000;
/// Readings of memory, a second apart: garbage-collected heaps breathe.
const READINGS: usize = 5;

/// One of the readings' numbers.
type Field = fn(&Memory) -> u64;

/// Measures one contender.
pub async fn measure(bench: &mut Bench, index: usize) -> Result<()> {
    let who = bench.contenders[index].who;
    bench.services.resize(0).await?;
    bench.say(format!("  {}: starting", who.name()));
    bench.contenders[index].start(&bench.lab).await?;
    memory(bench, index, Load::Idle).await?;

    bench.say(format!("  {}: {PODS} pods", who.name()));
    let names: Vec<String> = (0..PODS).map(|n| format!("resident-{n}")).collect();
    Pods::open(bench, index).await?.create(&names).await?;
    memory(bench, index, Load::Pods).await?;
    idle_cpu(bench, index, who).await?;

    bench.say(format!("  {}: {SERVICES} Services with two endpoints each", who.name()));
    bench.services.resize(SERVICES).await?;
    until_all_answered(bench.contenders[index].node(&bench.lab).place(), bench.services.all().to_vec(), PATIENCE).await?;
    memory(bench, index, Load::PodsAndServices).await?;

    if index + 1 == bench.contenders.len() {
        bench.contenders[index].stop().await?;
        sleep(Duration::from_secs(bench.options.counts.settle)).await;
        idle_cpu(bench, index, Who::Floor).await?;
        bench.contenders[index].resume(&bench.lab)?;
    }
    bench.say(format!("  {}: removing them", who.name()));
    Pods::open(bench, index).await?.delete(&names).await?;
    bench.contenders[index].stop().await?;
    bench.services.resize(0).await
}

async fn memory(bench: &mut Bench, index: usize, load: Load) -> Result<()> {
    sleep(Duration::from_secs(bench.options.counts.settle)).await;
    let who = bench.contenders[index].who;
    let processes = bench.contenders[index].processes();
    let mut readings: Vec<Vec<Memory>> = vec![Vec::new(); processes.len()];
    for _ in 0..READINGS {
        sleep(Duration::from_secs(1)).await;
        for ((_, pid), readings) in processes.iter().zip(&mut readings) {
            readings.push(Memory::of(*pid)?);
        }
    }
    let fields: [(Series, Field); 3] = [
        (Series::Resident(load), |memory| memory.resident),
        (Series::Peak(load), |memory| memory.peak),
        (Series::Share(load), |memory| memory.share),
    ];
    for (series, field) in fields {
        let each: Vec<f64> = readings
            .iter()
            .map(|readings| {
                let mut values: Vec<f64> = readings.iter().map(|memory| field(memory) as f64).collect();
                values.sort_by(f64::total_cmp);
                median(&values).unwrap_or_default()
            })
            .collect();
        bench.add(series, who, each.iter().sum());
        if each.len() > 1 {
            let parts: Vec<String> = processes
                .iter()
                .zip(&each)
                .map(|((name, _), bytes)| format!("{name} {}", super::rows::unit(series).show(*bytes)))
                .collect();
            bench.figures.note(series, who, parts.join(", "));
        }
    }
    Ok(())
}

/// CPU of the agent and of containerd; of containerd alone where no agent runs.
async fn idle_cpu(bench: &mut Bench, index: usize, who: Who) -> Result<()> {
    let seconds = bench.options.counts.idle_window;
    bench.say(format!("  {}: {seconds} s in which nothing happens", who.name()));
    let runtime = bench.contenders[index].node(&bench.lab).containerd_pid().await;
    let runtime = runtime.ok_or_else(|| Error::Other("containerd does not run".into()))?;
    let window = Duration::from_secs(seconds);
    let (mut agent, mut containerd) = (CpuMeter::new(bench.contenders[index].pids()), CpuMeter::new(vec![runtime]));
    let (agent, containerd) = tokio::try_join!(agent.during(window), containerd.during(window))?;
    // A short window tells less, but about the same minute.
    let minute = 60.0 / seconds as f64;
    if who != Who::Floor {
        bench.add(Series::IdleCpu, who, agent.as_secs_f64() * minute);
    }
    bench.add(Series::IdleRuntimeCpu, who, containerd.as_secs_f64() * minute);
    Ok(())
}
