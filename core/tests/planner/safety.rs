//! Whatever the cluster looks like, the planner does not panic, decides the same twice, and breaks no rule.

use miyako_core::{
    check::check,
    generate::{Cluster, Shape},
    model::{Cores, LoadHistory, Span, Step},
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
    decides_well(&Cluster::generate(shape, seed), seed)
}

fn decides_well(Cluster { snapshot, policies, now }: &Cluster, seed: u64) -> Result<(), TestCaseError> {
    let (plan, report) = decide(snapshot, policies, *now, seed);
    let (again, report_again) = decide(snapshot, policies, *now, seed);
    prop_assert_eq!(&plan, &again);
    prop_assert_eq!(format!("{report:?}"), format!("{report_again:?}"));
    let violations = check(snapshot, policies, &plan, *now);
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

    /// Several VMs may go to one shared node at once, and the newest samples say something else than the averages: what
    /// is on its way is judged by the same figure when it is planned and when it is checked.
    #[test]
    fn swinging_loads_get_safe_plans(seed: u64, at_once in 2..5_u32, fill in 0.3..0.85_f64, was in 0.1..0.6_f64, is in 0.0..0.6_f64) {
        let mut cluster = Cluster::generate(&Shape { special: 5, hot: 0, ..Shape::SMALL }, seed);
        for policy in cluster.policies.policies.values_mut() {
            policy.budgets.concurrent_per_shared_node = at_once;
        }
        let Cluster { snapshot, now, .. } = &mut cluster;
        snapshot.kubevirt.parallel_per_cluster = 20;
        let push = |history: &mut LoadHistory, was: f64, is: f64| {
            history.push(*now + Span::from_secs(4), Span::from_secs(4), Cores::new(was).unwrap());
            history.push(*now + Span::from_secs(5), Span::from_secs(1), Cores::new(is).unwrap());
        };
        for (key, history) in &mut snapshot.load.vms {
            let vcpus = snapshot.vms.get(key).map_or(0.0, |vm| f64::from(vm.vcpus));
            push(history, was * vcpus, is * vcpus);
        }
        for (name, history) in &mut snapshot.load.nodes {
            let load = snapshot.nodes.get(name).map_or(0.0, |node| fill * node.allocatable.cpu.cores().value());
            push(history, load, load);
        }
        *now = *now + Span::from_secs(5);
        decides_well(&cluster, seed)?;
    }

    /// What the planner would suspend, the check allows, though they judge by different code.
    #[test]
    fn quiet_clusters_get_safe_plans(seed: u64) {
        decides_well(&Cluster::night(seed), seed)?;
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
    let suspends = |seed| {
        let Cluster { snapshot, policies, now } = Cluster::night(seed);
        let (plan, _) = decide(&snapshot, &policies, now, seed);
        plan.steps.iter().filter(|step| matches!(step, Step::Suspend(_))).count()
    };
    let suspends: usize = (0..100).map(suspends).sum();
    assert!(suspends >= 20, "{suspends} suspends in 100 quiet clusters");
    assert!(moves >= 100, "{moves} moves in 100 clusters");
    assert!(wakes >= 5, "{wakes} other steps in 100 clusters");
}
