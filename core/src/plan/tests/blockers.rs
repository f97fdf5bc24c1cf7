//! What keeps nodes awake, by itself or together with others.

use super::sleeping::{because, empty, record, suspends};
use super::*;

fn pod(world: &mut World, name: &str, node: Option<&str>, owner: PodOwner) {
    let pod = Pod {
        key: PodKey::new("default", name),
        uid: Uid::new(name),
        node: node.map(NodeName::new),
        phase: if node.is_some() { PodPhase::Running } else { PodPhase::Pending },
        terminating: false,
        labels: Labels::new(),
        owner,
        unschedulable: false,
        ready: true,
        scheduling: Arc::new(Scheduling::default()),
    };
    world.snapshot.pods.insert(pod.key.clone(), pod);
}

fn blockers(world: &World, node: &str) -> Vec<Blocker> {
    SuspendBlockers::of_snapshot(&world.snapshot, &world.policies).of(&world.snapshot.nodes[&NodeName::new(node)])
}

#[test]
fn blockers_are_ranked_and_say_what_to_do() {
    let mut world = empty();
    world.vm("late", "dedicated-0", 0.1);
    let etcd = PodOwner::Static { manifest: "etcd".into(), control_plane: true };
    pod(&mut world, "etcd-d", Some("dedicated-0"), etcd);
    let vip = PodOwner::Static { manifest: "vip".into(), control_plane: false };
    pod(&mut world, "vip-d", Some("dedicated-0"), vip);
    pod(&mut world, "instance-manager-1", Some("dedicated-0"), PodOwner::Other);
    let blockers = blockers(&world, "dedicated-0");
    let kinds: Vec<_> = blockers.iter().map(Blocker::kind).collect();
    assert_eq!(kinds, ["control-plane nodes", "instance-manager pods", "static pod default/vip", "VMs"]);
    assert!(blockers.iter().all(|blocker| !blocker.advice().is_empty()));
}

/// Where nothing can wake a node, a wake test is no advice: there is no NodePower that could be asked for one.
#[test]
fn a_class_without_a_wake_driver_is_the_blocker_and_not_the_missing_test() {
    let mut world = empty();
    world.policies.classes.get_mut(&ClassName::new("dedicated")).unwrap().sleep.can_be_woken = false;
    world.node_mut("dedicated-0").wake_tested = None;
    let blockers = blockers(&world, "dedicated-0");
    assert_eq!(blockers, [Blocker::NoWakeDriver { class: ClassName::new("dedicated") }]);
    assert_eq!(blockers[0].kind(), "no wake driver in class dedicated");
    let advice = blockers[0].advice();
    for cure in ["spec.wake", "NodePowerClass dedicated", "waker.enabled"] {
        assert!(advice.contains(cure), "{advice}");
    }
    assert!(!advice.contains("wake-test"), "{advice}");
}

/// Why the node is needed by the cluster as a whole: the name in metrics.
fn need(world: &World, node: &str) -> Option<&'static str> {
    let (_, report) = world.decide();
    report.nodes[&NodeName::new(node)].awake_because.as_ref().map(AwakeBecause::name)
}

fn health_check(away: u32) -> HealthCheck {
    HealthCheck { nodes: Selector::default(), repairs: RepairsWhile::Unhealthy(Share::Count(away)) }
}

#[test]
fn a_node_that_the_cluster_needs_awake_says_what_for() {
    let mut world = empty();
    world.node_mut("dedicated-1").keep_awake = Some("a test".into());
    world.snapshot.health_checks.insert("workers".into(), health_check(1));
    assert_eq!(suspends(&world), [""; 0]);
    // It is no failover that keeps it awake.
    assert_eq!(need(&world, "dedicated-0"), Some("NodeHealthCheck"));
    assert!(because(&world, "dedicated-0").starts_with("NodeHealthCheck workers would count 1 of 3 nodes"));
    world.snapshot.health_checks.insert("workers".into(), health_check(2));
    assert_eq!(suspends(&world), ["dedicated-0"]);
    // A pod that the scheduler has not looked at yet could go nowhere else.
    pod(&mut world, "new", None, PodOwner::Other);
    let mut only_here = Scheduling::default();
    only_here.node_selector.insert("kubernetes.io/hostname".into(), "dedicated-0".into());
    let new = world.snapshot.pods.get_mut(&PodKey::new("default", "new")).unwrap();
    new.scheduling = Arc::new(only_here);
    assert_eq!(suspends(&world), [""; 0]);
    assert_eq!(need(&world, "dedicated-0"), Some("PendingPod"));
}

/// Each policy puts one node to sleep in a pass; a check that counts the nodes of both allows one of them.
#[test]
fn two_policies_do_not_overdraw_one_health_check() {
    let mut world = empty();
    let mut other = world.policies.policies[&PolicyName::new("pack")].clone();
    (other.name, other.priority, other.classes) = (PolicyName::new("other"), 1, vec!["shared".into()]);
    world.policies.policies.insert(other.name.clone(), other);
    world.snapshot.vms.clear();
    world.snapshot.pods.clear();
    record(&mut world, "shared-0").empty_since = Some(NOW - Span::from_secs(100));
    assert_eq!(suspends(&world), ["shared-0", "dedicated-0"]);
    world.snapshot.health_checks.insert("workers".into(), health_check(2));
    assert_eq!(suspends(&world), ["shared-0"]);
    assert_eq!(need(&world, "dedicated-0"), Some("NodeHealthCheck"));
}

#[test]
fn a_suspend_is_proved_with_what_stays_and_the_failure_that_takes_most_with_it() {
    let mut world = empty();
    world.vm("second", "shared-0", 0.2);
    world.vm("third", "dedicated-1", 0.9);
    let proof = |world: &World| world.decide().1.proofs.remove(&NodeName::new("dedicated-0"));
    let proved = proof(&world).unwrap();
    assert_eq!((proved.awake, proved.spare, proved.failover), (2, 0, None), "no failure is to be looked at");
    world.policy().keep_awake_failures = 1;
    let failover = proof(&world).unwrap().failover.unwrap();
    assert_eq!((failover.tried, failover.vms, failover.worst), (2, 2, vec![NodeName::new("shared-0")]));
    assert_eq!((failover.awake, failover.homeless), (2, 0));
    // What fits nowhere now is said, and is no reason to stay awake.
    for name in ["shared-0", "dedicated-0", "dedicated-1"] {
        world.node_mut(name).allocatable.memory = Bytes::mib(1000);
    }
    let failover = proof(&world).unwrap().failover.unwrap();
    assert_eq!(failover.homeless, 2, "{failover:?}");
    // Nothing is proved of what does not happen.
    world.node_mut("dedicated-0").keep_awake = Some("a test".into());
    assert_eq!(proof(&world), None);
}
