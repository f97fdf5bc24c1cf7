//! Planners that are wrong in one way each, and the checker that catches them.
//!
//! Most mutants are the real planner looking at a cluster in which it can't see one thing (a *blind* planner: it
//! ignores memory, settle times, taints, …). The others are its plan, bent as a slip in its code would bend it. A mutant
//! counts as caught when its plan for some made-up cluster breaks the rule it ignores; the honest planner's plans for
//! the same clusters break none.

mod suspends;

use miyako_core::{
    check::{Rule, check},
    generate::{Cluster, Shape},
    model::{
        Bytes, MigrateStep, MigrationPhase, MilliCpu, NodeName, Plan, PolicyName, PostCopyUse, PowerState, Span, Step,
        SuspendReason, SuspendStep, Uid,
    },
    plan::decide,
};
use std::sync::Arc;

/// One way of being wrong.
enum Slip {
    /// The planner does not see something.
    Blind(fn(&mut Cluster)),
    /// The planner's plan comes out otherwise.
    Bent(fn(&Cluster, &mut Plan)),
}

use Slip::{Bent, Blind};

const MUTANTS: &[(&str, Rule, Slip)] = &[
    ("ignores memory", Rule::Placement, Blind(|seen| each_node(seen, |node| node.allocatable.memory = Bytes(1 << 60)))),
    ("ignores taints", Rule::Placement, Blind(|seen| each_node(seen, |node| node.taints.clear()))),
    ("ignores cordons", Rule::Placement, Blind(|seen| each_node(seen, |node| node.unschedulable = false))),
    ("ignores maintenance", Rule::Placement, Blind(|seen| each_node(seen, |node| node.maintenance = None))),
    ("takes virt-handler for ready", Rule::Placement, Blind(trust_virt_handlers)),
    ("moves to a sleeping node", Rule::Placement, Blind(wake_all)),
    (
        "ignores quotas",
        Rule::Placement,
        Blind(|seen| {
            seen.snapshot.namespaces.values_mut().for_each(|namespace| namespace.quotas.clear());
        }),
    ),
    ("ignores pod constraints", Rule::Placement, Blind(forget_constraints)),
    ("ignores what it does not understand", Rule::Placement, Blind(|seen| each_vm(seen, |vm| vm.unsupported = None))),
    ("leaves the zone", Rule::Placement, Blind(|seen| each_policy(seen, |policy| policy.stay_within.clear()))),
    (
        "ignores the class's number of VMs",
        Rule::Placement,
        Blind(|seen| {
            seen.policies.classes.values_mut().for_each(|class| class.max_vms = None);
        }),
    ),
    (
        "fills shared nodes to the brim",
        Rule::Placement,
        Blind(|seen| {
            each_policy(seen, |policy| policy.thresholds.admission = policy.thresholds.overload);
        }),
    ),
    (
        "fills shared nodes in a quiet moment",
        Rule::Placement,
        Blind(|seen| {
            each_policy(seen, |policy| policy.thresholds.admission_window = Span::from_secs(5));
        }),
    ),
    (
        "brings VMs back with their last move",
        Rule::Movable,
        Blind(|seen| {
            each_policy(seen, |policy| policy.budgets.moves_per_vm_per_day += 1);
        }),
    ),
    ("moves what is not migratable", Rule::Movable, Blind(|seen| each_vm(seen, |vm| vm.not_migratable = None))),
    ("moves what is busy", Rule::Movable, Blind(|seen| each_vm(seen, |vm| vm.activity = None))),
    ("ignores opt-outs", Rule::Movable, Blind(|seen| each_vm(seen, |vm| vm.marks.never_consolidate = false))),
    ("ignores host devices", Rule::Movable, Blind(|seen| each_vm(seen, |vm| vm.host_device = false))),
    ("ignores the settle time", Rule::Movable, Blind(|seen| each_vm(seen, |vm| vm.last_migration = None))),
    ("forgets its history", Rule::Movable, Blind(|seen| seen.snapshot.history.vms.clear())),
    ("ignores KubeVirt's slots", Rule::Reserve, Blind(|seen| seen.snapshot.kubevirt.parallel_per_cluster = 100)),
    (
        "ignores its own limit",
        Rule::Reserve,
        Blind(|seen| each_policy(seen, |policy| policy.budgets.concurrent = None)),
    ),
    ("overtakes evacuations", Rule::Reserve, Blind(|seen| seen.snapshot.evacuations_waiting = 0)),
    (
        "counts dedicated cores double",
        Rule::DedicatedCores,
        Blind(|seen| {
            each_node(seen, |node| node.allocatable.cpu = MilliCpu(node.allocatable.cpu.0 * 2));
        }),
    ),
    (
        "moves twice per shared node",
        Rule::NodeTraffic,
        Blind(|seen| {
            each_policy(seen, |policy| policy.budgets.concurrent_per_shared_node += 1);
        }),
    ),
    ("does not see migrations under way", Rule::NodeTraffic, Blind(|seen| seen.snapshot.migrations.clear())),
    (
        "uses post-copy without leave",
        Rule::PostCopy,
        Blind(|seen| {
            each_policy(seen, |policy| policy.post_copy = PostCopyUse::Allow);
        }),
    ),
    ("acts on stale samples", Rule::Knowledge, Blind(|seen| seen.now = seen.now - Span::from_secs(5))),
    ("acts on half a picture", Rule::Knowledge, Blind(|seen| seen.snapshot.incomplete = None)),
    ("ignores the pause", Rule::Standstill, Blind(|seen| seen.snapshot.switches = Default::default())),
    ("ignores rollouts", Rule::Standstill, Blind(|seen| seen.snapshot.kubevirt.rolling_out = false)),
    ("ignores rivals", Rule::Standstill, Blind(|seen| each_policy(seen, |policy| policy.rival = None))),
    ("ignores schedules", Rule::Standstill, Blind(|seen| each_policy(seen, |policy| policy.in_schedule = true))),
    ("takes another policy's nodes", Rule::Declared, Blind(one_policy_for_all)),
    (
        "sees overload too early",
        Rule::Declared,
        Blind(|seen| {
            each_policy(seen, |policy| policy.thresholds.overload = policy.thresholds.admission);
        }),
    ),
    (
        "wakes what does not wake",
        Rule::Pending,
        Bent(|_, plan| {
            for step in &mut plan.steps {
                if let Step::Wake(step) = step {
                    step.node = NodeName::new("quarantined");
                }
            }
        }),
    ),
    (
        "mixes up source and target",
        Rule::Movable,
        Bent(|_, plan| {
            each_move(plan, |step| std::mem::swap(&mut step.source, &mut step.target));
        }),
    ),
    ("stays where it is", Rule::Placement, Bent(|_, plan| each_move(plan, |step| step.target = step.source.clone()))),
    ("moves a VM twice", Rule::Movable, Bent(|_, plan| plan.steps.extend_from_within(..))),
    (
        "takes one VM for another",
        Rule::Movable,
        Bent(|_, plan| {
            each_move(plan, |step| step.uid = Uid::new("of the one before"));
        }),
    ),
    ("moves to the next node in line", Rule::Declared, Bent(next_in_line)),
    ("suspends what it just emptied", Rule::Suspendable, Bent(suspend_sources)),
    ("aborts whatever runs", Rule::PostCopy, Bent(abort_all)),
];

