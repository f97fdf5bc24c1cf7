//! What should not happen and does: each damage makes one thing of a cluster wrong.

use super::{Cluster, Dice, cluster::steady, workload};
use crate::model::{
    Bytes, ClassName, Cores, LoadHistory, Migration, MigrationMode, MigrationName, MigrationPhase, MilliCpu, MoveKind,
    Node, NodeName, Percent, PlanName, PlanPhase, PlanRecord, Pod, PodPhase, PolicyName, PowerState, Quota,
    RecordedStep, Resources, Scheduling, Selector, Span, SpreadConstraint, StepOutcome, Timestamp, Uid, Vm, VmMoves,
};
use std::{collections::BTreeMap, sync::Arc};

/// Breaks so many things, one by one.
pub(super) fn break_things(cluster: &mut Cluster, count: usize, dice: &mut Dice) {
    for _ in 0..count {
        break_one(cluster, dice);
    }
}

fn break_one(cluster: &mut Cluster, dice: &mut Dice) {
    match dice.below(24) {
        0 => vanish(cluster, dice),
        1 => with_vm(cluster, dice, |vm, _| vm.node = None),
        2 => with_vm(cluster, dice, |vm, _| vm.node = Some(NodeName::new("nowhere"))),
        3 => with_pod(cluster, dice, |pod, _| pod.phase = PodPhase::Finished),
        4 => with_pod(cluster, dice, |pod, _| (pod.node, pod.phase) = (None, PodPhase::Pending)),
        5 => load(cluster, dice),
        6 => migration(cluster, dice),
        7 => with_node(cluster, dice, |node, _| node.allocatable = Resources::default()),
        8 => with_node(cluster, dice, |node, _| {
            node.allocatable = Resources::new(MilliCpu(u64::MAX), Bytes(u64::MAX), u64::MAX);
        }),
        9 => with_vm(cluster, dice, |vm, dice| {
            (vm.vcpus, vm.memory) = (*dice.pick(&[0, u32::MAX]), Bytes(*dice.pick(&[0, u64::MAX])));
        }),
        10 => twin(cluster, dice),
        11 => thresholds(cluster, dice),
        12 => classes(cluster, dice),
        13 => history(cluster, dice),
        14 => with_vm(cluster, dice, |vm, _| {
            if let Some(last) = &mut vm.last_migration {
                (last.ended, last.started) = (Some(Timestamp::from_millis(i64::MAX)), None);
            }
        }),
        15 => with_vm(cluster, dice, |vm, dice| vm.target = Arc::new(junk_constraints(dice))),
        16 => quota(cluster, dice),
        17 => with_node(cluster, dice, |node, _| node.labels.clear()),
        18 => {
            let limits = [0, 1, u32::MAX];
            let kubevirt = &mut cluster.snapshot.kubevirt;
            (kubevirt.parallel_per_cluster, kubevirt.outbound_per_node) = (*dice.pick(&limits), *dice.pick(&limits));
        }
        19 => promise(cluster, dice),
        20 => with_node(cluster, dice, |node, dice| {
            let states = [
                PowerState::Awake,
                PowerState::Emptying,
                PowerState::Suspending,
                PowerState::Suspended,
                PowerState::Waking,
                PowerState::Quarantined,
            ];
            (node.power, node.ready) = (*dice.pick(&states), dice.percent(50));
        }),
        21 => {
            cluster.now = *dice.pick(&[
                Timestamp::from_secs(0),
                cluster.now + Span::from_secs(2),
                cluster.now - Span::from_secs(3600),
            ])
        }
        22 => budgets(cluster, dice),
        _ => with_vm(cluster, dice, |vm, dice| {
            vm.uid = Uid::new("the-same");
            vm.running = dice.percent(80);
        }),
    }
}

fn with_vm(cluster: &mut Cluster, dice: &mut Dice, change: impl FnOnce(&mut Vm, &mut Dice)) {
    let at = dice.below(cluster.snapshot.vms.len());
    if let Some(vm) = cluster.snapshot.vms.values_mut().nth(at) {
        change(vm, dice);
    }
}

fn with_pod(cluster: &mut Cluster, dice: &mut Dice, change: impl FnOnce(&mut Pod, &mut Dice)) {
    let at = dice.below(cluster.snapshot.pods.len());
    if let Some(pod) = cluster.snapshot.pods.values_mut().nth(at) {
        change(pod, dice);
    }
}

fn with_node(cluster: &mut Cluster, dice: &mut Dice, change: impl FnOnce(&mut Node, &mut Dice)) {
    let at = dice.below(cluster.snapshot.nodes.len());
    if let Some(node) = cluster.snapshot.nodes.values_mut().nth(at) {
        change(node, dice);
    }
}

