//! Every change of what people declared judges open proposals anew.

use super::*;

/// The plan for what is wished now, as it is written in this mode, and a world in which it waits.
fn proposed(world: &mut World, mode: PolicyMode) -> PlanName {
    world.policy().mode = mode;
    let (plan, _) = world.decide();
    let policy = &world.policies.policies[&PolicyName::new("pack")];
    let name = plan_name(policy, None, &plan, 0);
    let record = PlanRecord {
        name: name.clone(),
        policy: "pack".into(),
        needs_approval: mode == PolicyMode::Recommend,
        approved: false,
        decided: NOW,
        ended: None,
        expires: NOW + Span::from_secs(3600),
        phase: PlanPhase::Proposed,
        steps: plan.steps.iter().filter_map(RecordedStep::of).collect(),
        refusals: Vec::new(),
    };
    assert!(!record.steps.is_empty(), "something is wished");
    let expected = |step: &Step| matches!(step, Step::Migrate(_) | Step::Wake(_));
    assert!(plan.steps.iter().all(expected), "not expected here: {:?}", plan.steps);
    world.snapshot.plans.insert(name.clone(), record);
    name
}

fn overloaded() -> World {
    let mut world = World::new();
    world.vm("busy", "shared-0", 1.9);
    world
}

fn is_obsolete(world: &World, name: &PlanName) -> bool {
    matches!(world.decide().1.proposals[name], ProposalVerdict::Obsolete { .. })
}

#[test]
fn what_waits_for_people_gives_way_at_once_where_nobody_is_asked_any_more() {
    let mut world = overloaded();
    let name = proposed(&mut world, PolicyMode::Recommend);
    assert_eq!(world.moves(), [""; 0], "the same wish is not made twice");
    world.policy().mode = PolicyMode::Automatic;
    assert!(is_obsolete(&world, &name));
    assert_eq!(world.moves(), ["busy: shared-0 -> dedicated-0 PostCopy"], "planned anew in the same pass");
    let (plan, _) = world.decide();
    let anew = plan_name(&world.policies.policies[&PolicyName::new("pack")], None, &plan, 0);
    assert_ne!(anew, name, "its respite is not that of the old one");
    // What somebody approved is cleared, and is carried out.
    world.snapshot.plans.get_mut(&name).unwrap().approved = true;
    assert!(!is_obsolete(&world, &name));
    assert_eq!(world.moves(), [""; 0]);
}

#[test]
fn what_waits_for_nobody_does_not_begin_where_people_are_asked_by_now() {
    let mut world = overloaded();
    let name = proposed(&mut world, PolicyMode::Automatic);
    assert!(!is_obsolete(&world, &name));
    world.policy().mode = PolicyMode::Recommend;
    assert!(is_obsolete(&world, &name));
    // One of whose steps some have begun goes on with those alone.
    world.vm("idle", "dedicated-0", 0.1);
    let mut plan = record(
        &world,
        &[
            ("busy", "shared-0", "dedicated-1", StepOutcome::Running),
            ("idle", "dedicated-0", "shared-0", StepOutcome::Waiting),
        ],
    );
    (plan.phase, plan.needs_approval) = (PlanPhase::Running, false);
    let (name, verdict) =
        (plan.name.clone(), |world: &World, name: &PlanName| world.decide().1.proposals[name].clone());
    world.snapshot.plans.insert(name.clone(), plan.clone());
    let verdict = verdict(&world, &name);
    assert!(matches!(verdict, ProposalVerdict::Obsolete { .. }));
    let next = carry(&plan, Some(&verdict), &mut Pass::default(), &world.snapshot, &world.policies, NOW);
    let outcomes: Vec<_> = next.steps.iter().map(|step| step.outcome).collect();
    assert_eq!(outcomes[1], StepOutcome::Skipped);
    assert_ne!(outcomes[0], StepOutcome::Skipped, "it is followed to its end");
}

#[test]
fn every_change_of_what_was_declared_judges_a_proposal_anew() {
    type Change = fn(&mut World);
    let cases: [(&str, Change); 9] = [
        ("the policy no longer names the class", |world| world.policy().classes = vec!["shared".into()]),
        ("the VM is not selected", |world| world.policy().vms.vms = Selector::label("tier", "gold")),
        ("its owner opted out", |world| world.vm_mut("busy").marks.never_consolidate = true),
        ("it can't migrate any more", |world| world.vm_mut("busy").not_migratable = Some("a local disk".into())),
        ("moves go another way", |world| world.policy().migration = MigrationChoice::PreCopy),
        ("the target's class has another role", |world| {
            world.policies.classes.get_mut(&ClassName::new("dedicated")).unwrap().role = Role::Shared;
        }),
        ("another policy with a higher priority has the class", |world| {
            let mut rival = world.policy().clone();
            (rival.name, rival.priority) = (PolicyName::new("rival"), 1);
            world.policies.policies.insert(rival.name.clone(), rival);
        }),
        ("the class selects other nodes", |world| {
            let class = world.policies.classes.get_mut(&ClassName::new("shared")).unwrap();
            class.nodes = Selector::label("class", "else");
        }),
        ("the threshold is above the load", |world| {
            world.policy().thresholds.overload = Percent::threshold(99.0).unwrap();
            world.policy().changed = NOW + Span::from_secs(1);
        }),
    ];
    for (what, change) in cases {
        let mut world = overloaded();
        let name = proposed(&mut world, PolicyMode::Recommend);
        assert!(!is_obsolete(&world, &name), "{what}");
        change(&mut world);
        assert!(is_obsolete(&world, &name), "{what}");
    }
    // A hot-plug is over in a moment.
    let mut world = overloaded();
    let name = proposed(&mut world, PolicyMode::Recommend);
    world.vm_mut("busy").activity = Some(VmActivity::Hotplugging);
    assert!(!is_obsolete(&world, &name));
}

/// A wake for a pod asks nobody, so it does not wait until somebody approves a move that wakes the same node.
#[test]
fn a_proposal_that_nobody_approved_keeps_no_node_from_being_woken_for_a_pod() {
    let mut world = overloaded();
    for node in ["dedicated-0", "dedicated-1"] {
        world.node_mut(node).power = PowerState::Suspended;
    }
    let name = proposed(&mut world, PolicyMode::Recommend);
    let wakes = |world: &World| world.decide().0.steps.iter().filter(|step| matches!(step, Step::Wake(_))).count();
    let RecordedStep::Wake { node, .. } = world.snapshot.plans[&name].steps[0].clone() else { panic!("a wake") };
    world.snapshot.nodes.retain(|other, _| *other == node || other.as_str() == "shared-0");
    assert_eq!(wakes(&world), 0, "it is proposed already");
    world.vm("pending", "shared-0", 0.0);
    let pod = world.snapshot.pods.values_mut().find(|pod| pod.key.name.as_str().contains("pending")).unwrap();
    (pod.node, pod.phase, pod.unschedulable) = (None, PodPhase::Pending, true);
    assert_eq!(wakes(&world), 1);
}
