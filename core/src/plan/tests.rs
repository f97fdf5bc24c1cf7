//! Decision tests: a small cluster in, the intended steps and reasons out.

mod blockers;
mod proposals;
mod returning;
mod sleeping;
mod taken_back;

use super::*;
use crate::carry::{Deed, Next, Pass, StepState, carry, stray_labels};
use crate::model::*;
use std::sync::Arc;

const NOW: Timestamp = Timestamp::from_secs(100_000);

struct World {
    snapshot: Snapshot,
    policies: Policies,
}

impl World {
    /// One shared node of two cores and two dedicated ones, as in Reactive Cloud's testbed, ruled automatically.
    fn new() -> Self {
        let mut world = Self { snapshot: Snapshot::default(), policies: Policies::default() };
        for (class, role) in [("shared", Role::Shared), ("dedicated", Role::Dedicated)] {
            let class = ClassName::new(class);
            world.policies.classes.insert(
                class.clone(),
                NodeClass {
                    nodes: Selector::label("class", class.as_str()),
                    name: class,
                    role,
                    capacity: Capacity::default(),
                    max_vms: None,
                    sleeping_daemon_sets: Default::default(),
                    sleeping_static_pods: Default::default(),
                    passing_taints: Default::default(),
                    power: PowerFigures::default(),
                    meter: Default::default(),
                    sleep: ClassSleep::default(),
                    invalid: None,
                },
            );
        }
        let policy = Policy {
            name: PolicyName::new("pack"),
            priority: 0,
            mode: PolicyMode::Automatic,
            classes: vec!["shared".into(), "dedicated".into()],
            vms: VmSelector::default(),
            // What is measured here is a minute long.
            thresholds: Thresholds { admission_window: Span::from_secs(5), ..Thresholds::of(Profile::Reactive) },
            order: DestinationOrder::MostDense,
            stay_within: vec![],
            migration: MigrationChoice::Auto,
            post_copy: PostCopyUse::Allow,
            budgets: Budgets {
                moves_per_vm_per_day: 10,
                concurrent: None,
                concurrent_per_shared_node: 1,
                reserved_migrations: 2,
                moves_per_hour: None,
            },
            spare_dedicated: 0,
            sleep: SleepRules::of(Profile::Reactive),
            keep_awake_failures: 0,
            keep_awake_per: String::new(),
            min_awake: 0,
            plan_ttl: Span::from_secs(3600),
            in_schedule: true,
            schedule_changes: None,
            waits_for: vec![],
            held: None,
            backup: None,
            invalid: None,
            rival: None,
            changed: Timestamp::default(),
        };
        world.policies.policies.insert(policy.name.clone(), policy);
        world.node("shared-0", "shared", 2);
        world.node("dedicated-0", "dedicated", 2);
        world.node("dedicated-1", "dedicated", 4);
        world
    }

    fn policy(&mut self) -> &mut Policy {
        self.policies.policies.get_mut(&PolicyName::new("pack")).unwrap()
    }

    fn node(&mut self, name: &str, class: &str, cores: u64) {
        let mut node = Node::new(name, Resources::new(MilliCpu(cores * 1000), Bytes::gib(64), 110));
        node.labels.insert("class".into(), class.into());
        self.snapshot.nodes.insert(node.name.clone(), node);
        self.node_load(name, 0.0);
    }

    fn node_mut(&mut self, name: &str) -> &mut Node {
        self.snapshot.nodes.get_mut(&NodeName::new(name)).unwrap()
    }

    fn history(cores: f64) -> LoadHistory {
        let mut history = LoadHistory::default();
        for second in 0..60 {
            history.push(NOW - Span::from_secs(59 - second), Span::from_secs(1), Cores::new(cores).unwrap());
        }
        history
    }

    fn node_load(&mut self, node: &str, cores: f64) {
        self.snapshot.load.nodes.insert(NodeName::new(node), Self::history(cores));
    }

    /// A VM of one vCPU and 1.7 GB on a node, using so many cores; the node's load grows with it.
    fn vm(&mut self, name: &str, node: &str, cores: f64) -> VmKey {
        let key = VmKey::new("vms", name);
        let uid = Uid::new(format!("uid-{name}"));
        let scheduling = Arc::new(Scheduling {
            requests: Resources::new(MilliCpu(100), Bytes::mib(1969), 1),
            ..Scheduling::default()
        });
        self.snapshot.vms.insert(
            key.clone(),
            Vm {
                key: key.clone(),
                uid: uid.clone(),
                labels: Labels::new(),
                node: Some(NodeName::new(node)),
                running: true,
                vcpus: 1,
                memory: Bytes::mib(1700),
                not_migratable: None,
                activity: None,
                host_device: false,
                marks: Marks::default(),
                last_migration: None,
                target: scheduling.clone(),
                unsupported: None,
                launcher_labels: Labels::new(),
                mode_label: None,
                user_migration_policy: None,
                equal_migration_policies: Vec::new(),
            },
        );
        let pod = PodKey::new("vms", format!("virt-launcher-{name}"));
        self.snapshot.pods.insert(
            pod.clone(),
            Pod {
                key: pod,
                uid: Uid::new(format!("pod-{name}")),
                node: Some(NodeName::new(node)),
                phase: PodPhase::Running,
                terminating: false,
                labels: Labels::new(),
                owner: PodOwner::Vm { vm: key.clone(), uid, target_of: None },
                unschedulable: false,
                ready: true,
                scheduling,
            },
        );
        self.snapshot.load.vms.insert(key.clone(), Self::history(cores));
        let before = self.snapshot.load.nodes[&NodeName::new(node)].latest().unwrap_or_default();
        self.node_load(node, before.value() + cores);
        key
    }