/// A node is gone and nobody else knows yet.
fn vanish(cluster: &mut Cluster, dice: &mut Dice) {
    let name = cluster.snapshot.nodes.keys().nth(dice.below(cluster.snapshot.nodes.len())).cloned();
    if let Some(name) = name {
        cluster.snapshot.nodes.remove(&name);
    }
}

/// Samples are missing, old, ahead of time or absurd.
fn load(cluster: &mut Cluster, dice: &mut Dice) {
    let now = cluster.now;
    let at = match dice.below(3) {
        0 => now - Span::from_secs(5),
        1 => now + Span::from_secs(3600),
        _ => now,
    };
    let mut history = steady(at, *dice.pick(&[0.0, 1e9, f64::MAX]));
    if dice.percent(30) {
        history = LoadHistory::default();
        history.push(at, Span::from_secs(1), Cores::ZERO);
    }
    let table = &mut cluster.snapshot.load;
    let (of_nodes, of_vms) = (table.nodes.len(), table.vms.len());
    if dice.percent(50) {
        if let Some(known) = table.nodes.values_mut().nth(dice.below(of_nodes)) {
            *known = history;
        }
    } else if let Some(known) = table.vms.values_mut().nth(dice.below(of_vms)) {
        *known = history;
    }
}

/// A migration that contradicts the rest.
fn migration(cluster: &mut Cluster, dice: &mut Dice) {
    let snapshot = &mut cluster.snapshot;
    let vm = snapshot.vms.keys().nth(dice.below(snapshot.vms.len())).cloned();
    let Some(vm) = vm else { return };
    let mut ends = (0..2).map(|_| match dice.below(4) {
        0 => None,
        1 => Some(NodeName::new("nowhere")),
        _ => snapshot.nodes.keys().nth(dice.below(snapshot.nodes.len())).cloned(),
    });
    let (source, target) = (ends.next().flatten(), ends.next().flatten());
    let phases = [MigrationPhase::Pending, MigrationPhase::Running, MigrationPhase::Succeeded, MigrationPhase::Failed];
    let migration = Migration {
        name: MigrationName::new("team-0", format!("odd-{}", dice.below(5))),
        uid: Uid::new("odd"),
        vm: if dice.percent(20) { crate::model::VmKey::new("nobody", "knows") } else { vm },
        phase: *dice.pick(&phases),
        plan: dice.percent(50).then(|| PlanName::new("unknown")),
        system: dice.percent(30),
        source,
        target,
        mode: dice.percent(50).then_some(MigrationMode::PostCopy),
        created: Timestamp::default(),
        trouble: None,
        deleting: dice.percent(30),
    };
    snapshot.migrations.insert(migration.name.clone(), migration);
}

/// Two VMs that share more than they should: the name, in two namespaces, and the uid.
fn twin(cluster: &mut Cluster, dice: &mut Dice) {
    let vm = cluster.snapshot.vms.values().nth(dice.below(cluster.snapshot.vms.len())).cloned();
    if let Some(mut vm) = vm {
        vm.key.namespace = "twins".into();
        cluster.snapshot.vms.insert(vm.key.clone(), vm);
    }
}

fn with_policies(cluster: &mut Cluster, mut change: impl FnMut(&mut crate::model::Policy)) {
    cluster.policies.policies.values_mut().for_each(&mut change);
}

fn thresholds(cluster: &mut Cluster, dice: &mut Dice) {
    let mut odd = || Percent::new(*dice.pick(&[0.0, 50.0, 100.0, 1e6])).unwrap_or_default();
    let (overload, idle, admission) = (odd(), odd(), odd());
    let windows = [Span::ZERO, Span::from_secs(5), Span::MAX];
    let (overload_window, idle_window, settle) = (*dice.pick(&windows), *dice.pick(&windows), *dice.pick(&windows));
    let admission_window = *dice.pick(&windows);
    with_policies(cluster, |policy| {
        let thresholds = &mut policy.thresholds;
        (thresholds.overload, thresholds.idle, thresholds.admission) = (overload, idle, admission);
        (thresholds.overload_window, thresholds.idle_window) = (overload_window, idle_window);
        thresholds.settle = settle;
        thresholds.admission_window = admission_window;
    });
}

fn budgets(cluster: &mut Cluster, dice: &mut Dice) {
    let mut odd = || *dice.pick(&[0, 1, u32::MAX]);
    let (per_vm, concurrent, per_node, reserved, spare) = (odd(), odd(), odd(), odd(), odd());
    with_policies(cluster, |policy| {
        policy.budgets.moves_per_vm_per_day = per_vm;
        policy.budgets.concurrent = Some(concurrent);
        policy.budgets.concurrent_per_shared_node = per_node;
        policy.budgets.reserved_migrations = reserved;
        policy.budgets.moves_per_hour = Some(concurrent);
        (policy.spare_dedicated, policy.min_awake, policy.keep_awake_failures) = (spare, spare, spare);
    });
}

