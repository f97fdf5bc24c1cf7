//! For each rule: the good plan passes, and the smallest change that breaks a rule is refused for that rule alone.

mod moving;
mod sleeping;

use super::*;
use crate::model::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

/// Two shared nodes (s1 is overloaded), two dedicated ones with an idle VM on the first, one that sleeps and one
/// that is empty and could sleep; one policy rules them all. The good plan relieves s1 and brings the idle VM back.
struct Case {
    snapshot: Snapshot,
    policies: Policies,
    plan: Plan,
}

fn percent(value: f64) -> Percent {
    Percent::new(value).unwrap()
}

fn history(cores: f64) -> LoadHistory {
    let mut history = LoadHistory::default();
    for back in (0..30).rev() {
        let at = NOW - Span::from_secs(back);
        history.push(at, Span::from_secs(1), Cores::new(cores).unwrap());
    }
    history
}

fn class(name: &str, role: Role) -> NodeClass {
    NodeClass {
        name: ClassName::new(name),
        nodes: Selector::label("class", name),
        role,
        capacity: Capacity::default(),
        max_vms: None,
        sleeping_daemon_sets: BTreeSet::new(),
        sleeping_static_pods: BTreeSet::new(),
        passing_taints: BTreeSet::new(),
        power: PowerFigures::default(),
        meter: Default::default(),
        sleep: ClassSleep { can_be_woken: true, ..ClassSleep::default() },
        invalid: None,
    }
}

fn policy(name: &str, classes: &[&str]) -> Policy {
    Policy {
        name: PolicyName::new(name),
        priority: 0,
        mode: PolicyMode::Automatic,
        classes: classes.iter().map(ClassName::new).collect(),
        vms: VmSelector::default(),
        // What is measured here is no longer than that.
        thresholds: Thresholds { admission_window: Span::from_secs(5), ..Thresholds::of(Profile::Reactive) },
        order: DestinationOrder::MostDense,
        stay_within: Vec::new(),
        migration: MigrationChoice::Auto,
        post_copy: PostCopyUse::Allow,
        budgets: Budgets {
            moves_per_vm_per_day: 4,
            concurrent: None,
            concurrent_per_shared_node: 1,
            reserved_migrations: 2,
            moves_per_hour: None,
        },
        spare_dedicated: 0,
        sleep: SleepRules::of(Profile::Reactive),
        keep_awake_failures: 0,
        keep_awake_per: "zone".into(),
        min_awake: 0,
        plan_ttl: Span::from_secs(600),
        in_schedule: true,
        schedule_changes: None,
        waits_for: vec![],
        held: None,
        backup: None,
        invalid: None,
        rival: None,
        changed: Timestamp::default(),
    }
}

fn vm_key(name: &str) -> VmKey {
    VmKey::new("default", name)
}

fn migrate(vm: &str, source: &str, target: &str, mode: MigrationMode, reason: MoveReason) -> MigrateStep {
    MigrateStep {
        policy: PolicyName::new("p"),
        vm: vm_key(vm),
        uid: Uid::new(format!("{vm}-uid")),
        source: NodeName::new(source),
        target: NodeName::new(target),
        mode,
        migration: MigrationName::new("default", format!("miyako-{vm}")),
        attempt: 0,
        reason,
        users_policy: None,
    }
}

impl Case {
    fn good() -> Self {
        let mut case = Self { snapshot: Snapshot::default(), policies: Policies::default(), plan: Plan::default() };
        for (name, class_name) in [
            ("s1", "shared"),
            ("s2", "shared"),
            ("d1", "dedicated"),
            ("d2", "dedicated"),
            ("d3", "dedicated"),
            ("d4", "dedicated"),
        ] {
            let mut node = Node::new(name, Resources::new(MilliCpu(8000), Bytes::gib(32), 110));
            node.labels.insert("class".into(), class_name.into());
            node.labels.insert("zone".into(), "a".into());
            node.wake_tested = Some(NOW);
            case.snapshot.nodes.insert(node.name.clone(), node);
            case.snapshot.load.nodes.insert(NodeName::new(name), history(0.2));
        }
        case.node("d3").power = PowerState::Suspended;
        case.node("d3").ready = false;
        case.snapshot.load.nodes.remove(&NodeName::new("d3"));
        case.snapshot.load.nodes.insert(NodeName::new("s1"), history(7.6));
        case.add_vm("busy", "s1", 4, 3.9);
        case.add_vm("other", "s1", 4, 3.7);
        case.add_vm("idle", "d1", 2, 0.2);
        case.snapshot.namespaces.insert("default".into(), Namespace::default());
        case.snapshot.kubevirt.parallel_per_cluster = 10;
        for class in [class("shared", Role::Shared), class("dedicated", Role::Dedicated)] {
            case.policies.classes.insert(class.name.clone(), class);
        }
        case.policies.policies.insert(PolicyName::new("p"), policy("p", &["shared", "dedicated"]));
        let overload = MoveReason::Overload { node_load: percent(95.0), threshold: percent(90.0) };
        let idle = MoveReason::Idle { vm_load: percent(10.0), threshold: percent(50.0), since: NOW };
        case.plan.steps = vec![
            Step::Migrate(migrate("busy", "s1", "d2", MigrationMode::PostCopy, overload)),
            Step::Migrate(migrate("idle", "d1", "s2", MigrationMode::PreCopy, idle)),
        ];
        case
    }

