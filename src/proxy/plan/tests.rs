use super::*;
use crate::api::WatchEvent;
use crate::proxy::testing::{Tables, endpoint_slice, service};

/// A tracker with what it takes to follow it.
struct World {
    tracker: Tracker,
    /// Both families.
    programmed: [Programmed; 2],
    tables: Tables,
    now: Instant,
}

const FAMILIES: [Family; 2] = [Family::Ip, Family::Ip6];

fn both(plans: impl IntoIterator<Item = Plan>) -> Plan {
    plans.into_iter().fold(Plan::default(), |mut all, plan| {
        all.deletes.extend(plan.deletes);
        all.adds.extend(plan.adds);
        all.chains.extend(plan.chains);
        all.idle.extend(plan.idle);
        all.flows.extend(plan.flows);
        all.stays.extend(plan.stays);
        all
    })
}

fn terms() -> Arc<Terms> {
    Arc::new(Terms { zone: Some("here".into()), node_ips: vec![[10, 0, 0, 1].into()], ..Terms::default() })
}

fn fresh(tracker: &Tracker) -> Plan {
    both(FAMILIES.map(|family| Programmed::build(tracker, &Standing::new(), family, terms(), Instant::now()).1))
}

/// What a plan does in one family.
fn of_family(plan: &Plan, family: Family) -> Plan {
    let pieces = |list: &[Piece]| list.iter().copied().filter(|piece| piece.family() == family).collect();
    let chains = plan.chains.iter().filter(|new| new.family == family).cloned().collect();
    Plan { deletes: pieces(&plan.deletes), adds: pieces(&plan.adds), chains, ..Plan::default() }
}

impl World {
    fn new(services: Vec<Service>, slices: Vec<crate::model::service::EndpointSlice>) -> Self {
        let programmed = FAMILIES.map(|family| Programmed::new(family, terms(), Instant::now()));
        let mut world = Self { tracker: Tracker::default(), programmed, tables: Tables::default(), now: Instant::now() };
        world.tracker.service_event(WatchEvent::Snapshot(services));
        world.tracker.slice_event(WatchEvent::Snapshot(slices));
        world.step();
        world
    }

    fn step(&mut self) -> Plan {
        let changes = self.tracker.take_changes();
        let plans = self.programmed.each_mut().map(|programmed| programmed.update(&changes, &self.tracker, self.now));
        plans.iter().zip(FAMILIES).for_each(|(plan, family)| self.tables.apply(plan, family));
        both(plans)
    }

    /// A step when the time of all leftovers is over.
    fn later(&mut self) -> Plan {
        self.now += LINGER;
        self.step()
    }

    fn service(&mut self, service: Service) -> Plan {
        self.tracker.service_event(WatchEvent::Applied(service));
        self.step()
    }

    fn slice(&mut self, slice: crate::model::service::EndpointSlice) -> Plan {
        self.tracker.slice_event(WatchEvent::Applied(slice));
        self.step()
    }

    fn has_leftovers(&self) -> bool {
        self.programmed.iter().any(|programmed| programmed.next_removal().is_some())
    }

    fn size(plan: &Plan) -> (usize, usize) {
        (plan.deletes.len(), plan.adds.len())
    }
}

#[test]
fn a_service_becomes_a_handful_of_elements() {
    let world =
        World::new(vec![service("web", "10.96.0.1", "TCP 80 30080")], vec![endpoint_slice("web", "10.0.0.1 10.0.0.2l", "TCP 8080")]);
    assert_eq!(
        world.tables.dump(),
        "\
cluster-ips: 10.96.0.1
endpoints: Tcp port 80 of 10.96.0.1 [0] = 10.0.0.1:8080
endpoints: Tcp port 80 of 10.96.0.1 [1] = 10.0.0.2:8080
hairpin-connections: Tcp 10.0.0.2:8080
nodeport-endpoints: Tcp node port 30080 [0] = 10.0.0.1:8080
nodeport-endpoints: Tcp node port 30080 [1] = 10.0.0.2:8080
service-ips: Tcp port 80 of 10.96.0.1 = ip-2
service-nodeports: Tcp node port 30080 = port-masquerade-2
"
    );
}

#[test]
fn no_endpoints_means_refused() {
    let world = World::new(vec![service("web", "10.96.0.1", "TCP 80 30080")], vec![]);
    assert_eq!(
        world.tables.dump(),
        "\
cluster-ips: 10.96.0.1
no-endpoint-nodeports: Tcp node port 30080 = Reject
no-endpoint-services: Tcp port 80 of 10.96.0.1 = Reject
"
    );
}