/// A class for all nodes, a policy for classes that are not there, or a second policy for the same classes.
fn classes(cluster: &mut Cluster, dice: &mut Dice) {
    let policies = &mut cluster.policies;
    match dice.below(3) {
        0 => {
            if let Some(mut class) = policies.classes.values().next().cloned() {
                (class.name, class.nodes) = (ClassName::new("everything"), Selector::default());
                policies.classes.insert(class.name.clone(), class);
            }
        }
        1 => with_policies(cluster, |policy| policy.classes.push(ClassName::new("nothing"))),
        _ => {
            if let Some(mut policy) = policies.policies.values().next().cloned() {
                policy.name = PolicyName::new("another");
                policy.priority = *dice.pick(&[i32::MIN, 0, i32::MAX]);
                policies.policies.insert(policy.name.clone(), policy);
            }
        }
    }
}

fn history(cluster: &mut Cluster, dice: &mut Dice) {
    let uid = cluster.snapshot.vms.values().nth(dice.below(cluster.snapshot.vms.len())).map(|vm| vm.uid.clone());
    let at = *dice.pick(&[Timestamp::from_millis(i64::MIN), cluster.now, Timestamp::from_millis(i64::MAX)]);
    if let Some(uid) = uid {
        let moves = VmMoves { moves: vec![at; 1000], failures: u32::MAX, last_failure: Some(at), ..VmMoves::default() };
        cluster.snapshot.history.vms.insert(uid, moves);
    }
}

fn quota(cluster: &mut Cluster, dice: &mut Dice) {
    let name = *dice.pick(&["pods", "requests.memory", "limits.cpu", "requests.devices.kubevirt.io/kvm", "services"]);
    let amount = |amount| BTreeMap::from([(name.to_owned(), amount)]);
    let (hard, used) = (amount(*dice.pick(&[0, u128::MAX])), amount(*dice.pick(&[0, u128::MAX])));
    let at = dice.below(cluster.snapshot.namespaces.len());
    if let Some(namespace) = cluster.snapshot.namespaces.values_mut().nth(at) {
        namespace.quotas.push(Quota { name: "odd".into(), hard, used });
    }
}

fn junk_constraints(dice: &mut Dice) -> Scheduling {
    let mut pod = Scheduling {
        requests: Resources::new(MilliCpu(u64::MAX), Bytes(u64::MAX), 1),
        spread: vec![SpreadConstraint {
            max_skew: 0,
            topology_key: String::new(),
            selector: Selector::default(),
            min_domains: Some(u32::MAX),
        }],
        host_ports: vec![("TCP".into(), 0), ("TCP".into(), 0)],
        ..Scheduling::default()
    };
    if dice.percent(50) {
        pod.requests.extended.insert(workload::taint("odd").key, u64::MAX);
    }
    pod
}

/// A plan that is being carried out and promises what can't be.
fn promise(cluster: &mut Cluster, dice: &mut Dice) {
    let snapshot = &mut cluster.snapshot;
    let vm = snapshot.vms.values().nth(dice.below(snapshot.vms.len()));
    let node = snapshot.nodes.keys().nth(dice.below(snapshot.nodes.len())).cloned();
    let (Some(vm), Some(policy)) = (vm, cluster.policies.policies.keys().next()) else { return };
    let nowhere = || NodeName::new("nowhere");
    let step = RecordedStep::Migrate {
        vm: vm.key.clone(),
        uid: vm.uid.clone(),
        source: vm.node.clone().unwrap_or_else(nowhere),
        target: node.unwrap_or_else(nowhere),
        mode: MigrationMode::PreCopy,
        migration: MigrationName::new(vm.key.namespace.as_str(), "promised"),
        reason: MoveKind::Idle,
        migration_uid: None,
        started: None,
        ended: None,
        outcome: *dice.pick(&[StepOutcome::Waiting, StepOutcome::Running, StepOutcome::Failed]),
        mode_ignored: false,
        taken_back: None,
        failure: None,
    };
    let record = PlanRecord {
        name: PlanName::new(format!("promise-{}", dice.below(5))),
        policy: policy.clone(),
        needs_approval: dice.percent(50),
        approved: dice.percent(50),
        decided: cluster.now,
        ended: None,
        expires: cluster.now + Span::from_secs(600),
        phase: *dice.pick(&[PlanPhase::Running, PlanPhase::Proposed, PlanPhase::Expired]),
        steps: vec![step],
        refusals: Vec::new(),
    };
    snapshot.plans.insert(record.name.clone(), record);
}