    fn vm_mut(&mut self, name: &str) -> &mut Vm {
        self.snapshot.vms.get_mut(&VmKey::new("vms", name)).unwrap()
    }

    fn moved_at(&mut self, name: &str, source: &str, ended: Timestamp) {
        let vm = self.vm_mut(name);
        vm.last_migration = Some(LastMigration {
            uid: Uid::new("m1"),
            source: Some(source.into()),
            target: vm.node.clone(),
            started: Some(ended - Span::from_secs(5)),
            ended: Some(ended),
            completed: true,
            failed: false,
            failure: None,
            mode: Some(MigrationMode::PreCopy),
            policy: AppliedPolicy::Ours(MigrationMode::PreCopy),
        });
    }

    fn migration(&mut self, vm: &str, source: &str, target: &str, plan: Option<&str>) {
        let name = MigrationName::new("vms", format!("m-{vm}"));
        self.snapshot.migrations.insert(
            name.clone(),
            Migration {
                name,
                uid: Uid::new(format!("m-{vm}")),
                vm: VmKey::new("vms", vm),
                phase: MigrationPhase::Running,
                plan: plan.map(PlanName::new),
                system: false,
                source: Some(source.into()),
                target: Some(target.into()),
                mode: None,
                created: NOW,
                trouble: None,
                deleting: false,
            },
        );
    }

    fn decide(&self) -> (Plan, Report) {
        decide(&self.snapshot, &self.policies, NOW, 1)
    }

    /// The moves as `vm: source -> target mode`.
    fn moves(&self) -> Vec<String> {
        let show = |step: &MigrateStep| format!("{}: {} -> {} {:?}", step.vm.name, step.source, step.target, step.mode);
        self.decide().0.migrations().map(show).collect()
    }

    fn stays(&self, vm: &str) -> String {
        match &self.decide().1.vms.get(&VmKey::new("vms", vm)).unwrap().verdict {
            VmVerdict::Stays { reason } => reason.name().to_owned(),
            other => format!("{other:?}"),
        }
    }
}

#[test]
fn the_busiest_vm_leaves_an_overloaded_shared_node_by_post_copy() {
    let mut world = World::new();
    world.vm("calm", "shared-0", 0.4);
    world.vm("busy", "shared-0", 0.95);
    world.vm("other", "shared-0", 0.5);
    // The fewest empty cores that still suffice: dedicated-0 has two, dedicated-1 four.
    assert_eq!(world.moves(), ["busy: shared-0 -> dedicated-0 PostCopy"]);
    assert_eq!(world.stays("calm"), "NotFirst");
    // 1.75 of 2 cores are 87.5 %.
    world.node_load("shared-0", 1.75);
    assert_eq!(world.moves(), [""; 0]);
    assert_eq!(world.stays("busy"), "NodeCalm");
}

#[test]
fn the_node_with_the_fewest_empty_cores_that_suffice_comes_first() {
    let mut world = World::new();
    world.vm("busy", "shared-0", 1.9);
    world.vm("a", "dedicated-1", 0.9);
    world.vm("b", "dedicated-1", 0.9);
    world.vm("c", "dedicated-1", 0.9);
    assert_eq!(world.moves(), ["busy: shared-0 -> dedicated-1 PostCopy"]);
    world.vm_mut("busy").vcpus = 2;
    assert_eq!(world.moves(), ["busy: shared-0 -> dedicated-0 PostCopy"]);
    world.vm_mut("busy").vcpus = 3;
    assert_eq!(world.stays("busy"), "NoRoom");
    world.vm_mut("busy").vcpus = 2;
    world.policy().order = DestinationOrder::LeastDense;
    assert_eq!(world.moves(), ["busy: shared-0 -> dedicated-0 PostCopy"]);
}

