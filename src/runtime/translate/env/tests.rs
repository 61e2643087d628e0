use super::*;
use crate::model::service::{Protocol, ServiceMap};
use crate::runtime::translate::tests::{facts, first, pod, service};
use serde_json::{Value, json};

fn objects() -> Objects {
    let map = json!({"data": {"color": "red", "size": "$(NOT)"}});
    let secret = json!({"data": {"password": "czNjcjN0", "raw": "/w=="}});
    Objects {
        config_maps: BTreeMap::from([("settings".to_owned(), Arc::new(serde_json::from_value(map).unwrap()))]),
        secrets: BTreeMap::from([("login".to_owned(), Arc::new(serde_json::from_value(secret).unwrap()))]),
        files: BTreeMap::from([
            (("made".to_owned(), "good".to_owned()), Ok("MADE='here'\n".to_owned())),
            (("made".to_owned(), "env".to_owned()), Ok("MADE='here'\nbroken".to_owned())),
        ]),
    }
}

fn container(env_from: Value, env: Value) -> Value {
    json!({"enableServiceLinks": false, "nodeName": "n1", "containers": [{"name": "app", "envFrom": env_from, "env": env,
        "resources": {"limits": {"cpu": "1500m"}}}]})
}

fn env(spec: Value) -> Result<Vec<String>, EnvError> {
    let pod = pod(spec);
    let db = service("shop", "db", "10.96.0.7", &[("", Protocol::Tcp, 5432)]);
    let services = ServiceMap::from([(db.id.clone(), Arc::new(db))]);
    let ips = ["10.1.0.2".parse().unwrap()];
    let sources = EnvSources { objects: &objects(), services: &services, facts: &facts(), pod_ips: &ips };
    let all = environment(&pod, first(&pod), sources)?;
    Ok(all.into_iter().map(|(k, v)| format!("{k}={}", v.escape_ascii())).collect())
}

#[test]
fn later_sources_win_and_values_refer_to_earlier_ones() {
    let spec = container(
        json!([{"prefix": "P_", "configMapRef": {"name": "settings"}}, {"configMapRef": {"name": "settings"}},
               {"configMapRef": {"name": "none", "optional": true}}]),
        json!([
            {"name": "A", "value": "a"},
            {"name": "B", "value": "$(A)-$(P_color)-$(C)-$$(A)"},
            {"name": "C", "value": "c"},
            {"name": "color", "value": "$(color)-blue"},
            {"name": "EMPTY"},
            {"name": "FROM", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "size"}}},
            {"name": "A", "value": "$(A)$(A)"}
        ]),
    );
    let want =
        ["A=aa", "B=a-red-$(C)-$(A)", "C=c", "EMPTY=", "FROM=$(NOT)", "P_color=red", "P_size=$(NOT)", "color=red-blue", "size=$(NOT)"];
    assert_eq!(env(spec).unwrap(), want);
}

#[test]
fn values_from_elsewhere() {
    let spec = container(
        json!([]),
        json!([
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "OTHER", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "containerName": "app", "divisor": "1m"}}},
            {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
            {"name": "NO1", "valueFrom": {"secretKeyRef": {"name": "login", "key": "none", "optional": true}}},
            {"name": "NO2", "valueFrom": {"secretKeyRef": {"name": "none", "key": "none", "optional": true}}}
        ]),
    );
    assert_eq!(env(spec).unwrap(), ["CPU=2", "IP=10.1.0.2", "NODE=n1", "OTHER=1500", "PW=s3cr3t"]);
}