#[test]
fn a_swapped_endpoint_is_two_elements_among_thousands() {
    let name = |i: u32| format!("s{i}");
    let services = (0..1000).map(|i| service(&name(i), &format!("10.96.{}.{}", i / 250, i % 250 + 1), "TCP 80")).collect();
    let slices = (0..1000).map(|i| endpoint_slice(&name(i), "10.0.0.1 10.0.0.2", "TCP 8080")).collect();
    let mut world = World::new(services, slices);
    let plan = world.slice(endpoint_slice("s500", "10.0.0.2 10.0.0.3", "TCP 8080"));
    assert_eq!(World::size(&plan), (1, 1), "{plan:?}");
    assert!(plan.adds.iter().all(|p| p.set() == crate::proxy::piece::SetId::Endpoints));
    assert!(plan.chains.is_empty() && plan.flows.is_empty());
}

#[test]
fn another_number_of_endpoints_changes_one_verdict() {
    let mut world = World::new(vec![service("web", "10.96.0.1", "TCP 80")], vec![endpoint_slice("web", "10.0.0.1", "TCP 80")]);
    let grown = world.slice(endpoint_slice("web", "10.0.0.1 10.0.0.2", "TCP 80"));
    assert_eq!(World::size(&grown), (1, 2));
    assert_eq!(grown.chains.len(), 1);
    // Shrinking: the verdict first, the element that nobody reaches any more a while later.
    let shrunk = world.slice(endpoint_slice("web", "10.0.0.1", "TCP 80"));
    assert_eq!(World::size(&shrunk), (1, 1));
    assert!(world.has_leftovers());
    let soon = world.slice(endpoint_slice("other", "10.0.0.9", "TCP 80"));
    assert_eq!((World::size(&soon), soon.idle.len()), ((0, 0), 0), "who drew the place before may still be on the way");
    let rest = world.later();
    assert_eq!(World::size(&rest), (1, 0));
    assert_eq!(rest.idle, [ChainId::parse("ip-2").unwrap()], "the chain goes with the last verdict's leftovers");
    assert!(!world.has_leftovers());
    // Growing again with the leftover still there: nothing is added twice (`Tables` would panic).
    world.slice(endpoint_slice("web", "10.0.0.1 10.0.0.2", "TCP 80"));
    world.slice(endpoint_slice("web", "10.0.0.1", "TCP 80"));
    world.slice(endpoint_slice("web", "10.0.0.1 10.0.0.3", "TCP 80"));
}

#[test]
fn thousands_of_endpoints_in_one_service_change_one_by_one() {
    let addresses = |from: u32| (from..from + 5000).map(|i| format!("10.{}.{}.1", 1 + i / 250, i % 250)).collect::<Vec<_>>().join(" ");
    let mut world = World::new(vec![service("big", "10.96.0.1", "TCP 80")], vec![endpoint_slice("big", &addresses(0), "TCP 80")]);
    let plan = world.slice(endpoint_slice("big", &addresses(1), "TCP 80"));
    assert_eq!(World::size(&plan), (1, 1));
}

#[test]
fn pods_in_two_services_keep_their_hairpin_element() {
    let mut world = World::new(
        vec![service("a", "10.96.0.1", "TCP 80"), service("b", "10.96.0.2", "TCP 80")],
        vec![endpoint_slice("a", "10.0.0.1l", "TCP 80"), endpoint_slice("b", "10.0.0.1l", "TCP 80")],
    );
    world.slice(endpoint_slice("a", "", "TCP 80"));
    assert!(world.tables.dump().contains("hairpin-connections: Tcp 10.0.0.1:80"));
    world.slice(endpoint_slice("b", "", "TCP 80"));
    assert!(!world.tables.dump().contains("hairpin-connections"));
}

#[test]
fn a_frontend_passes_from_one_service_to_another() {
    let mut world = World::new(
        vec![service("a", "10.96.0.1", "TCP 80 30080")],
        vec![endpoint_slice("a", "10.0.0.1 10.0.0.2", "TCP 80"), endpoint_slice("b", "10.0.0.3", "TCP 80")],
    );
    // In one step: `a` is gone, and `b` has its cluster IP and node port.
    world.tracker.service_event(WatchEvent::Deleted(service("a", "10.96.0.1", "TCP 80 30080")));
    world.service(service("b", "10.96.0.1", "TCP 80 30080"));
    world.later();
    let dump = world.tables.dump();
    assert!(dump.contains("[0] = 10.0.0.3:80") && !dump.contains("[1]"), "{dump}");
}