#[test]
fn a_sleeping_node_is_woken_only_when_no_awake_one_has_room() {
    let mut world = World::new();
    world.vm("busy", "shared-0", 1.9);
    world.node_mut("dedicated-0").power = PowerState::Suspended;
    assert_eq!(world.moves(), ["busy: shared-0 -> dedicated-1 PostCopy"]);
    world.vm_mut("busy").vcpus = 1;
    for vm in ["a", "b", "c", "d"] {
        world.vm(vm, "dedicated-1", 0.9);
    }
    assert_eq!(world.stays("busy"), "WaitsForWake");
    assert!(matches!(&world.decide().0.steps[..], [Step::Wake(wake)] if wake.node == "dedicated-0".into()));
}

#[test]
fn nobody_else_is_woken_while_a_node_that_is_back_has_said_nothing_yet() {
    let mut world = World::new();
    world.vm("busy", "shared-0", 1.9);
    world.node_mut("dedicated-0").power = PowerState::Suspended;
    world.snapshot.load.nodes.remove(&"dedicated-1".into());
    let woke = |ago| crate::model::PowerRecord {
        noted: true,
        since: Some(NOW - Span::from_secs(ago)),
        ..crate::model::PowerRecord::default()
    };
    world.snapshot.powers.insert("dedicated-1".into(), woke(1));
    assert_eq!(world.stays("busy"), "WaitsForWake");
    assert_eq!(world.decide().0.steps, []);
    // An agent that is silent for longer may be silent for ever.
    world.snapshot.powers.insert("dedicated-1".into(), woke(10));
    assert!(matches!(&world.decide().0.steps[..], [Step::Wake(wake)] if wake.node == "dedicated-0".into()));
}

#[test]
fn an_idle_vm_returns_by_pre_copy_after_it_settled() {
    let mut world = World::new();
    world.vm("idle", "dedicated-0", 0.1);
    assert_eq!(world.moves(), ["idle: dedicated-0 -> shared-0 PreCopy"]);
    world.moved_at("idle", "shared-0", NOW - Span::from_secs(19));
    assert_eq!(world.stays("idle"), "Settling");
    world.moved_at("idle", "shared-0", NOW - Span::from_secs(20));
    assert_eq!(world.moves(), ["idle: dedicated-0 -> shared-0 PreCopy"]);
    world.snapshot.load.vms.insert(VmKey::new("vms", "idle"), World::history(0.5));
    assert_eq!(world.stays("idle"), "Active");
}

#[test]
fn a_shared_node_admits_by_load_and_by_memory() {
    let mut world = World::new();
    world.vm("idle", "dedicated-0", 0.3);
    // (1.1 + 0.3) / 2 cores = 70 %; with 1.2 it would be 75 %, which is not below the margin.
    world.node_load("shared-0", 1.1);
    assert_eq!(world.moves().len(), 1);
    world.node_load("shared-0", 1.2);
    assert_eq!(world.stays("idle"), "NoRoom");
    world.node_load("shared-0", 0.1);
    world.node_mut("shared-0").allocatable.memory = Bytes::gib(1);
    assert_eq!(world.stays("idle"), "NoRoom");
}

#[test]
fn who_asks_for_less_than_a_refused_vm_is_asked_about_anew() {
    let mut world = World::new();
    world.vm("a-busier", "dedicated-0", 0.3);
    world.vm("b-calmer", "dedicated-1", 0.1);
    world.vm("c-busiest", "dedicated-1", 0.4);
    world.node_load("shared-0", 1.3);
    assert_eq!(world.moves(), ["b-calmer: dedicated-1 -> shared-0 PreCopy"]);
    assert_eq!([world.stays("a-busier"), world.stays("c-busiest")], ["NoRoom", "NoRoom"]);
    // The refusal says what it would mean for this VM, whoever was refused before.
    world.policy().budgets.concurrent_per_shared_node = 2;
    let report = world.decide().1;
    let verdict = &report.vms.get(&VmKey::new("vms", "c-busiest")).unwrap().verdict;
    let VmVerdict::Stays { reason: reason @ StayReason::NoRoom { .. } } = verdict else { panic!("{verdict:?}") };
    assert_eq!(reason.to_string(), "no node has room for it; shared-0: would be at 90.0%, admits below 75.0%");
}

#[test]
fn tickets_are_served_first_come_first_served_one_at_a_time() {
    let mut world = World::new();
    world.vm("a-late", "dedicated-0", 0.1);
    world.vm("b-early", "dedicated-1", 0.1);
    let mut late = LoadHistory::default();
    for second in 0..60 {
        let cores = if second < 50 { 1.0 } else { 0.0 };
        late.push(NOW - Span::from_secs(59 - second), Span::from_secs(1), Cores::new(cores).unwrap());
    }
    world.snapshot.load.vms.insert(VmKey::new("vms", "a-late"), late);
    assert_eq!(world.moves(), ["b-early: dedicated-1 -> shared-0 PreCopy"]);
    assert_eq!(world.stays("a-late"), "NoRoom");
    world.policy().budgets.concurrent_per_shared_node = 2;
    assert_eq!(world.moves().len(), 2);
}