#[test]
fn host_network_pods_have_the_nodes_address() {
    let mut spec = container(json!([]), json!([{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]));
    spec["hostNetwork"] = json!(true);
    let pod = pod(spec);
    let sources = EnvSources { objects: &Objects::default(), services: &ServiceMap::new(), facts: &facts(), pod_ips: &[] };
    assert_eq!(environment(&pod, first(&pod), sources).unwrap(), [("IP".to_owned(), b"10.0.0.1".to_vec())]);
}

#[test]
fn service_links_come_first_and_can_be_turned_off() {
    let vars = json!([{"name": "DB_SERVICE_HOST", "value": "other"}, {"name": "URL", "value": "$(DB_SERVICE_HOST):$(DB_SERVICE_PORT)"}]);
    let mut spec = container(json!([]), vars);
    assert_eq!(env(spec.clone()).unwrap(), ["DB_SERVICE_HOST=other", "URL=other:$(DB_SERVICE_PORT)"]);
    spec.as_object_mut().unwrap().remove("enableServiceLinks");
    let all = env(spec).unwrap();
    assert!(all.contains(&"URL=other:5432".to_owned()) && all.contains(&"DB_PORT_5432_TCP_ADDR=10.96.0.7".to_owned()), "{all:?}");
    assert_eq!(all.iter().filter(|v| v.starts_with("DB_SERVICE_HOST=")).collect::<Vec<_>>(), ["DB_SERVICE_HOST=other"]);
}

#[test]
fn a_secret_need_not_be_text() {
    let raw =
        json!([{"name": "RAW", "valueFrom": {"secretKeyRef": {"name": "login", "key": "raw"}}}, {"name": "REF", "value": "<$(RAW)>"}]);
    assert_eq!(env(container(json!([]), raw)).unwrap(), [r"RAW=\xff", r"REF=<\xff>"]);
    let all = container(json!([{"secretRef": {"name": "login"}}]), json!([]));
    assert_eq!(env(all).unwrap(), ["password=s3cr3t", r"raw=\xff"]);
}

fn in_file(path: &str, key: &str, optional: bool) -> Value {
    let selector = json!({"key": key, "path": path, "volumeName": "made", "optional": optional});
    container(json!([]), json!([{"name": "V", "valueFrom": {"fileKeyRef": selector}}]))
}

#[test]
fn a_variable_of_a_file_may_be_missing_if_it_is_optional() {
    assert_eq!(env(in_file("good", "MADE", false)).unwrap(), ["V=here"]);
    assert_eq!(env(in_file("good", "none", true)).unwrap(), [""; 0]);
}

#[test]
fn what_is_missing_is_named() {
    let key =
        |kind: &str, name: &str, key: &str| container(json!([]), json!([{"name": "V", "valueFrom": {kind: {"name": name, "key": key}}}]));
    for (spec, want) in [
        (container(json!([{"configMapRef": {"name": "none"}}]), json!([])), r#"configmap "none" not found"#),
        (container(json!([{"secretRef": {"name": "none"}}]), json!([])), r#"secret "none" not found"#),
        (key("configMapKeyRef", "none", "k"), r#"configmap "none" not found"#),
        (key("secretKeyRef", "none", "k"), r#"secret "none" not found"#),
        (key("configMapKeyRef", "settings", "k"), "couldn't find key k in ConfigMap shop/settings"),
        (key("secretKeyRef", "login", "k"), "couldn't find key k in Secret shop/login"),
        (
            container(
                json!([]),
                json!([{"name": "V", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "containerName": "x"}}}]),
            ),
            r#"variable V: resourceFieldRef names container "x", which the pod does not have"#,
        ),
        (
            container(json!([]), json!([{"name": "V", "valueFrom": {"fileKeyRef": {"key": "k", "path": "p", "volumeName": "v"}}}])),
            r#"cannot find the volume "v" referenced by FileKeyRef"#,
        ),
        (in_file("good", "none", false), r#"environment variable key "none" not found in file "good" of volume "made""#),
        (in_file("env", "AFTER", true), r#"couldn't parse env file "env" of volume "made": line 2: there is no '='"#),
    ] {
        assert_eq!(env(spec).expect_err(want).to_string(), want);
    }
}

#[test]
fn references_are_listed_once() {
    let spec = container(
        json!([{"configMapRef": {"name": "a", "optional": true}}, {"secretRef": {"name": "s", "optional": true}}]),
        json!([
            {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "a", "key": "k"}}},
            {"name": "Y", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}},
            {"name": "Z", "valueFrom": {"configMapKeyRef": {"name": "b", "key": "k"}}}
        ]),
    );
    let pod = pod(spec);
    let found: Vec<_> = references(first(&pod)).into_iter().map(|r| (r.kind, r.name, r.optional)).collect();
    let want = [(ObjectKind::ConfigMap, "a", false), (ObjectKind::Secret, "s", true), (ObjectKind::ConfigMap, "b", false)];
    assert_eq!(found, want.map(|(kind, name, optional)| (kind, name.to_owned(), optional)));
}
