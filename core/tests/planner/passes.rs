//! Whole passes: what is wished is written once, and goes on from what was written.

use miyako_core::{
    generate::{Cluster, Shape},
    model::{PlanPhase, PolicyMode, Span},
    pass::{Known, think},
};

fn clusters() -> impl Iterator<Item = Cluster> {
    (0..60).map(|seed| Cluster::generate(&Shape::SMALL, seed)).chain((0..60).map(Cluster::night))
}

#[test]
fn a_wish_is_written_once_and_carried_on_from_there() {
    let (mut written, mut begun) = (0, 0);
    for mut cluster in clusters() {
        let known = Known::default();
        let thoughts = think(&cluster.snapshot, &cluster.policies, &known, cluster.now, 1);
        assert_eq!(thoughts.violations, []);
        let new: Vec<_> = thoughts.carried.iter().filter(|carried| carried.new.is_some()).collect();
        for carried in &new {
            let policy = &cluster.policies.policies[&carried.record.policy];
            assert_eq!(carried.record.needs_approval, policy.mode == PolicyMode::Recommend);
            let waits = carried.next.phase == PlanPhase::Proposed;
            assert!(carried.record.is_cleared() || waits, "people are asked first: {carried:?}");
            begun += usize::from(!waits);
            cluster.snapshot.plans.insert(carried.record.name.clone(), carried.record.clone());
        }
        written += new.len();
        // The next pass sees them before they have begun, and makes no second one of the same wish.
        let again = think(&cluster.snapshot, &cluster.policies, &known, cluster.now, 1);
        let twice = again.carried.iter().filter(|carried| carried.new.is_some());
        let twice: Vec<_> =
            twice.filter(|carried| new.iter().any(|one| one.record.name == carried.record.name)).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }
    assert!(written >= 60 && begun >= 30, "{written} plans written, {begun} begun");
}

#[test]
fn a_wish_whose_plan_is_over_waits_for_its_respite() {
    let mut waited = 0;
    for cluster in clusters() {
        let mut known = Known::default();
        let names = |known: &Known, after: u64| -> Vec<_> {
            let now = cluster.now + Span::from_secs(after);
            let thoughts = think(&cluster.snapshot, &cluster.policies, known, now, 1);
            thoughts.carried.into_iter().filter_map(|carried| Some(carried.new?.name)).collect()
        };
        let first = names(&known, 0);
        known.over = first.iter().map(|name| (name.clone(), cluster.now)).collect();
        let at_once = names(&known, 0);
        assert!(at_once.is_empty(), "{at_once:?} came back at once");
        waited += first.len();
    }
    assert!(waited >= 60, "{waited} wishes");
}