#[test]
fn what_was_done_must_show_before_more_is_done() {
    let mut world = World::new();
    world.vm("busy", "shared-0", 1.9);
    world.vm("gone", "dedicated-1", 0.9);
    world.moved_at("gone", "shared-0", NOW - Span::from_secs(3));
    assert_eq!(world.stays("busy"), "NodeSettling");
    world.moved_at("gone", "shared-0", NOW - Span::from_secs(6));
    assert_eq!(world.moves().len(), 1);
    world.migration("gone", "dedicated-1", "shared-0", None);
    assert_eq!(world.stays("busy"), "NodeSettling");
}

#[test]
fn slots_are_left_to_others() {
    let mut world = World::new();
    world.vm("busy", "shared-0", 1.9);
    for (vm, plan) in [("m1", Some("p")), ("m2", Some("p"))] {
        world.vm(vm, "dedicated-1", 0.9);
        world.migration(vm, "dedicated-1", "elsewhere", plan);
    }
    assert_eq!(world.moves().len(), 1);
    world.vm("m3", "dedicated-0", 0.9);
    world.migration("m3", "dedicated-0", "elsewhere", Some("p"));
    // Five slots less two in reserve are taken by three of ours.
    assert_eq!(world.stays("busy"), "WaitsForSlot");
    world.snapshot.kubevirt.parallel_per_cluster = 1;
    world.snapshot.migrations.clear();
    assert_eq!(world.moves().len(), 1, "one slot is used even when the reserve is larger");
}

#[test]
fn rule_two_keeps_vms_where_they_are() {
    type Change = fn(&mut Vm);
    let cases: [(&str, Change); 8] = [
        ("OptedOut", |vm| vm.marks.never_consolidate = true),
        ("PrefersNoEviction", |vm| vm.marks.prefer_no_eviction = true),
        ("HostDevice", |vm| vm.host_device = true),
        ("UnsupportedConstraint", |vm| vm.unsupported = Some(Unsupported { field: "spec.x".into() })),
        ("NotMigratable", |vm| vm.not_migratable = Some("DisksNotLiveMigratable".into())),
        ("Busy", |vm| vm.activity = Some(VmActivity::Evacuating)),
        ("NoNode", |vm| vm.running = false),
        ("Settling", |vm| {
            vm.last_migration = Some(LastMigration {
                uid: Uid::new("m"),
                source: None,
                target: None,
                started: None,
                ended: Some(NOW),
                completed: true,
                failed: false,
                failure: None,
                mode: None,
                policy: AppliedPolicy::None,
            });
        }),
    ];
    for (expected, change) in cases {
        let mut world = World::new();
        world.vm("busy", "shared-0", 1.9);
        change(world.vm_mut("busy"));
        assert_eq!(world.stays("busy"), expected);
        assert_eq!(world.moves(), [""; 0]);
    }
}

#[test]
fn budget_and_back_off_hold() {
    let mut world = World::new();
    world.vm("busy", "shared-0", 1.9);
    let uid = Uid::new("uid-busy");
    let moves = (0..10).map(|hour| NOW - Span::from_secs(3600 * (10 - hour))).collect();
    world.snapshot.history.vms.insert(uid.clone(), VmMoves { moves, ..VmMoves::default() });
    assert_eq!(world.stays("busy"), "BudgetSpent");
    let failed = VmMoves { failures: 1, last_failure: Some(NOW - Span::from_secs(10)), ..VmMoves::default() };
    world.snapshot.history.vms.insert(uid, failed);
    assert_eq!(world.stays("busy"), "BackingOff");
}

#[test]
fn a_mode_that_kubevirt_ignored_is_not_asked_for_again() {
    let mut world = World::new();
    world.vm("busy", "shared-0", 1.9);
    let uid = Uid::new("uid-busy");
    let ignored = |modes: &[MigrationMode]| VmMoves { ignored: modes.iter().copied().collect(), ..VmMoves::default() };
    world.snapshot.history.vms.insert(uid.clone(), ignored(&[MigrationMode::PostCopy]));
    assert_eq!(world.moves(), ["busy: shared-0 -> dedicated-0 PreCopy"]);
    world.snapshot.history.vms.insert(uid, ignored(&[MigrationMode::PostCopy, MigrationMode::PreCopy]));
    world.vm("idle", "shared-0", 0.1);
    assert_eq!(world.stays("busy"), "ModeIgnored");
    // That lasts for a day, and its node is overloaded all the while.
    assert_eq!(world.moves(), ["idle: shared-0 -> dedicated-0 PostCopy"]);
}

