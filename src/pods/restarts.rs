//! Whether a container that has ended starts again: its rules first, then its own policy, then the pod's (KEP-5307, KEP-5532; upstream:
//! `pkg/api/v1/pod/util.go`, `ContainerShouldRestart`).

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, Pod};

use super::spec::{self, RestartPolicy};

/// The action of a rule that has all of a pod's containers begin anew.
const RESTART_ALL: &str = "RestartAllContainers";

/// Whether a container starts again after it has ended with this code by itself.
pub fn restarts(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    let by_rule =
        container.restart_policy.is_some() && rule(container, exit_code).is_some_and(|r| matches!(&*r.action, "Restart" | RESTART_ALL));
    by_rule
        || match policy(pod, container) {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => exit_code != 0,
            RestartPolicy::Never => false,
        }
}

/// Whether an end with this code has all containers of the pod begin anew.
pub fn restarts_all(container: &Container, exit_code: i32) -> bool {
    rule(container, exit_code).is_some_and(|r| r.action == RESTART_ALL)
}

/// The policy in force where no rule is: the container's own, or the pod's.
pub fn policy(pod: &Pod, container: &Container) -> RestartPolicy {
    match container.restart_policy.as_deref() {
        Some("Always") => RestartPolicy::Always,
        Some("OnFailure") => RestartPolicy::OnFailure,
        Some("Never") => RestartPolicy::Never,
        _ => spec::restart_policy(pod),
    }
}

/// The first rule that an exit code matches.
fn rule(container: &Container, exit_code: i32) -> Option<&ContainerRestartRule> {
    container.restart_policy_rules.iter().flatten().find(|rule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
            match &*codes.operator {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ContainerRestartRuleOnExitCodes;

    use super::*;
    use crate::pods::fixture::{container, pod};

    fn rule(action: &str, operator: &str, values: &[i32]) -> ContainerRestartRule {
        let exit_codes = ContainerRestartRuleOnExitCodes { operator: operator.into(), values: Some(values.to_vec()) };
        ContainerRestartRule { action: action.into(), exit_codes: Some(exit_codes) }
    }

    #[test]
    fn rules_go_before_the_containers_policy_and_that_before_the_pods() {
        for (pods, own, rules, code, want) in [
            ("Always", None, vec![], 0, true),
            ("OnFailure", None, vec![], 0, false),
            ("OnFailure", None, vec![], 1, true),
            ("Never", None, vec![], 1, false),
            ("Always", Some("Never"), vec![], 1, false),
            ("Never", Some("OnFailure"), vec![], 1, true),
            ("Never", Some("Always"), vec![], 0, true),
            ("Never", Some("Never"), vec![rule("Restart", "In", &[42])], 42, true),
            ("Never", Some("Never"), vec![rule("Restart", "In", &[42])], 1, false),
            ("Never", Some("Never"), vec![rule("Restart", "NotIn", &[42])], 1, true),
            ("Never", Some("Never"), vec![rule("RestartAllContainers", "In", &[42])], 42, true),
            ("Always", Some("Never"), vec![rule("Later", "In", &[42]), rule("Restart", "In", &[42])], 42, false),
        ] {
            let container = Container { restart_policy: own.map(Into::into), restart_policy_rules: Some(rules.clone()), ..container("a") };
            assert_eq!(restarts(&pod(pods, &[]), &container, code), want, "{pods} {own:?} {rules:?} {code}");
        }
    }
}
