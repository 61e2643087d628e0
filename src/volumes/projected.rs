//! Volumes that are made of files: ConfigMaps, Secrets, downward API and tokens. Each of the first three is also a volume kind of its
//! own, which is a projected volume with one part. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, DownwardAPIVolumeFile, DownwardAPIVolumeSource, KeyToPath, ProjectedVolumeSource, Secret,
    SecretVolumeSource, ServiceAccountTokenProjection, VolumeProjection,
};

use super::context::PodContext;
use super::payload::{File, Payload};
use super::problem::Problem;
use super::token::Token;
use super::{config_map, downward_api, secret};
use crate::model::node::NodeFacts;

/// Keys of one ConfigMap or Secret.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Keys<'a> {
    pub(super) name: &'a str,
    pub(super) items: Option<&'a [KeyToPath]>,
    pub(super) optional: bool,
}

/// One source of files, as the spec has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Part<'a> {
    ConfigMap(Keys<'a>),
    Secret(Keys<'a>),
    DownwardApi(Option<&'a [DownwardAPIVolumeFile]>),
    Token(&'a ServiceAccountTokenProjection),
}

/// What the API server had for a [`Part`]. `None` is an optional object that does not exist.
#[derive(Debug)]
pub(super) enum Fetched {
    ConfigMap(Option<Arc<ConfigMap>>),
    Secret(Option<Arc<Secret>>),
    /// Nothing is needed.
    Nothing,
    Token(Token),
}

/// A volume's parts and the default mode of its files.
#[derive(Debug, PartialEq)]
pub(super) struct Projection<'a> {
    pub(super) parts: Vec<Part<'a>>,
    pub(super) mode: Option<i32>,
}

impl<'a> Projection<'a> {
    pub(super) fn of_config_map(source: &'a ConfigMapVolumeSource) -> Self {
        let keys = Keys { name: &source.name, items: source.items.as_deref(), optional: source.optional == Some(true) };
        Self { parts: vec![Part::ConfigMap(keys)], mode: source.default_mode }
    }

    pub(super) fn of_secret(source: &'a SecretVolumeSource) -> Self {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let keys = Keys { name, items: source.items.as_deref(), optional: source.optional == Some(true) };
        Self { parts: vec![Part::Secret(keys)], mode: source.default_mode }
    }

    pub(super) fn of_downward_api(source: &'a DownwardAPIVolumeSource) -> Self {
        Self { parts: vec![Part::DownwardApi(source.items.as_deref())], mode: source.default_mode }
    }

    pub(super) fn of_projected(source: &'a ProjectedVolumeSource) -> Result<Self, Problem> {
        let parts: Result<_, _> = source.sources.iter().flatten().map(part).collect();
        Ok(Self { parts: parts?, mode: source.default_mode })
    }

    /// The files, from what was fetched for the parts (in their order).
    pub(super) fn payload<'f>(&self, fetched: &'f [Fetched], context: &PodContext<'_>, node: &NodeFacts) -> Result<Payload<'f>, String> {
        let mut payload = Payload::default();
        for (part, fetched) in self.parts.iter().zip(fetched) {
            match (part, fetched) {
                (Part::ConfigMap(keys), Fetched::ConfigMap(object)) => {
                    config_map::add(&mut payload, keys.name, object.as_deref(), keys.items, self.mode, keys.optional)?;
                }
                (Part::Secret(keys), Fetched::Secret(object)) => {
                    secret::add(&mut payload, keys.name, object.as_deref(), keys.items, self.mode, keys.optional)?;
                }
                (Part::DownwardApi(items), Fetched::Nothing) => downward_api::add(&mut payload, *items, self.mode, context.pod, node)?,
                (Part::Token(source), Fetched::Token(token)) => payload.add(&source.path, self.token_file(token, context))?,
                (part, _) => return Err(format!("{part:?} was not fetched")),
            }
        }
        payload.check()?;
        Ok(payload)
    }

    /// A token is for the pod's own user or group alone where the pod has one (the group gets in with the fsGroup later).
    fn token_file<'f>(&self, token: &'f Token, context: &PodContext<'_>) -> File<'f> {
        let private = context.fs_group.is_some() || context.user.is_some();
        let mode = if private { Some(0o600) } else { self.mode };
        File { owner: context.user, ..File::new(token.text.as_bytes(), [mode, None]) }
    }
}

fn part(source: &VolumeProjection) -> Result<Part<'_>, Problem> {
    if let Some(s) = &source.config_map {
        return Ok(Part::ConfigMap(Keys { name: &s.name, items: s.items.as_deref(), optional: s.optional == Some(true) }));
    }
    if let Some(s) = &source.secret {
        return Ok(Part::Secret(Keys { name: &s.name, items: s.items.as_deref(), optional: s.optional == Some(true) }));
    }
    if let Some(s) = &source.downward_api {
        return Ok(Part::DownwardApi(s.items.as_deref()));
    }
    if let Some(s) = &source.service_account_token {
        return Ok(Part::Token(s));
    }
    let others = [("clusterTrustBundle", source.cluster_trust_bundle.is_some()), ("podCertificate", source.pod_certificate.is_some())];
    match others.into_iter().find(|(_, set)| *set) {
        Some((name, _)) => Err(Problem::Unsupported(format!("projected.{name}"))),
        None => Err(Problem::Spec("a source of a projected volume is empty".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::tests::{node, pod};
    use serde_json::{Value, json};

    fn source(sources: Value) -> ProjectedVolumeSource {
        serde_json::from_value(json!({"defaultMode": 0o440, "sources": sources})).unwrap()
    }

    #[test]
    fn all_sources_end_up_in_one_volume() {
        let source = source(json!([
            {"serviceAccountToken": {"path": "token"}},
            {"configMap": {"name": "ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"secret": {"name": "s", "optional": true}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ]));
        let projection = Projection::of_projected(&source).unwrap();
        let ca = ConfigMap { data: Some([("ca.crt".to_owned(), "CA".to_owned())].into()), ..Default::default() };
        let token = Token::for_tests("T");
        let fetched = [Fetched::Token(token), Fetched::ConfigMap(Some(Arc::new(ca))), Fetched::Secret(None), Fetched::Nothing];
        for (security, mode, owner) in
            [(json!(null), 0o440, None), (json!({"fsGroup": 5}), 0o600, None), (json!({"runAsUser": 6}), 0o600, Some(6))]
        {
            let pod = pod(json!({"containers": [{"name": "c", "image": "i"}], "securityContext": security}));
            let payload = projection.payload(&fetched, &PodContext::new(&pod, true), &node()).unwrap();
            let texts: Vec<_> = payload.files().map(|(p, f)| (p, std::str::from_utf8(&f.data).unwrap().to_owned())).collect();
            assert_eq!(texts, [("ca.crt", "CA".into()), ("namespace", "shop".into()), ("token", "T".into())]);
            assert_eq!(payload.get("token").map(|f| (f.mode, f.owner)), Some((mode, owner)), "{security}");
            assert_eq!(payload.get("ca.crt").map(|f| (f.mode, f.owner)), Some((0o440, None)));
        }
    }

    #[test]
    fn what_can_not_be_projected_says_so() {
        let bundle = source(json!([{"clusterTrustBundle": {"path": "p"}}]));
        let error = Projection::of_projected(&bundle).unwrap_err().to_string();
        assert_eq!(error, "volumes of type projected.clusterTrustBundle are not supported yet by kubelet-rs");
        assert!(Projection::of_projected(&source(json!([{}]))).is_err());

        let twice = source(json!([{"serviceAccountToken": {"path": "t"}}, {"serviceAccountToken": {"path": "./t"}}]));
        let fetched = [Fetched::Token(Token::for_tests("a")), Fetched::Token(Token::for_tests("b"))];
        let pod = pod(json!({"containers": []}));
        let error = Projection::of_projected(&twice).unwrap().payload(&fetched, &PodContext::new(&pod, true), &node()).unwrap_err();
        assert!(error.contains("given twice"), "{error}");
    }
}