#[test]
fn an_idle_vm_does_not_go_in_place_of_a_busy_one_that_backs_off() {
    let mut world = World::new();
    world.vm("busy", "shared-0", 1.5);
    world.vm("idle", "shared-0", 0.4);
    let failed = VmMoves { failures: 1, last_failure: Some(NOW - Span::from_secs(10)), ..VmMoves::default() };
    world.snapshot.history.vms.insert(Uid::new("uid-busy"), failed);
    assert_eq!(world.moves(), [""; 0]);
    assert_eq!(world.stays("idle"), "NotFirst");
    world.vm("nearly", "shared-0", 0.9);
    assert_eq!(world.moves(), ["nearly: shared-0 -> dedicated-0 PostCopy"]);
    // What never moves holds nobody up.
    world.snapshot.vms.remove(&VmKey::new("vms", "nearly"));
    world.vm_mut("busy").marks.never_consolidate = true;
    assert_eq!(world.moves(), ["idle: shared-0 -> dedicated-0 PostCopy"]);
}

#[test]
fn gates_keep_a_policy_from_starting() {
    type Change = fn(&mut World);
    let cases: [(&str, Change); 8] = [
        ("BackupRunning", |world| world.policy().backup = Some("VM shop/db".into())),
        ("Paused", |world| world.snapshot.switches.paused = Some("me".into())),
        ("Held", |world| world.snapshot.switches.held = Some("me".into())),
        ("OutsideSchedule", |world| world.policy().in_schedule = false),
        ("Incomplete", |world| world.snapshot.incomplete = Some("pods".into())),
        ("RollingOut", |world| world.snapshot.kubevirt.rolling_out = true),
        ("EvacuationsWaiting", |world| world.snapshot.evacuations_waiting = 1),
        ("KubeVirtUnusable", |world| world.snapshot.kubevirt.problem = Some(KubeVirtProblem::Missing)),
    ];
    for (expected, change) in cases {
        let mut world = World::new();
        world.vm("busy", "shared-0", 1.9);
        world.vm("idle", "dedicated-0", 0.1);
        change(&mut world);
        assert_eq!(world.moves(), [""; 0]);
        let report = world.decide().1;
        let policy = &report.policies[&PolicyName::new("pack")];
        assert_eq!(policy.gate.as_ref().map(Gate::name), Some(expected));
        assert_eq!(world.stays("busy"), "Gated");
    }
}

#[test]
fn stale_loads_move_nothing() {
    let mut world = World::new();
    world.vm("busy", "shared-0", 1.9);
    world.vm("idle", "dedicated-0", 0.1);
    let later = NOW + Span::from_secs(4);
    let (plan, report) = decide(&world.snapshot, &world.policies, later, 1);
    assert_eq!(plan, Plan::default());
    let verdict = &report.nodes[&NodeName::new("shared-0")].verdict;
    assert_eq!(*verdict, NodeVerdict::LoadUnknown);
}

#[test]
fn a_plan_that_waits_speaks_for_its_vm_until_its_reason_is_gone() {
    let mut world = World::new();
    world.vm("busy", "shared-0", 1.0);
    world.vm("busier", "shared-0", 0.95);
    let (plan, _) = world.decide();
    let Some(Step::Migrate(step)) = plan.steps.first().cloned() else { panic!("{plan:?}") };
    world.policy().mode = PolicyMode::Recommend;
    let name = plan_name(&world.policies.policies[&step.policy], None, &plan, 0);
    world.snapshot.plans.insert(
        name.clone(),
        PlanRecord {
            name: name.clone(),
            policy: step.policy.clone(),
            needs_approval: true,
            approved: false,
            decided: NOW,
            ended: None,
            expires: NOW + Span::from_secs(3600),
            phase: PlanPhase::Proposed,
            steps: vec![RecordedStep::Migrate {
                vm: step.vm,
                uid: step.uid,
                source: step.source,
                target: step.target,
                mode: step.mode,
                migration: step.migration,
                reason: step.reason.kind(),
                migration_uid: None,
                started: None,
                ended: None,
                outcome: StepOutcome::Waiting,
                mode_ignored: false,
                taken_back: None,
                failure: None,
            }],
            refusals: Vec::new(),
        },
    );
    let (plan, report) = world.decide();
    assert_eq!(plan, Plan::default(), "the same wish is not made twice");
    assert_eq!(report.proposals[&name], ProposalVerdict::Stands);
    world.node_load("shared-0", 1.7);
    assert_eq!(world.decide().1.proposals[&name], ProposalVerdict::Stands, "a small swing keeps it");
    world.node_load("shared-0", 1.5);
    assert!(matches!(world.decide().1.proposals[&name], ProposalVerdict::Obsolete { .. }));
}

