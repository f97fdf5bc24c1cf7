//! Rules 1, 2, 5 to 8 and 10: moves and aborts.

use super::*;

#[test]
fn good_plans_pass() {
    assert_eq!(Case::good().violations(), []);
    assert_eq!(Case::good_night().violations(), []);
}

#[test]
fn rule_1_a_vm_is_placed_only_where_it_fits() {
    refused_for(
        Rule::Placement,
        Case::good,
        &[
            ("no such target", |case| case.step(0).target = NodeName::new("gone")),
            ("asleep and not woken", |case| case.step(0).target = NodeName::new("d3")),
            ("woken only now", |case| {
                case.step(0).target = NodeName::new("d3");
                case.plan.steps.push(wake_step("d3"));
            }),
            ("not ready", |case| case.node("d2").ready = false),
            ("virt-handler is away", |case| case.node("d2").virt_handler_ready = false),
            ("being emptied", |case| case.node("d2").power = PowerState::Emptying),
            ("cordoned", |case| case.node("d2").unschedulable = true),
            ("under maintenance", |case| case.node("d2").maintenance = Some("drain".into())),
            ("tainted", |case| {
                let taint = Taint { key: "gpu".into(), value: String::new(), effect: TaintEffect::NoSchedule };
                case.node("d2").taints.push(taint);
            }),
            ("no memory", |case| case.node("d2").allocatable.memory = Bytes::gib(3)),
            ("no pod left", |case| case.node("d2").allocatable.pods = 0),
            ("another zone", |case| {
                case.policy().stay_within = vec!["zone".into()];
                case.node("d2").labels.insert("zone".into(), "b".into());
            }),
            ("too many VMs", |case| case.class("dedicated").max_vms = Some(0)),
            ("class memory", |case| case.class("dedicated").capacity.memory = Some(Bytes::gib(3))),
            ("unsupported", |case| case.vm("busy").unsupported = Some(Unsupported { field: "spec.x".into() })),
            ("quota", |case| {
                let quota = |used| BTreeMap::from([("pods".to_owned(), used)]);
                let quota = Quota { name: "q".into(), hard: quota(4000), used: quota(3000) };
                case.snapshot.namespaces.get_mut(&Name::from("default")).unwrap().quotas.push(quota);
            }),
            ("above the margin", |case| {
                case.snapshot.load.nodes.insert(NodeName::new("s2"), history(5.9));
            }),
        ],
    );
    allowed(
        Case::good,
        &[("below the margin", |case| {
            case.snapshot.load.nodes.insert(NodeName::new("s2"), history(5.7));
        })],
    );
}

#[test]
fn rule_2_a_vm_that_must_not_or_can_not_move_stays() {
    refused_for(
        Rule::Movable,
        Case::good,
        &[
            ("another VM of that name", |case| case.vm("busy").uid = Uid::new("newer")),
            ("not running", |case| case.vm("busy").running = false),
            ("not migratable", |case| case.vm("busy").not_migratable = Some("local disk".into())),
            ("hot-plugging", |case| case.vm("busy").activity = Some(VmActivity::Hotplugging)),
            ("opted out", |case| case.vm("busy").marks.never_consolidate = true),
            ("prefers no eviction", |case| case.vm("busy").marks.prefer_no_eviction = true),
            ("host device", |case| case.vm("busy").host_device = true),
            ("settling", |case| settle(case, false, 19)),
            ("back-off", |case| {
                let moves =
                    VmMoves { failures: 1, last_failure: Some(NOW - Span::from_secs(29)), ..VmMoves::default() };
                case.snapshot.history.vms.insert(Uid::new("busy-uid"), moves);
            }),
            ("budget", |case| {
                let moves = VmMoves { moves: vec![NOW - Span::from_secs(3600); 4], ..VmMoves::default() };
                case.snapshot.history.vms.insert(Uid::new("busy-uid"), moves);
            }),
        ],
    );
    allowed(
        Case::good,
        &[
            ("settled", |case| settle(case, false, 20)),
            ("the last one failed", |case| settle(case, true, 5)),
            ("yesterday's moves", |case| {
                let moves = VmMoves { moves: vec![NOW - Span::from_secs(90_000); 9], ..VmMoves::default() };
                case.snapshot.history.vms.insert(Uid::new("busy-uid"), moves);
            }),
        ],
    );
}