    /// A plan that suspends the empty dedicated node d4 and nothing else.
    fn good_night() -> Self {
        let mut case = Self::good();
        case.plan.steps = vec![suspend_step("d4")];
        case
    }

    fn node(&mut self, name: &str) -> &mut Node {
        self.snapshot.nodes.get_mut(&NodeName::new(name)).unwrap()
    }

    fn vm(&mut self, name: &str) -> &mut Vm {
        self.snapshot.vms.get_mut(&vm_key(name)).unwrap()
    }

    fn policy(&mut self) -> &mut Policy {
        self.policies.policies.get_mut(&PolicyName::new("p")).unwrap()
    }

    fn class(&mut self, name: &str) -> &mut NodeClass {
        self.policies.classes.get_mut(&ClassName::new(name)).unwrap()
    }

    fn step(&mut self, index: usize) -> &mut MigrateStep {
        match &mut self.plan.steps[index] {
            Step::Migrate(step) => step,
            other => panic!("{other:?}"),
        }
    }

    fn add_vm(&mut self, name: &str, node: &str, vcpus: u32, load: f64) {
        let requests = Resources::new(MilliCpu(100 * u64::from(vcpus)), Bytes::gib(4), 1);
        let vm = Vm {
            key: vm_key(name),
            uid: Uid::new(format!("{name}-uid")),
            labels: Labels::from([("app".into(), name.into())]),
            node: Some(NodeName::new(node)),
            running: true,
            vcpus,
            memory: Bytes::gib(4),
            not_migratable: None,
            activity: None,
            host_device: false,
            marks: Marks::default(),
            last_migration: None,
            target: Arc::new(Scheduling { requests, ..Scheduling::default() }),
            unsupported: None,
            launcher_labels: Labels::new(),
            mode_label: None,
            user_migration_policy: None,
            equal_migration_policies: Vec::new(),
        };
        self.add_pod(
            &format!("virt-launcher-{name}"),
            Some(node),
            PodOwner::Vm { vm: vm.key.clone(), uid: vm.uid.clone(), target_of: None },
        );
        self.snapshot.load.vms.insert(vm.key.clone(), history(load));
        self.snapshot.vms.insert(vm.key.clone(), vm);
    }

    fn add_pod(&mut self, name: &str, node: Option<&str>, owner: PodOwner) -> &mut Pod {
        let requests = Resources::new(MilliCpu(100), Bytes::gib(4), 1);
        let pod = Pod {
            key: PodKey::new("default", name),
            uid: Uid::new(name),
            node: node.map(NodeName::new),
            phase: PodPhase::Running,
            terminating: false,
            labels: Labels::new(),
            owner,
            unschedulable: false,
            ready: true,
            scheduling: Arc::new(Scheduling { requests, ..Scheduling::default() }),
        };
        self.snapshot.pods.entry(pod.key.clone()).or_insert(pod)
    }

    fn add_migration(&mut self, vm: &str, source: &str, target: &str, phase: MigrationPhase) -> &mut Migration {
        let migration = Migration {
            name: MigrationName::new("default", format!("m-{vm}")),
            uid: Uid::new(format!("m-{vm}-uid")),
            vm: vm_key(vm),
            phase,
            plan: Some(PlanName::new("earlier")),
            system: false,
            source: Some(NodeName::new(source)),
            target: Some(NodeName::new(target)),
            mode: None,
            created: NOW,
            trouble: None,
            deleting: false,
        };
        self.snapshot.migrations.entry(migration.name.clone()).or_insert(migration)
    }

    fn violations(&self) -> Vec<Violation> {
        check(&self.snapshot, &self.policies, &self.plan, NOW)
    }
}

fn suspend_step(node: &str) -> Step {
    Step::Suspend(SuspendStep { policy: PolicyName::new("p"), node: NodeName::new(node), reason: SuspendReason::Empty })
}

fn wake_step(node: &str) -> Step {
    let reason = crate::model::WakeReason::ForMove { vm: vm_key("busy") };
    Step::Wake(WakeStep { policy: PolicyName::new("p"), node: NodeName::new(node), reason })
}

/// A change to a case, and what it is.
type Change = (&'static str, fn(&mut Case));

/// Each change to the case alone breaks this rule and no other.
fn refused_for(rule: Rule, base: fn() -> Case, changes: &[Change]) {
    for (name, change) in changes {
        let mut case = base();
        assert_eq!(case.violations(), [], "{name}: the case is good before the change");
        change(&mut case);
        let violations = case.violations();
        let rules: BTreeSet<_> = violations.iter().map(|violation| violation.rule()).collect();
        assert_eq!(rules, BTreeSet::from([rule]), "{name}: {violations:#?}");
    }
}

/// Each change to the case leaves it good.
fn allowed(base: fn() -> Case, changes: &[Change]) {
    for (name, change) in changes {
        let mut case = base();
        change(&mut case);
        assert_eq!(case.violations(), [], "{name}");
    }
}