#[test]
fn two_classes_on_one_node_leave_it_to_neither_and_a_class_has_one_policy() {
    let mut world = World::new();
    world.vm("busy", "shared-0", 1.9);
    let mut rival = world.policy().clone();
    rival.name = PolicyName::new("rival");
    rival.priority = 1;
    rival.mode = PolicyMode::Off;
    world.policies.policies.insert(rival.name.clone(), rival);
    assert_eq!(world.stays("busy"), "NodeNotRuled");
    let report = world.decide().1;
    assert_eq!(report.policies[&PolicyName::new("pack")].lost_classes.len(), 2);
    let mut world = World::new();
    world.vm("busy", "shared-0", 1.9);
    let mut twin = world.policies.classes[&ClassName::new("shared")].clone();
    twin.name = ClassName::new("twin");
    world.policies.classes.insert(twin.name.clone(), twin);
    assert_eq!(world.moves(), [""; 0]);
    let report = world.decide().1;
    assert!(matches!(report.nodes[&NodeName::new("shared-0")].verdict, NodeVerdict::Ambiguous { .. }));
}

#[test]
fn troubled_targets_are_aborted() {
    let mut world = World::new();
    world.vm("busy", "shared-0", 1.9);
    world.migration("busy", "shared-0", "dedicated-0", Some("p"));
    let name = MigrationName::new("vms", "m-busy");
    let migration = world.snapshot.migrations.get_mut(&name).unwrap();
    migration.phase = MigrationPhase::Preparing;
    migration.trouble = Some(TargetTrouble::Unschedulable("0/3 nodes are available".into()));
    assert!(matches!(&world.decide().0.steps[..], [Step::Abort { migration, .. }] if *migration == name));
    world.snapshot.migrations.get_mut(&name).unwrap().plan = None;
    assert_eq!(world.decide().0.steps, [], "a migration of somebody else is theirs");
}

#[test]
fn a_node_where_the_scheduler_refused_a_vm_is_not_asked_again_for_a_while() {
    let mut world = World::new();
    world.vm("busy", "shared-0", 1.9);
    world.vm("calm", "shared-0", 0.05);
    let target = |world: &World| {
        let plan = world.decide().0;
        plan.migrations().map(|step| (step.vm.name.to_string(), step.target.to_string())).collect::<Vec<_>>()
    };
    let busy = |node: &str| vec![("busy".to_owned(), node.to_owned())];
    assert_eq!(target(&world), busy("dedicated-0"));
    let uid = world.vm_mut("busy").uid.clone();
    let refused = |world: &mut World, ago: u64| {
        let refused_by = [("dedicated-0".into(), NOW - Span::from_secs(ago))].into();
        world.snapshot.history.vms.insert(uid.clone(), VmMoves { refused_by, ..VmMoves::default() });
    };
    refused(&mut world, 1700);
    assert_eq!(target(&world), busy("dedicated-1"));
    refused(&mut world, 1900);
    assert_eq!(target(&world), busy("dedicated-0"));
    // Where it is the only one, the VM stays and says why; others may go there all the same.
    refused(&mut world, 1700);
    world.node_mut("dedicated-1").unschedulable = true;
    assert_eq!(world.stays("busy"), "NoRoom");
    let (_, report) = world.decide();
    let why = match &report.vms.get(&VmKey::new("vms", "busy")).unwrap().verdict {
        VmVerdict::Stays { reason } => format!("{reason:?}"),
        other => panic!("{other:?}"),
    };
    assert!(why.contains("RefusedLately"), "{why}");
}

#[test]
fn pending_pods_and_reserves_wake_nodes() {
    let mut world = World::new();
    world.node_mut("dedicated-1").power = PowerState::Suspended;
    world.policy().spare_dedicated = 2;
    assert!(matches!(&world.decide().0.steps[..], [Step::Wake(wake)] if wake.reason == WakeReason::Reserve));
    world.policy().spare_dedicated = 1;
    assert_eq!(world.decide().0.steps, []);
    world.vm("pending", "dedicated-0", 0.9);
    let pod = world.snapshot.pods.values_mut().next().unwrap();
    (pod.node, pod.phase, pod.unschedulable) = (None, PodPhase::Pending, true);
    world.policy().spare_dedicated = 0;
    assert!(
        matches!(&world.decide().0.steps[..], [Step::Wake(wake)] if matches!(wake.reason, WakeReason::PendingPod { .. }))
    );
    // A DaemonSet's pod is there for its node, and not the node for it.
    let pod = world.snapshot.pods.values_mut().find(|pod| pod.node.is_none()).unwrap();
    let owner = std::mem::replace(&mut pod.owner, crate::model::PodOwner::DaemonSet("new".into()));
    assert_eq!(world.decide().0.steps, []);
    world.snapshot.pods.values_mut().find(|pod| pod.node.is_none()).unwrap().owner = owner;
    // A node that has just come back takes it, as soon as the scheduler looks.
    let woke = |ago| crate::model::PowerRecord {
        since: Some(NOW - Span::from_secs(ago)),
        last_sleep: Some(Span::from_secs(600)),
        ..Default::default()
    };
    world.snapshot.powers.insert("dedicated-0".into(), woke(2));
    assert_eq!(world.decide().0.steps, []);
    world.snapshot.powers.insert("dedicated-0".into(), woke(60));
    assert_eq!(world.decide().0.steps.len(), 1);
}

