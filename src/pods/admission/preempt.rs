//! Who makes room for a critical pod: as few pods as possible, the least important first (upstream: `preemption/preemption.go`).

use std::collections::BTreeMap;

use super::Rejection;
use super::fit::{Demand, Lack};
use crate::model::PodUid;
use crate::model::qos::QosClass;

type Named<'a> = (&'a PodUid, &'a Demand);
type Needs = BTreeMap<String, i64>;

/// The pods that must go. `Err`: nobody's going helps.
pub(super) fn choose(lacking: &[Lack], newcomer: &Demand, admitted: &BTreeMap<PodUid, Demand>) -> Result<Vec<PodUid>, Option<Rejection>> {
    let needs: Needs = lacking.iter().map(|lack| (lack.name.clone(), lack.missing())).collect();
    let may_go = |d: &Demand| (newcomer.critical && !d.critical) || newcomer.priority > d.priority;
    let of = |class: QosClass| -> Vec<Named> { admitted.iter().filter(|(_, d)| d.qos == class && may_go(d)).collect() };
    let (best_effort, burstable, guaranteed) = (of(QosClass::BestEffort), of(QosClass::Burstable), of(QosClass::Guaranteed));
    let all: Vec<Named> = [&best_effort[..], &burstable, &guaranteed].concat();
    let left = without(&needs, &all);
    if !left.is_empty() {
        let words: Vec<String> = left.iter().map(|(name, missing)| format!("(res: {name}, q: {missing}), ")).collect();
        let message = format!(
            "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to preempt: \
             no set of running pods found to reclaim resources: [{}]",
            words.concat()
        );
        return Err(Some(Rejection::new("UnexpectedAdmissionError", message)));
    }
    // Of the more important ones only those without whom it can't be done.
    let guaranteed = nearest(&guaranteed, without(&needs, &[&best_effort[..], &burstable].concat()));
    let burstable = nearest(&burstable, without(&needs, &[&best_effort[..], &guaranteed].concat()));
    let best_effort = nearest(&best_effort, without(&needs, &[&burstable[..], &guaranteed].concat()));
    Ok([best_effort, burstable, guaranteed].concat().into_iter().map(|(uid, _)| uid.clone()).collect())
}

/// What is still needed once these are gone.
fn without(needs: &Needs, gone: &[Named]) -> Needs {
    let left = needs.iter().map(|(name, need)| (name.clone(), need - gone.iter().map(|(_, d)| d.of_resource(name)).sum::<i64>()));
    left.filter(|(_, need)| *need > 0).collect()
}

/// The pods that together meet the needs, each time the one that leaves the least of them open; of equals, the one that takes less.
fn nearest<'a>(pods: &[Named<'a>], mut needs: Needs) -> Vec<Named<'a>> {
    let mut rest = pods.to_vec();
    let mut chosen = vec![];
    while !needs.is_empty() {
        let key = |(_, d): &Named| (distance(&needs, d), needs.keys().map(|name| d.of_resource(name)).sum::<i64>());
        let best = rest.iter().enumerate().min_by(|(_, a), (_, b)| key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal));
        let Some((index, _)) = best else { break };
        let pod = rest.remove(index);
        needs = without(&needs, &[pod]);
        chosen.push(pod);
    }
    chosen
}

/// How far a pod is from meeting the needs: the squares of the shares that stay open.
#[expect(clippy::cast_precision_loss, reason = "amounts far below 2^52")]
fn distance(needs: &Needs, demand: &Demand) -> f64 {
    let open = needs.iter().map(|(name, need)| ((need - demand.of_resource(name)) as f64 / *need as f64).max(0.0));
    open.map(|share| share * share).sum()
}