#[test]
fn of_two_services_that_want_one_frontend_the_second_waits() {
    let mut world = World::new(
        vec![service("a", "10.96.0.1", "TCP 80 30080"), service("b", "10.96.0.2", "TCP 80 30080")],
        vec![endpoint_slice("a", "10.0.0.1", "TCP 80"), endpoint_slice("b", "10.0.0.2", "TCP 80")],
    );
    let node_port = |world: &World| world.tables.dump().lines().filter(|l| l.contains("node port")).collect::<Vec<_>>().join("; ");
    let of = |last| {
        format!(
            "nodeport-endpoints: Tcp node port 30080 [0] = 10.0.0.{last}:80; service-nodeports: Tcp node port 30080 = port-masquerade-1"
        )
    };
    assert_eq!(node_port(&world), of(1));
    world.service(service("a", "10.96.0.1", "TCP 80"));
    assert_eq!(node_port(&world), of(2));
    world.service(service("a", "10.96.0.1", "TCP 80 30080"));
    world.tracker.service_event(WatchEvent::Deleted(service("a", "10.96.0.1", "TCP 80 30080")));
    world.step();
    world.service(service("b", "10.96.0.2", "TCP 80"));
    world.later();
    assert_eq!(node_port(&world), "");
    assert!(world.programmed.iter().all(|programmed| programmed.rivals.is_empty()));
}

#[test]
fn families_are_kept_apart() {
    let world =
        World::new(vec![service("web", "10.96.0.1 fd00::1", "TCP 80 30080")], vec![endpoint_slice("web", "10.0.0.1 fd01::1", "TCP 80")]);
    let plan = fresh(&world.tracker);
    for family in [Family::Ip, Family::Ip6] {
        let mine = plan.adds.iter().filter(|p| p.family() == family).count();
        assert_eq!(mine, 5, "{family}: ip, 2 verdicts, 2 places");
    }
}

#[test]
fn udp_flows_are_looked_at_only_when_an_endpoint_goes() {
    let mut world = World::new(vec![service("dns", "10.96.0.10", "UDP 53")], vec![endpoint_slice("dns", "10.0.0.1 10.0.0.2", "UDP 53")]);
    assert!(world.slice(endpoint_slice("dns", "10.0.0.1 10.0.0.2 10.0.0.3", "UDP 53")).flows.iter().all(|f| !f.look));
    let plan = world.slice(endpoint_slice("dns", "10.0.0.2 10.0.0.3", "UDP 53"));
    assert_eq!(plan.flows.iter().map(|f| f.backends.len()).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_chain_goes_a_while_after_its_last_verdict_unless_it_is_needed_again() {
    let two = |name: &str| endpoint_slice(name, "10.0.0.1 10.0.0.2", "TCP 80");
    let one = |name: &str| endpoint_slice(name, "10.0.0.1", "TCP 80");
    let services = vec![service("a", "10.96.0.1", "TCP 80"), service("b", "10.96.0.2", "TCP 80")];
    let mut world = World::new(services, vec![two("a"), two("b")]);
    let shrunk = world.slice(one("a"));
    assert_eq!((shrunk.chains.len(), shrunk.idle.len()), (1, 0), "b still leads there");
    world.slice(one("b"));
    let again = world.slice(two("a"));
    assert_eq!((again.chains.len(), again.idle.len()), (0, 0), "it is still there");
    world.slice(one("a"));
    assert_eq!(world.step().idle.len(), 0);
    assert_eq!(world.later().idle.len(), 1);
    assert_eq!(world.slice(two("a")).chains.len(), 1);
}

mod random {
    use proptest::prelude::*;

    use super::*;
    use crate::proxy::testing::{Edit, edit};

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
        /// After any edits, in any steps, what stands is what a fresh build would make, but for who has which place.
        #[test]
        fn edits_lead_where_a_fresh_build_leads(steps in prop::collection::vec((prop::collection::vec(edit(), 1..6), 0..800_u64), 1..30)) {
            let mut world = World::new(vec![], vec![]);
            for (edits, wait) in steps {
                for edit in edits {
                    match edit {
                        Edit::Service(event) => world.tracker.service_event(event),
                        Edit::Slice(event) => world.tracker.slice_event(event),
                    }
                }
                world.now += Duration::from_millis(wait);
                world.step();
                // Verdicts never lead to a place that is missing: checked while leftovers stand.
                world.tables.check_places();
            }
            world.later();
            prop_assert!(!world.has_leftovers());
            let fresh = fresh(&world.tracker);
            let mut tables = Tables::default();
            FAMILIES.iter().for_each(|family| tables.apply(&of_family(&fresh, *family), *family));
            prop_assert_eq!(world.tables.without_order(), tables.without_order());
        }
    }
}