#[test]
fn a_pod_that_did_not_go_to_the_node_woken_for_it_gets_another_one_and_then_ever_more_seldom() {
    let mut world = World::new();
    world.vm("pending", "dedicated-0", 0.9);
    let pod = world.snapshot.pods.values_mut().next().unwrap();
    (pod.node, pod.phase, pod.unschedulable) = (None, PodPhase::Pending, true);
    let uid = pod.uid.clone();
    for node in ["dedicated-0", "dedicated-1"] {
        world.node_mut(node).power = PowerState::Suspended;
    }
    let mut woken_after = |wakes: &[(&str, u64, &Uid)]| {
        let wake = |&(node, ago, uid): &(&str, u64, &Uid)| crate::model::PastWake {
            at: NOW - Span::from_secs(ago),
            node: node.into(),
            awaited: true,
            pod: Some(uid.clone()),
        };
        world.snapshot.power_history.wakes = wakes.iter().map(wake).collect();
        let (plan, _) = world.decide();
        let wakes = plan.steps.iter().filter_map(|step| match step {
            Step::Wake(step) => Some(step.node.to_string()),
            _ => None,
        });
        wakes.collect::<Vec<_>>()
    };
    assert_eq!(woken_after(&[]), ["dedicated-0"]);
    assert_eq!(woken_after(&[("dedicated-0", 50, &uid)]), [""; 0], "it may still go there");
    assert_eq!(woken_after(&[("dedicated-0", 70, &uid)]), ["dedicated-1"]);
    assert_eq!(woken_after(&[("dedicated-0", 200, &uid), ("dedicated-1", 110, &uid)]), [""; 0]);
    assert_eq!(woken_after(&[("dedicated-0", 210, &uid), ("dedicated-1", 130, &uid)]), ["dedicated-0"]);
    assert_eq!(woken_after(&[("dedicated-0", 5, &Uid::new("earlier"))]), ["dedicated-0"], "another pod's");
    let all_day: Vec<_> = (0..20).rev().map(|hour| ("dedicated-1", hour * 1800 + 1700, &uid)).collect();
    assert_eq!(woken_after(&all_day), [""; 0], "half an hour apart at last");
}

/// A plan of these moves as the planner would write it, with how each stands.
fn record(world: &World, moves: &[(&str, &str, &str, StepOutcome)]) -> PlanRecord {
    let steps = moves.iter().map(|(vm, source, target, outcome)| {
        let vm = &world.snapshot.vms[&VmKey::new("vms", *vm)];
        RecordedStep::Migrate {
            vm: vm.key.clone(),
            uid: vm.uid.clone(),
            source: (*source).into(),
            target: (*target).into(),
            mode: MigrationMode::PreCopy,
            migration: migration_name(vm, 0),
            reason: MoveKind::Idle,
            migration_uid: None,
            started: None,
            ended: None,
            outcome: *outcome,
            mode_ignored: false,
            taken_back: None,
            failure: None,
        }
    });
    PlanRecord {
        name: PlanName::new("p"),
        policy: PolicyName::new("pack"),
        needs_approval: false,
        approved: false,
        decided: NOW,
        ended: None,
        expires: NOW + Span::from_secs(60),
        phase: PlanPhase::Proposed,
        steps: steps.collect(),
        refusals: Vec::new(),
    }
}

fn carried(world: &World, record: &PlanRecord, now: Timestamp) -> Next {
    carry(record, None, &mut Pass::default(), &world.snapshot, &world.policies, now)
}

/// The VMIM of a VM's first attempt.
fn asked_for(world: &mut World, vm: &str, phase: MigrationPhase) {
    world.migration(vm, "dedicated-0", "shared-0", Some("p"));
    let mut migration = world.snapshot.migrations.remove(&MigrationName::new("vms", format!("m-{vm}"))).unwrap();
    migration.name = migration_name(&world.snapshot.vms[&VmKey::new("vms", vm)], 0);
    migration.phase = phase;
    world.snapshot.migrations.insert(migration.name.clone(), migration);
}

#[test]
fn a_step_left_behind_by_a_crash_is_judged_anew() {
    let mut world = World::new();
    world.node("shared-1", "shared", 4);
    world.vm("first", "dedicated-0", 0.1);
    world.vm("second", "dedicated-1", 0.1);
    let plan = record(
        &world,
        &[
            ("first", "dedicated-0", "shared-0", StepOutcome::Waiting),
            ("second", "dedicated-1", "shared-1", StepOutcome::Waiting),
        ],
    );
    asked_for(&mut world, "first", MigrationPhase::Running);
    let asks = |next: &Next| next.deeds.iter().any(|(_, deed)| matches!(deed, Deed::Migrate { .. }));
    assert!(asks(&carried(&world, &plan, NOW)), "nothing speaks against it");

    let late = carried(&world, &plan, NOW + Span::from_secs(60));
    assert_eq!((asks(&late), late.steps[1].outcome), (false, StepOutcome::Skipped), "it is an old wish");

    world.snapshot.switches.paused = Some("me".into());
    let paused = carried(&world, &plan, NOW);
    assert_eq!((asks(&paused), paused.steps[1].outcome), (false, StepOutcome::Waiting));
    world.snapshot.switches.paused = None;

    world.vm_mut("second").marks.never_consolidate = true;
    let opted_out = carried(&world, &plan, NOW);
    assert_eq!((asks(&opted_out), opted_out.steps[1].outcome), (false, StepOutcome::Skipped));
    assert_eq!(opted_out.phase, PlanPhase::Running, "the first move is followed to its end");
}