fn settle(case: &mut Case, failed: bool, ago: u64) {
    let ended = Some(NOW - Span::from_secs(ago));
    case.vm("busy").last_migration = Some(LastMigration {
        uid: Uid::new("last"),
        source: None,
        target: None,
        started: None,
        ended,
        completed: true,
        failed,
        failure: None,
        mode: None,
        policy: AppliedPolicy::None,
    });
}

#[test]
fn rule_2_no_vm_is_moved_twice_at_once() {
    let mut case = Case::good();
    case.policy().budgets.concurrent_per_shared_node = 9;
    let mut again = case.step(0).clone();
    again.target = NodeName::new("d4");
    again.migration = MigrationName::new("default", "again");
    case.plan.steps.push(Step::Migrate(again));
    let rules: Vec<_> = case.violations().iter().map(|violation| (violation.rule(), violation.step)).collect();
    assert_eq!(rules, [(Rule::Movable, Some(2))]);
}

#[test]
fn rule_5_a_dedicated_node_has_a_core_for_each_vcpu() {
    refused_for(
        Rule::DedicatedCores,
        Case::good,
        &[
            ("too large", |case| case.vm("busy").vcpus = 9),
            ("shared with another", |case| {
                case.add_vm("there", "d2", 5, 4.0);
            }),
            ("class capacity", |case| case.class("dedicated").capacity.cpu = Some(MilliCpu(3999))),
        ],
    );
    allowed(Case::good, &[("all cores", |case| case.add_vm("there", "d2", 4, 4.0))]);
}

#[test]
fn rule_6_one_migration_per_shared_node() {
    refused_for(
        Rule::NodeTraffic,
        Case::good,
        &[
            ("out of the source", |case| {
                case.add_migration("other", "s1", "d4", MigrationPhase::Running);
            }),
            ("into the target", |case| {
                case.add_vm("coming", "d4", 1, 0.1);
                case.add_migration("coming", "d4", "s2", MigrationPhase::Pending);
            }),
            ("KubeVirt's outbound limit", |case| case.snapshot.kubevirt.outbound_per_node = 0),
        ],
    );
    allowed(
        Case::good,
        &[("a setting", |case| {
            case.policy().budgets.concurrent_per_shared_node = 2;
            case.add_migration("other", "s1", "d4", MigrationPhase::Running);
        })],
    );
}

fn aborting() -> Case {
    let mut case = Case::good();
    let migration = case.add_migration("other", "s1", "d4", MigrationPhase::Preparing);
    let (migration, uid) = (migration.name.clone(), migration.uid.clone());
    case.plan.steps = vec![Step::Abort { migration, uid, reason: "unschedulable".into() }];
    case
}

fn the_migration(case: &mut Case) -> &mut Migration {
    case.snapshot.migrations.values_mut().next().unwrap()
}

