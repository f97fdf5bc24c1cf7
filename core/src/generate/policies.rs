//! Policies and classes for a made-up cluster, and what troubles it as a whole.

use super::{Cluster, Dice};
use crate::model::{
    Budgets, Bytes, Capacity, ClassName, ClassSleep, DestinationOrder, Labels, Migration, MigrationChoice,
    MigrationMode, MigrationName, MigrationPhase, MilliCpu, Namespace, NodeClass, Percent, PlanName, PlanPhase,
    PlanRecord, Policies, Policy, PolicyMode, PolicyName, PostCopyUse, PowerFigures, Profile, Quota, Role, Selector,
    SleepRules, Span, Thresholds, Uid, VmActivity, VmSelector,
};
use std::collections::{BTreeMap, BTreeSet};

/// The pools of nodes that policies rule, each with a shared and a dedicated class.
const POOLS: [&str; 2] = ["blue", "green"];

/// The pools that have a policy.
pub(super) fn pools(policies: &Policies) -> Vec<&'static str> {
    POOLS.into_iter().filter(|pool| policies.policies.contains_key(&PolicyName::new(pool))).collect()
}

/// One or two policies, each with a pool of its own.
pub(super) fn policies(dice: &mut Dice) -> Policies {
    let mut policies = Policies::default();
    let count = if dice.percent(30) { 2 } else { 1 };
    for pool in POOLS.into_iter().take(count) {
        for (role, name) in [(Role::Shared, "shared"), (Role::Dedicated, "dedicated")] {
            let class = class(pool, role, name, dice);
            policies.classes.insert(class.name.clone(), class);
        }
        let policy = policy(pool, dice);
        policies.policies.insert(policy.name.clone(), policy);
    }
    policies
}

fn class(pool: &str, role: Role, name: &str, dice: &mut Dice) -> NodeClass {
    let requirements = [Selector::label("pool", pool), Selector::label("role", name)];
    NodeClass {
        name: ClassName::new(format!("{pool}-{name}")),
        nodes: Selector { requirements: requirements.into_iter().flat_map(|one| one.requirements).collect() },
        role,
        capacity: Capacity {
            cpu: dice.percent(20).then_some(MilliCpu(12_000)),
            memory: dice.percent(20).then_some(Bytes::gib(40)),
        },
        max_vms: dice.percent(30).then(|| u32::try_from(8 + dice.below(10)).unwrap_or(8)),
        sleeping_daemon_sets: BTreeSet::new(),
        sleeping_static_pods: BTreeSet::new(),
        passing_taints: BTreeSet::new(),
        power: PowerFigures::default(),
        meter: Default::default(),
        sleep: ClassSleep::default(),
        invalid: None,
    }
}

fn policy(pool: &str, dice: &mut Dice) -> Policy {
    let percent = |value| Percent::threshold(value).unwrap_or_default();
    Policy {
        name: PolicyName::new(pool),
        priority: 0,
        mode: *dice.pick(&[PolicyMode::Automatic, PolicyMode::Automatic, PolicyMode::Recommend]),
        classes: ["shared", "dedicated"].map(|role| ClassName::new(format!("{pool}-{role}"))).to_vec(),
        vms: VmSelector::default(),
        thresholds: Thresholds {
            admission: percent(dice.between(55.0, 85.0)),
            admission_window: *dice.pick(&[Span::from_secs(5), Span::from_secs(30 * 60)]),
            ..Thresholds::of(Profile::Reactive)
        },
        order: *dice.pick(&[DestinationOrder::MostDense, DestinationOrder::LeastDense, DestinationOrder::Random]),
        stay_within: if dice.percent(30) { vec!["topology.kubernetes.io/zone".into()] } else { Vec::new() },
        migration: *dice.pick(&[MigrationChoice::Auto, MigrationChoice::PostCopy, MigrationChoice::PreCopy]),
        post_copy: *dice.pick(&[PostCopyUse::Never, PostCopyUse::OptIn, PostCopyUse::Allow]),
        budgets: Budgets {
            moves_per_vm_per_day: 4,
            concurrent: dice.percent(20).then_some(2),
            concurrent_per_shared_node: if dice.percent(20) { 2 } else { 1 },
            reserved_migrations: 2,
            moves_per_hour: dice.percent(20).then_some(20),
        },
        spare_dedicated: u32::from(dice.percent(20)),
        sleep: SleepRules::of(Profile::Reactive),
        keep_awake_failures: u32::from(dice.percent(20)),
        keep_awake_per: "topology.kubernetes.io/zone".into(),
        min_awake: 2,
        plan_ttl: Span::from_secs(600),
        in_schedule: true,
        schedule_changes: None,
        waits_for: vec![],
        held: None,
        backup: None,
        invalid: None,
        rival: None,
        changed: crate::model::Timestamp::default(),
    }
}