#[test]
fn a_step_that_cannot_be_read_keeps_its_place() {
    let mut world = World::new();
    world.vm("idle", "dedicated-0", 0.1);
    let mut plan = record(&world, &[("idle", "dedicated-0", "shared-0", StepOutcome::Waiting)]);
    plan.steps.insert(0, RecordedStep::Unreadable { outcome: StepOutcome::Waiting });
    let next = carried(&world, &plan, NOW);
    assert!(next.deeds.iter().all(|(step, _)| *step == 1) && !next.deeds.is_empty(), "{:?}", next.deeds);
    assert_eq!(
        next.steps.iter().map(|step| step.outcome).collect::<Vec<_>>(),
        [StepOutcome::Failed, StepOutcome::Running]
    );
}

#[test]
fn a_wake_that_never_comes_ends() {
    let mut world = World::new();
    world.node_mut("dedicated-1").power = PowerState::Suspended;
    let mut plan = record(&world, &[]);
    plan.phase = PlanPhase::Running;
    plan.steps = vec![RecordedStep::Wake {
        node: "dedicated-1".into(),
        reason: WakeKind::Reserve,
        pod: None,
        started: Some(NOW),
        outcome: StepOutcome::Running,
    }];
    assert_eq!(carried(&world, &plan, NOW).phase, PlanPhase::Running);
    assert_eq!(carried(&world, &plan, NOW + Span::from_secs(3600)).phase, PlanPhase::Failed);
    world.snapshot.nodes.remove(&NodeName::new("dedicated-1"));
    assert_eq!(carried(&world, &plan, NOW).phase, PlanPhase::Failed);
}

#[test]
fn a_refused_step_leaves_what_was_begun_to_its_end() {
    let mut world = World::new();
    let moves = ["a", "b", "c"].map(|vm| {
        world.vm(vm, "dedicated-1", 0.1);
        (vm, "dedicated-1", "shared-0", StepOutcome::Waiting)
    });
    let plan = record(&world, &moves);
    let running = || StepState {
        outcome: StepOutcome::Running,
        migration_uid: None,
        started: Some(NOW),
        ended: None,
        reason: None,
        message: None,
        taken_back: None,
    };
    let mut next = Next {
        deeds: vec![],
        phase: PlanPhase::Running,
        steps: vec![running(), running(), running()],
        message: None,
        superseded_by: None,
    };
    next.steps[0].migration_uid = Some(Uid::new("m"));
    next.refuse(&plan, 1, NOW, "no");
    let outcomes: Vec<_> = next.steps.iter().map(|step| step.outcome).collect();
    assert_eq!(outcomes, [StepOutcome::Running, StepOutcome::Failed, StepOutcome::Skipped]);
    assert_eq!((next.phase, next.steps[2].started), (PlanPhase::Running, None));
}

#[test]
fn the_hourly_budget_bounds_what_one_pass_plans() {
    let mut world = World::new();
    world.node("shared-1", "shared", 4);
    world.vm("a", "dedicated-0", 0.1);
    world.vm("b", "dedicated-1", 0.1);
    assert_eq!(world.moves().len(), 2);
    world.policy().budgets.moves_per_hour = Some(1);
    let (plan, _) = world.decide();
    assert_eq!(plan.migrations().count(), 1);
    assert_eq!(crate::check::check(&world.snapshot, &world.policies, &plan, NOW), []);
}

#[test]
fn a_name_that_kubevirt_still_keeps_is_passed_over() {
    let mut world = World::new();
    world.vm("a", "dedicated-0", 0.1);
    asked_for(&mut world, "a", MigrationPhase::Failed);
    let (plan, _) = world.decide();
    assert_eq!(plan.migrations().map(|step| step.attempt).collect::<Vec<_>>(), [1]);
    assert_eq!(crate::check::check(&world.snapshot, &world.policies, &plan, NOW), []);

    let mut running = record(&world, &[("a", "dedicated-0", "shared-0", StepOutcome::Running)]);
    running.phase = PlanPhase::Running;
    world.snapshot.plans.insert(running.name.clone(), running);
    assert!(world.moves().is_empty(), "its plan notes the failure first: back-off follows from it");
}