#[test]
fn rule_7_post_copy_is_never_cut_off() {
    refused_for(
        Rule::PostCopy,
        aborting,
        &[
            ("runs, by what mode nobody knows", |case| the_migration(case).phase = MigrationPhase::Running),
            ("runs by post-copy", |case| {
                the_migration(case).phase = MigrationPhase::Running;
                the_migration(case).mode = Some(MigrationMode::PostCopy);
            }),
            ("may switch at any moment", |case| {
                the_migration(case).phase = MigrationPhase::Running;
                the_migration(case).mode = Some(MigrationMode::PreCopy);
                case.vm("other").mode_label = Some(MigrationMode::PostCopy);
            }),
        ],
    );
    allowed(
        aborting,
        &[("pre-copy runs", |case| {
            the_migration(case).phase = MigrationPhase::Running;
            the_migration(case).mode = Some(MigrationMode::PreCopy);
        })],
    );
    refused_for(
        Rule::Declared,
        aborting,
        &[
            ("somebody else's", |case| the_migration(case).plan = None),
            ("another uid", |case| the_migration(case).uid = Uid::new("newer")),
            ("over", |case| the_migration(case).phase = MigrationPhase::Failed),
        ],
    );
    refused_for(
        Rule::PostCopy,
        Case::good,
        &[
            ("the policy never uses it", |case| case.policy().post_copy = PostCopyUse::Never),
            ("nobody opted in", |case| case.policy().post_copy = PostCopyUse::OptIn),
            ("the VM's mark", |case| case.vm("busy").marks.post_copy = Some(PostCopyMark::Never)),
            ("the policy wants pre-copy", |case| case.policy().migration = MigrationChoice::PreCopy),
        ],
    );
    allowed(
        Case::good,
        &[("opted in", |case| {
            case.policy().post_copy = PostCopyUse::OptIn;
            case.vm("busy").marks.post_copy = Some(PostCopyMark::Allow);
        })],
    );
    let mut asleep = Case::good_night();
    asleep.add_migration("other", "s1", "d4", MigrationPhase::Running).mode = Some(MigrationMode::PostCopy);
    assert!(asleep.violations().iter().any(|violation| violation.rule() == Rule::PostCopy));
}

#[test]
fn rule_8_nothing_irrevocable_on_stale_knowledge() {
    let stale: &[Change] = &[
        ("incomplete", |case| case.snapshot.incomplete = Some("pods not synced".into())),
        ("KubeVirt is missing", |case| case.snapshot.kubevirt.problem = Some(KubeVirtProblem::Missing)),
        ("VM not measured", |case| {
            case.snapshot.load.vms.remove(&vm_key("busy"));
        }),
        ("source not measured", |case| {
            case.snapshot.load.nodes.remove(&NodeName::new("d1"));
        }),
        ("source vanished", |case| {
            case.snapshot.nodes.remove(&NodeName::new("d1"));
        }),
        ("source does not answer", |case| case.node("s1").virt_handler_ready = false),
        ("window not full", |case| {
            let mut short = LoadHistory::default();
            short.push(NOW, Span::from_secs(1), Cores::new(7.6).unwrap());
            case.snapshot.load.nodes.insert(NodeName::new("s1"), short);
        }),
    ];
    refused_for(Rule::Knowledge, Case::good, stale);
    refused_for(Rule::Knowledge, Case::good_night, &stale[..1]);
    let mut later = Case::good();
    later.plan.steps.truncate(1);
    let violations = check(&later.snapshot, &later.policies, &later.plan, NOW + Span::from_secs(4));
    assert!(!violations.is_empty() && violations.iter().all(|violation| violation.rule() == Rule::Knowledge));
}

#[test]
fn rule_10_there_are_times_to_stand_still() {
    let still: &[Change] = &[
        ("paused", |case| case.snapshot.switches.paused = Some("by admin".into())),
        ("held", |case| case.snapshot.switches.held = Some("by admin".into())),
        ("rollout", |case| case.snapshot.kubevirt.rolling_out = true),
        ("the policy holds", |case| case.policy().held = Some("upgrade".into())),
        ("the policy waits for a backup", |case| case.policy().backup = Some("VM shop/db".into())),
        ("outside its schedule", |case| case.policy().in_schedule = false),
        ("a rival", |case| case.policy().rival = Some("descheduler".into())),
    ];
    refused_for(Rule::Standstill, Case::good, still);
    refused_for(Rule::Standstill, Case::good_night, still);
    allowed(
        Case::good,
        &[("recommending beside a rival", |case| {
            case.policy().rival = Some("descheduler".into());
            case.policy().mode = PolicyMode::Recommend;
        })],
    );
}

