//! Services: from the start of the agent until all answer, and from the change of an endpoint to the first answer of the new one.

use std::time::Duration;

use kube::api::WatchEvent;
use tokio::time::{Instant, sleep};

use super::Bench;
use super::figures::{Load, Series};
use super::probe::{until_all_answered, until_answered};
use super::usage::{CpuMeter, Memory};
use super::watch::Watch;
use crate::error::{Error, Result};

/// How long all Services, or one change, may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two changes. kube-proxy puts a second between two transactions; a change that waits for that is not measured.
const PAUSE: Duration = Duration::from_millis(1_500);
/// What is done this long after the first answer still counts as CPU of the change.
const AFTER: Duration = Duration::from_millis(300);

/// Makes the Services.
pub async fn prepare(bench: &mut Bench, count: usize) {
    bench.say(format!("services: making {count} with two endpoints each"));
    if let Err(error) = bench.services.resize(count).await {
        bench.say(format!("services: making them FAILED: {error}"));
        bench.figures.fail(format!("services: making {count}: {error}"));
    }
}

/// One round of one contender.
pub async fn measure(bench: &mut Bench, index: usize, count: usize) -> Result<()> {
    if bench.services.count() != count {
        return Err(Error::Other(format!("there are {} Services instead of {count}", bench.services.count())));
    }
    let who = bench.contenders[index].who;
    bench.say(format!("  {}: start with {count} Services", who.name()));
    register(bench, index).await?;
    let start = Instant::now();
    bench.contenders[index].start_services(&bench.lab)?;
    let place = bench.contenders[index].node(&bench.lab).place();
    let answered = until_all_answered(place, bench.services.sample(), PATIENCE).await?;
    until_all_answered(place, bench.services.all().to_vec(), Duration::from_secs(5))
        .await
        .map_err(|error| Error::Other(format!("a sample of the Services answered, but not all of them: {error}")))?;
    bench.add(Series::Programmed(count), who, (answered - start).as_secs_f64());

    sleep(Duration::from_secs(5)).await;
    let pids = bench.contenders[index].pids();
    let size = usize::from(count > super::services::SIZES[0]);
    for _ in 0..bench.options.counts.changes[size] {
        change(bench, index, count).await?;
    }
    if size == 1 {
        let memory = pids.iter().map(|pid| Memory::of(*pid)).collect::<Result<Vec<_>>>()?;
        bench.add(Series::Resident(Load::ManyServices), who, memory.iter().map(|memory| memory.resident as f64).sum());
        bench.add(Series::Peak(Load::ManyServices), who, memory.iter().map(|memory| memory.peak as f64).sum());
    }
    bench.contenders[index].stop().await
}

/// kube-proxy needs its Node object. What registers it is not measured here.
async fn register(bench: &mut Bench, index: usize) -> Result<()> {
    bench.contenders[index].start_node(&bench.lab).await?;
    bench.contenders[index].stop().await
}

async fn change(bench: &mut Bench, index: usize, count: usize) -> Result<()> {
    let contender = &bench.contenders[index];
    let who = contender.who;
    let place = contender.node(&bench.lab).place();
    let (service, now) = bench.services.changing()?;
    until_answered(place, service, now, PATIENCE).await?;
    let mut watch = Watch::open(bench.services.slices(), &format!("metadata.name={}", bench.services.changing_name())).await?;
    let mut meter = CpuMeter::new(contender.pids());
    sleep(PAUSE).await;

    let to = bench.services.fresh_endpoint();
    let before = meter.read()?;
    let start = Instant::now();
    let asking = until_answered(place, service, vec![to], PATIENCE);
    let changing = bench.services.change(to);
    let seen = watch.until("the change of an EndpointSlice", PATIENCE, |event| matches!(event, WatchEvent::Modified(_)));
    let (answered, (), seen) = tokio::try_join!(asking, changing, seen)?;
    sleep(AFTER).await;
    let taken = meter.read()?.saturating_sub(before);

    bench.add(Series::Change(count), who, (answered.at - start).as_secs_f64());
    bench.figures.add(Series::ChangeSeen(count), who, signed(seen, answered.at));
    bench.add(Series::ChangeCpu(count), who, taken.as_secs_f64());
    if answered.failed > 0 {
        bench.say(format!("    {}: {} connections failed meanwhile", who.name(), answered.failed));
    }
    Ok(())
}

/// Seconds from one moment to another, which may be the earlier one.
fn signed(from: Instant, to: Instant) -> f64 {
    if to >= from { (to - from).as_secs_f64() } else { -(from - to).as_secs_f64() }
}
