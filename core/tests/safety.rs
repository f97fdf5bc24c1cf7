//! Whatever the cluster looks like, the planner does not panic, decides the same twice, and breaks no rule.

use miyako_core::{
    check::check,
    generate::{Cluster, Shape},
    plan::decide,
};
use proptest::{prelude::*, test_runner::FileFailurePersistence};

/// Clusters of all shapes: the seed makes the cluster, the shape can shrink.
fn shapes(damage: std::ops::Range<usize>) -> impl Strategy<Value = Shape> {
    (0..6_usize, 0..8_usize, 0..60_usize, 0..60_u64, 0..100_u64, damage).prop_map(
        |(shared, dedicated, vms, special, hot, damage)| Shape {
            shared,
            dedicated,
            vms,
            daemons: 2,
            special,
            hot,
            damage,
        },
    )
}

fn decides_safely(shape: &Shape, seed: u64) -> Result<(), TestCaseError> {
    let Cluster { snapshot, policies, now } = Cluster::generate(shape, seed);
    let (plan, report) = decide(&snapshot, &policies, now, seed);
    let (again, report_again) = decide(&snapshot, &policies, now, seed);
    prop_assert_eq!(&plan, &again);
    prop_assert_eq!(format!("{report:?}"), format!("{report_again:?}"));
    let violations = check(&snapshot, &policies, &plan, now);
    prop_assert!(violations.is_empty(), "{violations:#?}\nof the plan {plan:#?}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn plausible_clusters_get_safe_plans(shape in shapes(0..1), seed: u64) {
        decides_safely(&shape, seed)?;
    }

    #[test]
    fn broken_clusters_get_safe_plans(shape in shapes(1..40), seed: u64) {
        decides_safely(&shape, seed)?;
    }
}

/// The properties above would hold of a planner that does nothing; this one does much.
#[test]
fn the_made_up_clusters_give_the_planner_work() {
    let (mut moves, mut wakes) = (0, 0);
    for seed in 0..100 {
        let Cluster { snapshot, policies, now } = Cluster::generate(&Shape::SMALL, seed);
        let (plan, _) = decide(&snapshot, &policies, now, seed);
        moves += plan.migrations().count();
        wakes += plan.steps.len() - plan.migrations().count();
    }
    assert!(moves >= 100, "{moves} moves in 100 clusters");
    assert!(wakes >= 5, "{wakes} other steps in 100 clusters");
}