#[test]
fn a_step_serves_what_was_declared() {
    let undeclared: &[Change] = &[
        ("no such policy", |case| case.policies.policies.clear()),
        ("off", |case| case.policy().mode = PolicyMode::Off),
        ("invalid", |case| case.policy().invalid = Some("thresholds".into())),
        ("another policy rules the class", |case| {
            let stronger = Policy { priority: 1, ..policy("q", &["dedicated"]) };
            case.policies.policies.insert(stronger.name.clone(), stronger);
        }),
    ];
    refused_for(Rule::Declared, Case::good, undeclared);
    refused_for(Rule::Declared, Case::good_night, undeclared);
    refused_for(
        Rule::Declared,
        Case::good,
        &[
            ("not selected", |case| case.policy().vms.vms = Selector::label("app", "busy")),
            ("no class", |case| {
                case.node("d2").labels.remove("class");
            }),
            ("two classes", |case| {
                let twin = NodeClass { name: ClassName::new("twin"), ..class("dedicated", Role::Dedicated) };
                case.policies.classes.insert(twin.name.clone(), twin);
            }),
            ("invalid class", |case| case.class("dedicated").invalid = Some("bad".into())),
            ("busy to shared", |case| {
                case.step(0).target = NodeName::new("s2");
                case.plan.steps.truncate(1);
            }),
            ("untrue load", |case| {
                case.step(0).reason = MoveReason::Overload { node_load: percent(99.0), threshold: percent(90.0) };
            }),
            ("undeclared threshold", |case| {
                case.step(0).reason = MoveReason::Overload { node_load: percent(95.0), threshold: percent(80.0) };
            }),
            ("threshold not reached", |case| {
                case.policy().thresholds.overload = percent(96.0);
                case.step(0).reason = MoveReason::Overload { node_load: percent(95.0), threshold: percent(96.0) };
            }),
            ("name taken", |case| {
                let name = case.step(0).migration.clone();
                let mut finished = case.add_migration("other", "s1", "d1", MigrationPhase::Failed).clone();
                finished.name = name.clone();
                case.snapshot.migrations = BTreeMap::from([(name, finished)]);
            }),
        ],
    );
}

#[test]
fn promises_of_running_plans_count() {
    let mut case = Case::good();
    case.add_vm("promised", "d1", 8, 1.0);
    let promise = RecordedStep::Migrate {
        vm: vm_key("promised"),
        uid: Uid::new("promised-uid"),
        source: NodeName::new("d1"),
        target: NodeName::new("d2"),
        mode: MigrationMode::PreCopy,
        migration: MigrationName::new("default", "promised"),
        reason: MoveKind::Overload,
        migration_uid: None,
        started: None,
        ended: None,
        outcome: StepOutcome::Waiting,
        mode_ignored: false,
        taken_back: None,
        failure: None,
    };
    let record = PlanRecord {
        name: PlanName::new("plan"),
        policy: PolicyName::new("p"),
        needs_approval: false,
        approved: false,
        decided: NOW,
        ended: None,
        expires: NOW,
        phase: PlanPhase::Running,
        steps: vec![promise],
        refusals: Vec::new(),
    };
    case.snapshot.plans.insert(record.name.clone(), record);
    let rules: Vec<_> = case.violations().iter().map(|violation| (violation.rule(), violation.step)).collect();
    assert_eq!(rules, [(Rule::DedicatedCores, Some(0))]);
}

#[test]
fn a_cluster_that_breaks_rules_is_not_wedged() {
    allowed(
        Case::good,
        &[
            ("a dedicated node with fewer cores than vCPUs is left", |case| {
                case.node("d1").allocatable = Resources::new(MilliCpu(1000), Bytes::gib(1), 1);
            }),
            ("a node under maintenance is left", |case| case.node("s1").maintenance = Some("drain".into())),
            ("another node has more migrations than allowed", |case| {
                for name in ["a", "b"] {
                    case.add_vm(name, "d4", 1, 0.5);
                    case.add_migration(name, "d4", "d1", MigrationPhase::Running);
                }
            }),
        ],
    );
}