fn each_node(cluster: &mut Cluster, change: impl FnMut(&mut miyako_core::model::Node)) {
    cluster.snapshot.nodes.values_mut().for_each(change);
}

fn each_vm(cluster: &mut Cluster, change: impl FnMut(&mut miyako_core::model::Vm)) {
    cluster.snapshot.vms.values_mut().for_each(change);
}

fn each_policy(cluster: &mut Cluster, change: impl FnMut(&mut miyako_core::model::Policy)) {
    cluster.policies.policies.values_mut().for_each(change);
}

fn each_move(plan: &mut Plan, mut change: impl FnMut(&mut MigrateStep)) {
    for step in &mut plan.steps {
        if let Step::Migrate(step) = step {
            change(step);
        }
    }
}

fn wake_all(seen: &mut Cluster) {
    each_node(seen, |node| {
        (node.power, node.ready) = (PowerState::Awake, true);
        node.taints.retain(|taint| !taint.key.starts_with("miyako.dev/"));
    });
    // It also believes that they idle.
    seen.pass(Span::ZERO);
}

fn trust_virt_handlers(seen: &mut Cluster) {
    each_node(seen, |node| node.virt_handler_ready = true);
    // It also believes that they are measured.
    seen.pass(Span::ZERO);
}

fn forget_constraints(seen: &mut Cluster) {
    each_vm(seen, |vm| {
        let mut target = (*vm.target).clone();
        target.node_selector.clear();
        target.node_affinity = None;
        (target.affinity, target.anti_affinity, target.spread) = Default::default();
        (target.volume_topology, target.host_ports) = Default::default();
        vm.target = Arc::new(target);
    });
}

