//! Rules 3, 4 and 9: suspends, wakes and what is kept in reserve.

use super::*;
use crate::model::Restless;

/// The node failed to sleep a few times in a row.
fn restless(case: &mut Case, until: Option<Timestamp>) {
    let restless = Restless { times: 3, until, why: "interrupt 9, acpi".into() };
    case.snapshot.powers.entry(NodeName::new("d4")).or_default().restless = Some(restless);
}

fn static_pod(manifest: &str) -> PodOwner {
    PodOwner::Static { manifest: manifest.into(), control_plane: false }
}

#[test]
fn rule_3_a_node_that_somebody_needs_stays_awake() {
    refused_for(
        Rule::Suspendable,
        Case::good_night,
        &[
            ("no such node", |case| case.plan.steps = vec![suspend_step("gone")]),
            ("a VM", |case| case.add_vm("late", "d4", 1, 0.1)),
            ("an ordinary pod", |case| {
                case.add_pod("web", Some("d4"), PodOwner::Other);
            }),
            ("an unknown DaemonSet", |case| {
                case.add_pod("x", Some("d4"), PodOwner::DaemonSet("my-agent".into()));
            }),
            ("a storage data plane, even if listed", |case| {
                case.class("dedicated").sleeping_daemon_sets.insert("default/longhorn-manager".into());
                case.add_pod("x", Some("d4"), PodOwner::DaemonSet("longhorn-manager".into()));
            }),
            ("an attached volume", |case| case.node("d4").attached_volumes.push("pvc-1".into())),
            ("a migration comes", |case| {
                case.add_migration("other", "s1", "d4", MigrationPhase::Pending);
            }),
            ("control plane", |case| case.node("d4").control_plane = Some("label".into())),
            ("a part of the control plane, even if listed", |case| {
                case.class("dedicated").sleeping_static_pods.insert("default/etcd".into());
                case.add_pod("etcd-d4", Some("d4"), PodOwner::Static { manifest: "etcd".into(), control_plane: true });
            }),
            ("an unknown static pod", |case| {
                case.add_pod("x-d4", Some("d4"), static_pod("x"));
            }),
            ("a static pod of a storage data plane, even if listed", |case| {
                case.class("dedicated").sleeping_static_pods.insert("default/ceph-mon".into());
                case.add_pod("ceph-mon-d4", Some("d4"), static_pod("ceph-mon"));
            }),
            ("a gateway", |case| case.node("d4").gateway = Some("label egress-node".into())),
            ("kept awake", |case| case.node("d4").keep_awake = Some("licence server".into())),
            ("no way to wake it", |case| case.class("dedicated").sleep.can_be_woken = false),
            ("no way to wake it, for a test either", |case| {
                case.class("dedicated").sleep.can_be_woken = false;
                case.node("d4").wake_tested = None;
                for step in &mut case.plan.steps {
                    let Step::Suspend(step) = step else { continue };
                    step.reason = SuspendReason::WakeTest;
                }
            }),
            ("a way to wake it leads nowhere", |case| {
                let needs = WakeAddress { labels: ["mac".to_owned()].into(), is_mac: true, wrong: None };
                let way = WakeWay { driver: "wol".into(), address: needs, ..WakeWay::default() };
                case.class("dedicated").sleep.ways.push(way);
            }),
            ("no wake test", |case| case.node("d4").wake_tested = None),
            ("an old wake test", |case| case.class("dedicated").sleep.wake_tests.every = Span::from_secs(0)),
            ("cordoned", |case| case.node("d4").unschedulable = true),
            ("maintenance", |case| case.node("d4").maintenance = Some("upgrade".into())),
            ("it will not stay asleep", |case| restless(case, Some(Timestamp::from_secs(2_000_000_000)))),
            ("not ready", |case| case.node("d4").ready = false),
            ("a foreign taint", |case| {
                let taint = Taint { key: "theirs".into(), value: String::new(), effect: TaintEffect::NoSchedule };
                case.node("d4").taints.push(taint);
            }),
            ("this plan wakes it", |case| case.plan.steps.insert(0, wake_step("d4"))),
        ],
    );
    allowed(
        Case::good_night,
        &[
            ("a test of what was never tested", |case| {
                case.node("d4").wake_tested = None;
                for step in &mut case.plan.steps {
                    let Step::Suspend(step) = step else { continue };
                    step.reason = SuspendReason::WakeTest;
                }
            }),
            ("our own taint", |case| {
                let taint =
                    Taint { key: "miyako.dev/emptying".into(), value: String::new(), effect: TaintEffect::NoSchedule };
                case.node("d4").taints.push(taint);
                case.node("d4").power = PowerState::Emptying;
            }),
            ("it would not stay asleep, and is to be tried again", |case| restless(case, None)),
            ("pods that sleep along", |case| {
                case.class("dedicated").sleeping_daemon_sets.insert("default/my-agent".into());
                case.add_pod("a", Some("d4"), PodOwner::DaemonSet("my-agent".into()));
                case.add_pod("b", Some("d4"), PodOwner::DaemonSet("monitoring-prometheus-node-exporter".into()));
                case.add_pod("c", Some("d4"), PodOwner::DaemonSet("virt-handler".into()));
                case.class("dedicated").sleeping_static_pods.insert("default/my-proxy".into());
                case.add_pod("d", Some("d4"), static_pod("my-proxy"));
                case.add_pod("f", Some("d4"), static_pod("nginx-proxy"));
                case.add_pod("e", Some("d4"), PodOwner::Other).phase = PodPhase::Finished;
            }),
        ],
    );
}