/// Namespaces with quotas, limits of KubeVirt, migrations under way, and now and then a reason to stand still.
pub(super) fn trouble(cluster: &mut Cluster, dice: &mut Dice) {
    for team in 0..4 {
        let labels = Labels::from([("team".into(), team.to_string())]);
        let mut namespace = Namespace { labels, ..Namespace::default() };
        if dice.percent(20) {
            let pods = |units: u128| BTreeMap::from([("pods".to_owned(), units * 1000)]);
            let (hard, used) = (pods(100), pods(if dice.percent(50) { 100 } else { 60 }));
            namespace.quotas.push(Quota { name: "team".into(), hard, used });
        }
        cluster.snapshot.namespaces.insert(format!("team-{team}").as_str().into(), namespace);
    }
    let snapshot = &mut cluster.snapshot;
    snapshot.kubevirt.parallel_per_cluster = *dice.pick(&[5, 5, 8, 20]);
    if dice.percent(3) {
        snapshot.switches.paused = Some("by a person".into());
    }
    if dice.percent(3) {
        snapshot.switches.held = Some("by a person".into());
    }
    snapshot.evacuations_waiting = u32::from(dice.percent(3));
    snapshot.kubevirt.rolling_out = dice.percent(3);
    snapshot.incomplete = dice.percent(3).then(|| "pods are not synced".to_owned());
    for policy in cluster.policies.policies.values_mut() {
        policy.held = dice.percent(3).then(|| "a backup runs".to_owned());
        policy.rival = dice.percent(3).then(|| "descheduler".to_owned());
        policy.in_schedule = !dice.percent(3);
    }
    for _ in 0..dice.below(3) {
        add_migration(cluster, dice);
    }
}

/// A migration that is under way, ours or somebody else's.
fn add_migration(cluster: &mut Cluster, dice: &mut Dice) {
    let snapshot = &mut cluster.snapshot;
    let at = dice.below(snapshot.vms.len());
    let target = snapshot.nodes.keys().nth(dice.below(snapshot.nodes.len())).cloned();
    let Some(vm) = snapshot.vms.values_mut().nth(at).filter(|vm| vm.node != target && vm.activity.is_none()) else {
        return;
    };
    vm.activity = Some(VmActivity::Migrating);
    let phase = *dice.pick(&[MigrationPhase::Pending, MigrationPhase::Preparing, MigrationPhase::Running]);
    let plan = dice.percent(50).then(|| PlanName::new(format!("plan-{}", vm.key.name)));
    if let (Some(plan), Some(policy)) = (&plan, cluster.policies.policies.keys().next()) {
        let record = PlanRecord {
            name: plan.clone(),
            policy: policy.clone(),
            needs_approval: false,
            approved: false,
            decided: cluster.now,
            ended: None,
            expires: cluster.now + Span::from_secs(600),
            phase: PlanPhase::Running,
            steps: Vec::new(),
            refusals: Vec::new(),
        };
        snapshot.plans.insert(plan.clone(), record);
    }
    let migration = Migration {
        name: MigrationName::new(vm.key.namespace.as_str(), format!("migration-{}", vm.key.name)),
        uid: Uid::new(format!("migration-{}", vm.uid)),
        vm: vm.key.clone(),
        phase,
        plan,
        system: false,
        source: vm.node.clone(),
        target,
        mode: (phase == MigrationPhase::Running)
            .then(|| *dice.pick(&[MigrationMode::PreCopy, MigrationMode::PostCopy])),
        created: cluster.now - Span::from_secs(10),
        trouble: None,
        deleting: false,
    };
    snapshot.migrations.insert(migration.name.clone(), migration);
}
