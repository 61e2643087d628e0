use serde_json::{Value, json};

use super::*;

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod")
}

/// Requests and limits of a container: CPU and memory, nothing where the text is empty.
fn resources(requests: [&str; 2], limits: [&str; 2]) -> Value {
    let list = |texts: [&str; 2]| {
        let pairs = ["cpu", "memory"].into_iter().zip(texts).filter(|(_, text)| !text.is_empty());
        Value::Object(pairs.map(|(name, text)| (name.to_owned(), json!(text))).collect())
    };
    json!({"requests": list(requests), "limits": list(limits)})
}

/// (CPU request, memory request, CPU limit, memory limit)
fn sums(spec: Value) -> (i64, i64, Option<i64>, Option<i64>) {
    let sums = PodResources::of(&pod(spec));
    let memory = sums.requests.get("memory").map_or(0, |q| q.value());
    (sums.milli_cpu_request(), memory, sums.milli_cpu_limit(), sums.memory_limit())
}

#[test]
fn containers_add_up() {
    let spec = json!({"containers": [
        {"name": "a", "resources": resources(["100m", "100"], ["200m", "200"])},
        {"name": "b", "resources": resources(["0.5", "1k"], ["1", "2k"])},
    ]});
    assert_eq!(sums(spec), (600, 1100, Some(1200), Some(2200)));
}

#[test]
fn one_container_without_a_limit_lifts_the_pods() {
    let spec = json!({"containers": [
        {"name": "a", "resources": resources(["100m", "100"], ["200m", "200"])},
        {"name": "b", "resources": resources(["100m", "100"], ["", "200"])},
    ]});
    assert_eq!(sums(spec), (200, 200, None, Some(400)));
    assert_eq!(sums(json!({"containers": [{"name": "a"}]})), (0, 0, None, None));
}

#[test]
fn init_containers_set_a_floor_and_sidecars_add_up() {
    let all = |amount: &str| resources([amount, amount], [amount, amount]);
    let init = |name: &str, amount: &str| json!({"name": name, "resources": all(amount)});
    let sidecar = |name: &str, amount: &str| json!({"name": name, "restartPolicy": "Always", "resources": all(amount)});
    let main = json!([{"name": "m", "resources": all("10")}]);
    let table = [
        (json!([init("i", "7")]), 10),
        (json!([init("i", "30")]), 30),
        (json!([sidecar("s", "5")]), 15),
        (json!([sidecar("s", "5"), init("i", "7")]), 15),
        (json!([sidecar("s", "5"), init("i", "11")]), 16),
        (json!([init("i", "11"), sidecar("s", "5")]), 15),
        (json!([sidecar("s", "5"), sidecar("t", "6"), init("i", "11")]), 22),
    ];
    for (inits, cpus) in table {
        let spec = json!({"containers": main, "initContainers": inits});
        assert_eq!(sums(spec.clone()), (cpus * 1000, cpus, Some(cpus * 1000), Some(cpus)), "{spec}");
    }
}

#[test]
fn overhead_is_added_to_requests_and_to_limits_that_are_there() {
    let spec = json!({
        "containers": [{"name": "a", "resources": resources(["100m", "100"], ["200m", ""])}],
        "overhead": {"cpu": "50m", "memory": "20"},
    });
    assert_eq!(sums(spec), (150, 120, Some(250), None));
}

#[test]
fn pod_level_resources_replace_sums() {
    let spec = json!({
        "containers": [{"name": "a", "resources": resources(["100m", "100"], ["", ""])}],
        "resources": {"requests": {"cpu": "1", "ephemeral-storage": "7"}, "limits": {"cpu": "2", "memory": "500"}},
    });
    assert_eq!(sums(spec.clone()), (1000, 100, Some(2000), Some(500)));
    assert!(!PodResources::of(&pod(spec)).requests.contains_key("ephemeral-storage"));
}

#[test]
fn amounts_that_cannot_be_read_are_absent() {
    let spec = json!({"containers": [{"name": "a", "resources": resources(["lots", "1"], ["", ""])}]});
    assert_eq!(sums(spec), (0, 1, None, None));
}

#[test]
fn kernel_values() {
    for (milli, shares) in [(0, 2), (1, 2), (2, 2), (3, 3), (100, 102), (1000, 1024), (256_000, 262_144), (i64::MAX, 262_144), (-5, 2)] {
        assert_eq!(cpu_shares(milli), shares, "{milli}");
    }
    for (shares, weight) in [(0, 1), (2, 1), (102, 4), (1024, 39), (2048, 79), (4096, 157), (262_144, 10_000), (u64::MAX, 10_000)] {
        assert_eq!(cpu_weight(shares), weight, "{shares}");
    }
    for (weight, shares) in [(0, 2), (1, 2), (39, 998), (10_000, 262_144)] {
        assert_eq!(shares_of_weight(weight), shares, "{weight}");
    }
    let period = Duration::from_millis(100);
    for (milli, quota) in [(0, 0), (1, 1000), (10, 1000), (11, 1100), (1500, 150_000)] {
        assert_eq!(cpu_quota(milli, period), quota, "{milli}");
    }
    assert_eq!(cpu_quota(500, Duration::from_millis(5)), 2500);
    assert_eq!(cpu_quota(i64::MAX, Duration::MAX), i64::MAX);
}

#[test]
fn oom_scores() {
    const CAPACITY: i64 = 1000;
    let score = |spec: Value, index: usize| {
        let pod = pod(spec);
        let spec = pod.spec.clone().expect("a spec");
        let all: Vec<Container> = spec.containers.into_iter().chain(spec.init_containers.into_iter().flatten()).collect();
        oom_score_adj(&pod, &all[index], CAPACITY)
    };
    let container = |requests, limits| json!({"containers": [{"name": "a", "resources": resources(requests, limits)}]});
    assert_eq!(score(container(["1", "1"], ["1", "1"]), 0), -997, "Guaranteed");
    assert_eq!(score(container(["", ""], ["", ""]), 0), 1000, "BestEffort");
    for (memory, expected) in [("", 999), ("0", 999), ("1", 999), ("100", 900), ("999", 3), ("5k", 3)] {
        assert_eq!(score(container(["1", memory], ["", ""]), 0), expected, "Burstable with {memory:?}");
    }
    let sidecar = |own: &str| {
        json!({
            "containers": [{"name": "a", "resources": resources(["", "300"], ["", ""])}, {"name": "b", "resources": resources(["", "200"], ["", ""])}],
            "initContainers": [{"name": "s", "restartPolicy": "Always", "resources": resources(["", own], ["", ""])}],
        })
    };
    assert_eq!(score(sidecar("100"), 2), 800, "no worse than the smallest container");
    assert_eq!(score(sidecar("500"), 2), 500, "its own request is better");
    let shared = json!({
        "containers": [{"name": "a", "resources": resources(["", "100"], ["", ""])}, {"name": "b"}],
        "resources": {"requests": {"memory": "500"}},
    });
    assert_eq!((score(shared.clone(), 0), score(shared, 1)), (700, 800), "the rest is divided");
}

#[test]
fn critical_pods_are_killed_last() {
    let mut pod = pod(json!({"containers": [{"name": "a"}], "priorityClassName": "system-node-critical", "priority": 2_000_001_000}));
    let container = pod.spec.as_ref().and_then(|s| s.containers.first()).cloned().expect("a container");
    assert_eq!(oom_score_adj(&pod, &container, 1), -997);
    if let Some(spec) = &mut pod.spec {
        spec.priority = Some(5);
    }
    assert_eq!(oom_score_adj(&pod, &container, 1), 1000);
}
