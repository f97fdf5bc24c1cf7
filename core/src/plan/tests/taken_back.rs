//! Migrations that are taken back, and what is left of them: the reason in the plan, and no label on the VM.

use super::*;

fn words() -> TargetTrouble {
    TargetTrouble::NotCreated("maximum memory usage per Pod is 256Mi".into())
}

/// A VM whose move was asked for, with the plan's record of it.
fn asked() -> (World, PlanRecord, MigrationName) {
    let mut world = World::new();
    world.vm("idle", "dedicated-0", 0.1);
    asked_for(&mut world, "idle", MigrationPhase::Pending);
    world.snapshot.migrations.values_mut().for_each(|migration| migration.created = NOW);
    let mut plan = record(&world, &[("idle", "dedicated-0", "shared-0", StepOutcome::Running)]);
    plan.phase = PlanPhase::Running;
    let name = world.snapshot.migrations.keys().next().unwrap().clone();
    world.snapshot.plans.insert(plan.name.clone(), plan.clone());
    (world, plan, name)
}

/// The record once this state is noted.
fn noted(plan: &PlanRecord, state: &StepState) -> PlanRecord {
    let mut plan = plan.clone();
    if let RecordedStep::Migrate { taken_back, migration_uid, .. } = &mut plan.steps[0] {
        (*taken_back, *migration_uid) = (state.taken_back.clone(), state.migration_uid.clone());
    }
    plan
}

fn aborts(world: &World) -> usize {
    world.decide().0.steps.iter().filter(|step| matches!(step, Step::Abort { .. })).count()
}

#[test]
fn why_a_migration_is_taken_back_is_noted_before_it_is_deleted() {
    for trouble in [words(), TargetTrouble::Unschedulable("0/3".into()), TargetTrouble::QuotaRefused("full".into())] {
        let (mut world, plan, name) = asked();
        world.snapshot.migrations.get_mut(&name).unwrap().trouble = Some(trouble.clone());
        assert_eq!(aborts(&world), 0, "nothing would tell why");
        let next = carried(&world, &plan, NOW);
        assert_eq!(next.steps[0].outcome, StepOutcome::Running);
        assert_eq!(next.steps[0].taken_back, Some(TakenBack::because_of(&trouble)));
        let plan = noted(&plan, &next.steps[0]);
        world.snapshot.plans.insert(plan.name.clone(), plan.clone());
        assert_eq!(aborts(&world), 1);

        // It is gone, and whoever leads by now knows only the plan.
        world.snapshot.migrations.clear();
        let state = carried(&world, &plan, NOW + Span::from_secs(5)).steps[0].clone();
        assert_eq!((state.outcome, state.reason), (StepOutcome::Failed, Some(trouble.name())));
        assert_eq!(state.message, Some(trouble.to_string()));
    }
}

#[test]
fn a_plan_that_cannot_be_written_to_keeps_no_migration_for_ever() {
    let (mut world, _, name) = asked();
    let migration = world.snapshot.migrations.get_mut(&name).unwrap();
    (migration.trouble, migration.created) = (Some(words()), NOW - Span::from_secs(60));
    assert_eq!(aborts(&world), 1);
}

#[test]
fn a_migration_that_somebody_else_deletes_says_so() {
    let (mut world, plan, _) = asked();
    let plan = noted(&plan, &carried(&world, &plan, NOW).steps[0]);
    world.snapshot.migrations.clear();
    let state = carried(&world, &plan, NOW + Span::from_secs(5)).steps[0].clone();
    assert_eq!((state.outcome, state.reason), (StepOutcome::Failed, Some("MigrationDeleted")));
    assert!(state.message.unwrap().contains("somebody deleted"));
}

