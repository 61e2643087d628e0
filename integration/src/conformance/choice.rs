//! Upstream's two suites, and the passes that a run makes over one of them.

/// One of upstream's suites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// `e2e.test`: a cluster, as its users see it.
    Cluster,
    /// `e2e_node.test`: one node, from the node itself.
    Node,
    /// `e2e.test` again: Services, on two nodes.
    Services,
}

impl Suite {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cluster, Self::Node, Self::Services];

    /// How many nodes its lab has.
    pub fn nodes(self) -> u8 {
        if self == Self::Services { 2 } else { 1 }
    }

    /// As `--suite` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Node => "node",
            Self::Services => "services",
        }
    }

    /// The program's name.
    pub fn program(self) -> &'static str {
        match self {
            Self::Cluster | Self::Services => "e2e.test",
            Self::Node => "e2e_node.test",
        }
    }

    /// Names of the specs that `make test` runs.
    pub fn slice(self) -> impl Iterator<Item = &'static str> {
        let text = match self {
            Self::Cluster => include_str!("../../conformance/slice-cluster.txt"),
            Self::Node => include_str!("../../conformance/slice-node.txt"),
            Self::Services => include_str!("../../conformance/slice-services.txt"),
        };
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    }
}

/// One pass of a suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// For people.
    pub name: &'static str,
    /// ginkgo's label filter.
    pub labels: String,
    /// Expression for files.
    pub files: Option<&'static str>,
    /// Expressions for names, any of which must match.
    pub focus: Vec<String>,
    /// Specs at a time.
    pub processes: usize,
}

/// Where the specs of a node agent are, in the tree of the suite for clusters.
const CLUSTER_FILES: &str = "test/e2e/(common/)?node/";
/// Specs of the suite for nodes; it holds those of test/e2e/common too, which the other suite runs.
const NODE_FILES: &str = "test/e2e_node/";
/// Of those, the life of pods, of which specs are wanted that upstream does not ask of every node.
const LIFE_FILES: &str = "test/e2e_node/(container_lifecycle|container_restart|critical_pod|deleted_pods|mirror_pod|mirror_pod_grace_period|\
pod_conditions|pod_status|pods_lifecycle_termination|restart|restart_all_containers|static_pod|terminate_pods|\
unknown_pods)_test";
/// Specs that need a data plane of Services, or what comes with it. Others are about DNS, policies of networks and load balancers of clouds.
const SERVICES_FILES: &str = "test/e2e/(common/)?network/(conntrack|endpointslice|hostport|kube_proxy|networking|proxy|service|service_cidrs|\
service_latency|topology_hints|traffic_distribution)\\.go";
/// What the lab has not: DNS of the cluster, a cloud, the internet.
const NOT_HERE: &str = "!(Feature: containsAny {LoadBalancer, Networking-IPv6, Networking-DNS, Networking-IPv4, SCTPConnectivity, Networking-Performance, \
OffByDefault})";
/// What the lab's node has not: alpha features, and a proxy before its runtime.
const NOT_THERE: &str = "!(Feature: containsAny {OffByDefault, CriProxy})";
const ALONE: &str = "(Serial || Disruptive)";

/// All specs that match, whatever they are.
pub fn matching(focus: &str, processes: usize) -> Choice {
    Choice { name: "the specs that match", labels: String::new(), files: None, focus: vec![focus.to_owned()], processes }
}

/// The specs of the slice.
pub fn slice(suite: Suite, processes: usize) -> Choice {
    Choice { name: "the slice", labels: String::new(), files: None, focus: suite.slice().map(exactly).collect(), processes }
}

/// What upstream asks of every node: specs that bear others first, then those that want the node for themselves.
pub fn everything(suite: Suite, slow: bool, processes: usize) -> Vec<Choice> {
    let slow = if slow { "" } else { " && !Slow" };
    let pass = |name, files, labels: String| Choice { name, labels: labels + slow, files: Some(files), focus: vec![], processes };
    match suite {
        Suite::Cluster => {
            let wanted = "(Conformance || NodeConformance)";
            vec![
                pass("specs that run side by side", CLUSTER_FILES, format!("{wanted} && !{ALONE}")),
                Choice { processes: 1, ..pass("specs that run alone", CLUSTER_FILES, format!("{wanted} && {ALONE}")) },
            ]
        }
        Suite::Services => vec![
            pass("Services, side by side", SERVICES_FILES, format!("!{ALONE} && {NOT_HERE}")),
            Choice { processes: 1, ..pass("Services, alone in the cluster", SERVICES_FILES, format!("{ALONE} && {NOT_HERE}")) },
        ],
        Suite::Node => vec![
            pass("what every node must do", NODE_FILES, format!("NodeConformance && !{ALONE}")),
            pass("more of the life of pods", LIFE_FILES, format!("!NodeConformance && !{ALONE} && {NOT_THERE}")),
            Choice { processes: 1, ..pass("the life of pods, alone on the node", LIFE_FILES, format!("{ALONE} && {NOT_THERE}")) },
        ],
    }
}

/// An expression that matches this text alone.
fn exactly(name: &str) -> String {
    let mut expression = String::new();
    for c in name.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            expression.push('\\');
        }
        expression.push(c);
    }
    expression
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_that_want_the_node_for_themselves_come_last_and_one_at_a_time() {
        for suite in Suite::ALL {
            let processes: Vec<usize> = everything(suite, false, 4).iter().map(|pass| pass.processes).collect();
            assert_eq!(processes.last(), Some(&1), "{suite:?}");
            assert!(processes.iter().rev().skip(1).all(|n| *n == 4), "{suite:?}");
        }
    }

    #[test]
    fn the_slices_name_specs_that_are_taken_literally() {
        assert!(Suite::ALL.iter().all(|suite| suite.slice().count() > 0));
        assert_eq!(exactly("a [B] (c) d.e"), r"a \[B\] \(c\) d\.e");
    }
}