fn one_policy_for_all(seen: &mut Cluster) {
    let classes = seen.policies.classes.keys().cloned().collect();
    if let Some(policy) = seen.policies.policies.get_mut(&PolicyName::new("blue")) {
        (policy.priority, policy.classes) = (1, classes);
    }
}

fn next_in_line(cluster: &Cluster, plan: &mut Plan) {
    let nodes = &cluster.snapshot.nodes;
    each_move(plan, |step| {
        let next = nodes.keys().rev().find(|name| **name < step.target).or_else(|| nodes.keys().next());
        step.target = next.cloned().unwrap_or_else(|| step.target.clone());
    });
}

fn suspend_sources(_: &Cluster, plan: &mut Plan) {
    let emptied: Vec<_> = plan
        .migrations()
        .map(|step| {
            Step::Suspend(SuspendStep {
                policy: step.policy.clone(),
                node: step.source.clone(),
                reason: SuspendReason::Empty,
            })
        })
        .collect();
    plan.steps.extend(emptied);
}

fn abort_all(cluster: &Cluster, plan: &mut Plan) {
    let running = cluster.snapshot.migrations.values().filter(|known| known.phase == MigrationPhase::Running);
    plan.steps.extend(running.map(|known| Step::Abort {
        migration: known.name.clone(),
        uid: known.uid.clone(),
        reason: "it takes long".into(),
    }));
}

const CLUSTERS: u64 = 400;

/// Clusters in which there is something to ignore: the usual ones, with a node that does not wake, and with samples
/// that are too old in some of them.
fn cluster(seed: u64) -> Cluster {
    let mut cluster = Cluster::generate(&Shape::SMALL, seed);
    let asleep = cluster.snapshot.nodes.values().find(|node| node.power == PowerState::Suspended).cloned();
    if let Some(mut node) = asleep {
        (node.name, node.power) = (NodeName::new("quarantined"), PowerState::Quarantined);
        cluster.snapshot.nodes.insert(node.name.clone(), node);
    }
    if seed.is_multiple_of(10) {
        cluster.now = cluster.now + Span::from_secs(5);
    }
    cluster
}

/// The mutants that no cluster shows to be wrong.
fn escaped(mutants: &[(&'static str, Rule, Slip)], cluster: fn(u64) -> Cluster) -> Vec<&'static str> {
    let clusters: Vec<_> = (0..CLUSTERS).map(cluster).collect();
    let is_caught = |rule: Rule, slip: &Slip| {
        (0..).zip(&clusters).any(|(seed, cluster)| {
            let plan = match slip {
                Blind(hide) => {
                    let mut seen = cluster.clone();
                    hide(&mut seen);
                    decide(&seen.snapshot, &seen.policies, seen.now, seed).0
                }
                Bent(bend) => {
                    let (mut plan, _) = decide(&cluster.snapshot, &cluster.policies, cluster.now, seed);
                    bend(cluster, &mut plan);
                    plan
                }
            };
            let violations = check(&cluster.snapshot, &cluster.policies, &plan, cluster.now);
            violations.iter().any(|violation| violation.rule() == rule)
        })
    };
    mutants.iter().filter(|(_, rule, slip)| !is_caught(*rule, slip)).map(|(name, ..)| *name).collect()
}

#[test]
fn the_honest_planner_breaks_no_rule_on_these_clusters() {
    for (cluster, kind) in [(cluster as fn(u64) -> Cluster, "busy"), (Cluster::night, "quiet")] {
        for seed in 0..CLUSTERS {
            let Cluster { snapshot, policies, now } = cluster(seed);
            let (plan, _) = decide(&snapshot, &policies, now, seed);
            assert_eq!(check(&snapshot, &policies, &plan, now), [], "{kind}, seed {seed}");
        }
    }
}

#[test]
fn every_mutant_is_caught_by_the_rule_it_ignores() {
    assert_eq!(escaped(MUTANTS, cluster), Vec::<&str>::new(), "these mutants were never caught");
}

#[test]
fn every_mutant_that_suspends_wrongly_is_caught_by_the_rule_it_ignores() {
    assert_eq!(escaped(suspends::SUSPENDS, Cluster::night), Vec::<&str>::new(), "these mutants were never caught");
}
