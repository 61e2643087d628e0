//! Services: from the start of the agent until all answer, and from the change of an endpoint to the first answer of the new one.

use std::time::Duration;

use kube::api::WatchEvent;
use tokio::time::{Instant, sleep};

use super::Bench;
use super::figures::{Load, Series, Who, median};
use super::probe::{connection_times, until_all_answered, until_answered};
use super::usage::{CpuMeter, Memory};
use super::watch::Watch;
use crate::error::{Error, Result};

/// How long all Services, or one change, may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two changes. kube-proxy puts a second between two transactions; a change that waits for that is not measured.
const PAUSE: Duration = Duration::from_millis(1_500);
/// What is done this long after the first answer still counts as CPU of the change.
const AFTER: Duration = Duration::from_millis(300);

/// Changes while there is churn: so many, this far apart.
const CHURN: (usize, Duration) = (1_500, Duration::from_millis(20));
/// Between two of the changes among them that are measured.
const MEASURED: Duration = Duration::from_millis(700);
/// Connections of which the one in the middle counts.
const CONNECTIONS: usize = 2_000;

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
    let size = usize::from(count > super::services::SIZES[0]);
    if size == 1 {
        floor(bench, index).await?;
    }
    let start = Instant::now();
    bench.contenders[index].start_services(&bench.lab)?;
    let place = bench.contenders[index].node(&bench.lab).place();
    let answered = until_all_answered(place, bench.services.sample(), PATIENCE).await?;
    until_all_answered(place, bench.services.all().to_vec(), Duration::from_secs(5))
        .await
        .map_err(|error| Error::Other(format!("a sample of the Services answered, but not all of them: {error}")))?;
    let pids = bench.contenders[index].pids();
    let taken = CpuMeter::new(pids.clone()).read()?;
    bench.add(Series::Programmed(count), who, (answered - start).as_secs_f64());
    bench.add(Series::ProgramCpu(count), who, taken.as_secs_f64());

    sleep(Duration::from_secs(5)).await;
    for _ in 0..bench.options.counts.changes[size] {
        change(bench, index, count).await?;
    }
    if size == 1 {
        let (service, _) = bench.services.changing()?;
        let times = connection_times(bench.contenders[index].node(&bench.lab).place(), service, CONNECTIONS).await?;
        bench.add(Series::Connect, who, middle(times));
        churn(bench, index).await?;
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

/// What a connection takes from this node where nothing programs Services: the rules of the one before it are gone.
async fn floor(bench: &mut Bench, index: usize) -> Result<()> {
    bench.contenders[index].clear_rules(&bench.lab)?;
    let endpoint = bench.services.changing()?.1.first().copied().ok_or_else(|| Error::Other("a Service without endpoints".into()))?;
    let endpoint = (endpoint, super::services::ENDPOINT_PORT).into();
    let times = connection_times(bench.contenders[index].node(&bench.lab).place(), endpoint, CONNECTIONS).await?;
    bench.add(Series::Connect, Who::Floor, middle(times));
    Ok(())
}

/// The one in the middle, in seconds.
fn middle(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let seconds: Vec<_> = times.iter().map(Duration::as_secs_f64).collect();
    median(&seconds).unwrap_or_default()
}

/// Endpoints change all the time, and now and then one of them is waited for.
async fn churn(bench: &mut Bench, index: usize) -> Result<()> {
    let who = bench.contenders[index].who;
    let place = bench.contenders[index].node(&bench.lab).place();
    let mut meter = CpuMeter::new(bench.contenders[index].pids());
    let before = meter.read()?;
    let mut others = bench.services.churn();
    let churning = tokio::spawn(async move {
        let mut tick = tokio::time::interval(CHURN.1);
        for _ in 0..CHURN.0 {
            tick.tick().await;
            others.change().await?;
        }
        Ok::<(), Error>(())
    });
    let mut lags = Vec::new();
    while !churning.is_finished() {
        sleep(MEASURED).await;
        let (service, _) = bench.services.changing()?;
        let to = bench.services.fresh_endpoint();
        let start = Instant::now();
        let (answered, ()) = tokio::try_join!(until_answered(place, service, vec![to], PATIENCE), bench.services.change(to))?;
        lags.push((answered.at - start).as_secs_f64());
        meter.read()?;
    }
    churning.await.map_err(|error| Error::Other(error.to_string()))??;
    sleep(AFTER).await;
    let taken = meter.read()?.saturating_sub(before);
    bench.add(Series::ChurnCpu, who, taken.as_secs_f64());
    lags.into_iter().for_each(|lag| bench.figures.add(Series::ChurnLag, who, lag));
    Ok(())
}

/// Seconds from one moment to another, which may be the earlier one.
fn signed(from: Instant, to: Instant) -> f64 {
    if to >= from { (to - from).as_secs_f64() } else { -(from - to).as_secs_f64() }
}
