//! Under constant load the planner comes to rest: nobody is moved twice, and at last there is nothing to do.

use miyako_core::{
    check::check,
    generate::{Cluster, Shape},
    model::{PolicyMode, Span, Step},
    plan::decide,
};
use proptest::{prelude::*, test_runner::FileFailurePersistence};
use std::collections::BTreeMap;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 16,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn nobody_is_moved_twice_for_constant_load(seed: u64, hot in 0..60_u64) {
        let mut cluster = Cluster::generate(&Shape { hot, special: 10, ..Shape::SMALL }, seed);
        cluster.snapshot.history = Default::default();
        cluster.policies.policies.values_mut().for_each(|policy| policy.mode = PolicyMode::Automatic);
        let mut moved: BTreeMap<_, u32> = BTreeMap::new();
        let mut quiet = 0;
        for round in 0..120 {
            cluster.pass(Span::from_secs(30));
            let (plan, _) = decide(&cluster.snapshot, &cluster.policies, cluster.now, round);
            let violations = check(&cluster.snapshot, &cluster.policies, &plan, cluster.now);
            prop_assert!(violations.is_empty(), "{violations:#?}");
            for step in &plan.steps {
                if let Step::Migrate(step) = step {
                    let times = moved.entry(step.uid.clone()).or_default();
                    *times += 1;
                    prop_assert!(*times < 2, "{} is moved again: {}", step.vm, step.reason);
                }
            }
            quiet = if plan.steps.is_empty() { quiet + 1 } else { 0 };
            cluster.carry_out(&plan);
        }
        prop_assert!(quiet >= 10, "still busy after an hour of constant load");
    }
}