#[test]
fn rule_4_reserves_and_budgets_are_kept() {
    refused_for(
        Rule::Reserve,
        Case::good_night,
        &[
            ("awake nodes", |case| case.policy().min_awake = 5),
            ("spare nodes", |case| case.policy().spare_dedicated = 2),
            ("failover", |case| {
                case.policy().keep_awake_failures = 1;
                for (name, gib) in [("s2", 3), ("d1", 5), ("d2", 5)] {
                    case.node(name).allocatable.memory = Bytes::gib(gib);
                }
            }),
            ("failover of two", |case| {
                case.policy().keep_awake_failures = 2;
                for name in ["s2", "d2"] {
                    case.node(name).allocatable.memory = Bytes::gib(5);
                }
            }),
        ],
    );
    allowed(
        Case::good_night,
        &[
            ("awake nodes", |case| case.policy().min_awake = 4),
            ("spare nodes", |case| case.policy().spare_dedicated = 1),
            ("failover", |case| case.policy().keep_awake_failures = 1),
            ("what never fitted is not this plan's fault", |case| {
                case.policy().keep_awake_failures = 1;
                for name in ["s2", "d1", "d2", "d4"] {
                    case.node(name).allocatable.memory = Bytes::gib(3);
                }
            }),
        ],
    );
    refused_for(
        Rule::Reserve,
        Case::good,
        &[
            ("KubeVirt's slots", |case| case.snapshot.kubevirt.parallel_per_cluster = 3),
            ("the policy's own limit", |case| case.policy().budgets.concurrent = Some(1)),
            ("moves per hour", |case| case.policy().budgets.moves_per_hour = Some(1)),
            ("an evacuation waits", |case| case.snapshot.evacuations_waiting = 1),
        ],
    );
}

#[test]
fn rule_9_what_is_pending_gets_its_node() {
    fn waiting_for_d4(case: &mut Case) {
        let pod = case.add_pod("pending", None, PodOwner::Other);
        let mut only_d4 = Scheduling::default();
        only_d4.node_selector.insert("kubernetes.io/hostname".into(), "d4".into());
        (pod.phase, pod.scheduling) = (PodPhase::Pending, Arc::new(only_d4));
    }
    refused_for(Rule::Pending, Case::good_night, &[("only d4 would do", waiting_for_d4)]);
    allowed(
        Case::good_night,
        &[
            ("any node would do", |case| {
                case.add_pod("pending", None, PodOwner::Other).phase = PodPhase::Pending;
            }),
            ("a DaemonSet's pod is for d4", |case| {
                waiting_for_d4(case);
                let pod = case.snapshot.pods.values_mut().find(|pod| pod.node.is_none());
                pod.expect("it was added").owner = PodOwner::DaemonSet("node-exporter".into());
            }),
        ],
    );
    fn waking() -> Case {
        let mut case = Case::good();
        case.plan.steps = vec![wake_step("d3")];
        case
    }
    refused_for(
        Rule::Pending,
        waking,
        &[
            ("quarantined", |case| case.node("d3").power = PowerState::Quarantined),
            ("no such node", |case| case.plan.steps = vec![wake_step("gone")]),
        ],
    );
    allowed(
        waking,
        &[
            ("held", |case| case.snapshot.switches.held = Some("upgrade".into())),
            ("incomplete", |case| case.snapshot.incomplete = Some("pods not synced".into())),
        ],
    );
}

#[test]
fn rule_4_a_health_check_that_counts_sleepers_can_still_repair_a_node() {
    let check = |repairs| HealthCheck { nodes: Selector::default(), repairs };
    // Six nodes, of which d3 sleeps and d4 is to.
    let verdict = |repairs: RepairsWhile, change: fn(&mut HealthCheck)| {
        let mut case = Case::good_night();
        let mut check = check(repairs);
        change(&mut check);
        case.snapshot.health_checks.insert("workers".into(), check);
        case.violations().iter().map(|violation| violation.rule()).collect::<Vec<_>>()
    };
    let keep: fn(&mut HealthCheck) = |_| {};
    assert_eq!(verdict(RepairsWhile::Unhealthy(Share::Count(3)), keep), []);
    assert_eq!(verdict(RepairsWhile::Unhealthy(Share::Count(2)), keep), [Rule::Reserve], "none is left to fail");
    let mut case = Case::good_night();
    case.snapshot.health_checks.insert("workers".into(), check(RepairsWhile::Unhealthy(Share::Count(2))));
    let causes: Vec<_> = case.violations().into_iter().map(|violation| violation.cause).collect();
    let cause = Cause::HealthCheck { check: "workers".into(), unhealthy: 2, total: 6, most_asleep: 1 };
    assert_eq!(causes, [cause]);
    assert_eq!(verdict(RepairsWhile::Healthy(Share::Percent(50)), keep), []);
    assert_eq!(verdict(RepairsWhile::Healthy(Share::Percent(51)), keep), [Rule::Reserve]);
    let leaves_sleepers_out: fn(&mut HealthCheck) = |check| {
        let values = vec!["asleep".to_owned()];
        let power = Requirement { key: "miyako.dev/power".into(), operator: Operator::NotIn, values };
        check.nodes = Selector { requirements: vec![power] };
    };
    assert_eq!(verdict(RepairsWhile::Healthy(Share::Percent(100)), leaves_sleepers_out), []);
    let elsewhere: fn(&mut HealthCheck) = |check| check.nodes = Selector::label("class", "shared");
    assert_eq!(verdict(RepairsWhile::Healthy(Share::Percent(100)), elsewhere), []);
}