#[test]
fn a_target_that_comes_up_after_all_is_not_taken_back() {
    let (mut world, plan, name) = asked();
    world.snapshot.migrations.get_mut(&name).unwrap().trouble = Some(words());
    let plan = noted(&plan, &carried(&world, &plan, NOW).steps[0]);
    let migration = world.snapshot.migrations.get_mut(&name).unwrap();
    (migration.trouble, migration.phase) = (None, MigrationPhase::Running);
    world.snapshot.plans.insert(plan.name.clone(), plan.clone());
    assert_eq!(aborts(&world), 0);
    let next = carried(&world, &plan, NOW);
    assert_eq!((next.steps[0].outcome, &next.steps[0].taken_back), (StepOutcome::Running, &None));
}

#[test]
fn kubevirts_own_time_out_has_the_schedulers_reason() {
    let (mut world, plan, name) = asked();
    let migration = world.snapshot.migrations.get_mut(&name).unwrap();
    migration.trouble = Some(TargetTrouble::Unschedulable("0/3 nodes".into()));
    migration.phase = MigrationPhase::Failed;
    let state = carried(&world, &plan, NOW).steps[0].clone();
    assert_eq!((state.outcome, state.reason), (StepOutcome::Failed, Some("TargetUnschedulable")));
}

#[test]
fn a_vm_bears_our_label_only_while_a_migration_of_ours_needs_it() {
    let (mut world, mut plan, name) = asked();
    let key = VmKey::new("vms", "idle");
    let stray = |world: &World| stray_labels(&world.snapshot, []).into_iter().map(|(vm, _)| vm).collect::<Vec<_>>();
    assert_eq!(stray(&world), [], "it has none");
    world.vm_mut("idle").mode_label = Some(MigrationMode::PostCopy);
    assert_eq!(stray(&world), [], "its step runs");
    world.snapshot.plans.clear();
    assert_eq!(stray(&world), [], "its migration runs, whatever became of the plan");
    world.snapshot.migrations.get_mut(&name).unwrap().phase = MigrationPhase::Succeeded;
    assert_eq!(stray(&world), std::slice::from_ref(&key));
    world.snapshot.migrations.clear();
    assert_eq!(stray(&world), std::slice::from_ref(&key));
    let deed = Deed::LabelVm { vm: key.clone(), uid: Uid::new("uid-idle"), mode: MigrationMode::PreCopy };
    assert_eq!(stray_labels(&world.snapshot, [&deed]), [], "this very pass needs it");

    // A plan that begins may have died after the label; one that waits for a person has not begun.
    plan.phase = PlanPhase::Proposed;
    if let RecordedStep::Migrate { outcome, .. } = &mut plan.steps[0] {
        *outcome = StepOutcome::Waiting;
    }
    world.snapshot.plans.insert(plan.name.clone(), plan.clone());
    assert_eq!(stray(&world), []);
    plan.needs_approval = true;
    world.snapshot.plans.insert(plan.name.clone(), plan);
    assert_eq!(stray(&world), [key]);

    world.snapshot.incomplete = Some("plans are not listed".into());
    assert_eq!(stray(&world), [], "a plan may be there that is not seen");
}

#[test]
fn a_users_own_migration_policy_rules_a_move_without_our_label() {
    let mut world = World::new();
    world.vm("idle", "dedicated-0", 0.1);
    let plan = record(&world, &[("idle", "dedicated-0", "shared-0", StepOutcome::Waiting)]);
    let deeds = |world: &World| {
        let name = |deed: &Deed| match deed {
            Deed::LabelVm { .. } => "label",
            Deed::UnlabelVm { .. } => "unlabel",
            Deed::Migrate { .. } => "migrate",
        };
        carried(world, &plan, NOW).deeds.iter().map(|(_, deed)| name(deed)).collect::<Vec<_>>()
    };
    assert_eq!(deeds(&world), ["label", "migrate"]);
    world.vm_mut("idle").mode_label = Some(MigrationMode::PreCopy);
    assert_eq!(deeds(&world), ["label", "migrate"], "the cache may be behind a label that was taken off");
    world.vm_mut("idle").user_migration_policy = Some("theirs".into());
    assert_eq!(deeds(&world), ["unlabel", "migrate"]);
    world.vm_mut("idle").mode_label = None;
    assert_eq!(deeds(&world), ["migrate"]);
}
