//! Samples of agents.

use super::*;
use crate::observe::load::{NodeProblem, Refusal, StreamId};
use std::collections::BTreeMap;

/// A store that took in a good sample each second from 1 to `seconds`.
fn after(seconds: u64) -> (LoadStore, StreamId) {
    let mut store = store();
    let stream = store.open_stream(&node("a"));
    for second in 1..=seconds {
        let verdict = store.accept(stream, &node("a"), &sample(second, at(second), 4.0, 1.0), at(second));
        assert_eq!(verdict.refusals().count(), 0);
    }
    (store, stream)
}

/// What becomes of one changed sample after ten good ones.
fn judged(change: impl FnOnce(&mut NodeSample)) -> (LoadStore, Vec<Refusal>) {
    let (mut store, stream) = after(10);
    let mut changed = sample(11, at(11), 4.0, 1.0);
    change(&mut changed);
    let verdict = store.accept(stream, &node("a"), &changed, at(11));
    let refusals = verdict.refusals().cloned().collect();
    (store, refusals)
}

fn refusal(change: impl FnOnce(&mut NodeSample)) -> Refusal {
    let (mut store, refusals) = judged(change);
    let [refusal] = refusals.as_slice() else { panic!("{refusals:?} is not one refusal") };
    assert_eq!(store.refused(), &BTreeMap::from([(refusal.reason(), 1)]));
    assert_eq!(full(node_window(&mut store, "a", at(11), SECOND * 5)), 4.0, "the windows know nothing of it");
    refusal.clone()
}

#[test]
fn windows_fill_with_what_is_measured() {
    let (mut store, _) = after(6);
    assert_eq!(full(node_window(&mut store, "a", at(6), SECOND * 5)), 4.0);
    assert_eq!(full(vm_window(&mut store, "web", at(6), SECOND * 5)), 1.0);
    assert!(matches!(node_window(&mut store, "a", at(10), SECOND * 5), WindowAverage::Stale { .. }));
    assert_eq!(node_window(&mut store, "b", at(6), SECOND * 5), WindowAverage::Never);
}

#[test]
fn figures_that_can_not_be_true_are_refused() {
    let cpu = |value| refusal(|sample| sample.usage = usage(value));
    assert_eq!(cpu(f64::NAN), Refusal::NotFinite { field: "cpu_cores" });
    assert_eq!(cpu(f64::INFINITY), Refusal::NotFinite { field: "cpu_cores" });
    assert_eq!(cpu(-0.5), Refusal::Negative { field: "cpu_cores", value: -0.5 });
    assert_eq!(cpu(33.0), Refusal::Absurd { field: "cpu_cores", value: 33.0, most: 32.0 });
    assert_eq!(refusal(|sample| sample.usage = None), Refusal::NoFigures);
    assert_eq!(refusal(|sample| sample.usage.as_mut().unwrap().memory_bytes = Some(u64::MAX)).reason(), "Absurd");
    let network = refusal(|sample| sample.usage.as_mut().unwrap().network_receive_bytes_per_second = Some(f64::NAN));
    assert_eq!(network, Refusal::NotFinite { field: "network_receive_bytes_per_second" });
}

#[test]
fn watts_that_can_not_be_cost_nothing_else_and_the_node_is_modelled() {
    let metered = |store: &LoadStore, second: u64| store.metered(at(second)).rapl.get(&node("a")).map(|it| it.value());
    let (store, refusals) = judged(|sample| sample.watts = Some(61.5));
    assert_eq!((metered(&store, 11), refusals.len()), (Some(61.5), 0));
    assert_eq!((metered(&store, 14), metered(&store, 15)), (Some(61.5), None), "stale after three seconds");
    let field = "watts";
    for (bad, refusal) in [
        (f64::NAN, Refusal::NotFinite { field }),
        (f64::NEG_INFINITY, Refusal::NotFinite { field }),
        (-1.0, Refusal::Negative { field, value: -1.0 }),
        (100_001.0, Refusal::Absurd { field, value: 100_001.0, most: 1e5 }),
    ] {
        let (mut store, refusals) = judged(|sample| sample.watts = Some(bad));
        assert_eq!((refusals, metered(&store, 11)), (vec![refusal], None));
        assert_eq!(store.node_figures(&node("a")).unwrap().0, at(11), "its load counts all the same");
        assert_eq!(full(node_window(&mut store, "a", at(11), SECOND * 5)), 4.0);
    }
}

#[test]
fn one_vms_nonsense_costs_that_vm_only() {
    let (mut store, refusals) = judged(|sample| sample.vms[0].usage = usage(f64::NAN));
    assert_eq!(refusals, [Refusal::NotFinite { field: "cpu_cores" }]);
    assert_eq!(store.node_figures(&node("a")).unwrap().0, at(11), "the node's own part counts");
    assert_eq!(store.vm_figures(&vm("web")).unwrap().0, at(10));
    let problems = store.problems(at(11));
    assert!(matches!(problems.get(&node("a")), Some(NodeProblem::PartlyRefused(_))));
    assert_eq!(full(vm_window(&mut store, "web", at(11), SECOND * 5)), 1.0);
}

#[test]
fn samples_from_the_future_and_the_past_are_refused_and_their_node_shows_it() {
    let moved = |by: i64| {
        move |sample: &mut NodeSample| {
            sample.sampled_unix_ms += by;
            sample.sent_unix_ms += by;
        }
    };
    assert_eq!(refusal(moved(3_001)), Refusal::FromTheFuture { by_millis: 3_001 });
    assert_eq!(refusal(moved(-3_001)), Refusal::FromThePast { by_millis: 3_001 });
    let (store, _) = judged(moved(3_600_000));
    assert_eq!(store.problems(at(11)).get(&node("a")).map(NodeProblem::reason), Some("ClockSkew"));
    let (store, refusals) = judged(moved(2_900));
    assert_eq!((refusals, store.problems(at(11))), (vec![], BTreeMap::new()), "a little off is no matter");
}

#[test]
fn times_within_a_sample_must_make_sense() {
    let sampled = |by: i64| refusal(move |sample| sample.sampled_unix_ms = sample.sent_unix_ms + by);
    assert_eq!(sampled(1), Refusal::SampledAfterSent { by_millis: 1 });
    assert_eq!(sampled(-3_001), Refusal::HeldBack { for_millis: 3_001 });
}

#[test]
fn age_is_counted_by_our_clock_and_the_agents_own_delay() {
    let (mut store, stream) = after(1);
    let mut late = sample(2, at(4), 4.0, 1.0);
    late.sampled_unix_ms -= 2_000;
    // Its clock is two seconds ahead of ours.
    late.sampled_unix_ms += 2_000;
    late.sent_unix_ms += 2_000;
    store.accept(stream, &node("a"), &late, at(4));
    assert_eq!(store.node_figures(&node("a")).unwrap().0, at(2));
}

#[test]
fn an_agent_that_tells_how_long_its_machine_runs_may_have_any_clock() {
    let refused = |change: &dyn Fn(&mut NodeSample), under_way: u64| {
        let (mut store, stream) = after(1);
        let mut told = sample(2, at(4), 4.0, 1.0);
        (told.sampled_boot_ms, told.sent_boot_ms) = (Some(500_000), Some(500_500));
        change(&mut told);
        let verdict = store.accept_late(stream, &node("a"), &told, at(4), Span::from_millis(under_way));
        verdict.refused.map(|refusal| refusal.reason()).ok_or_else(|| store.node_figures(&node("a")).unwrap().0)
    };
    for off in [7_200_000, -7_200_000] {
        let moved = |sample: &mut NodeSample| {
            sample.sampled_unix_ms += off;
            sample.sent_unix_ms += off;
        };
        assert_eq!(
            refused(&moved, 500),
            Err(at(3)),
            "dated by its arrival, and by what it was held back and under way"
        );
    }
    assert_eq!(refused(&|_| {}, 3_001), Ok("UnderWay"));
    assert_eq!(refused(&|sample| sample.sent_boot_ms = Some(503_001), 0), Ok("HeldBack"));
    assert_eq!(refused(&|sample| sample.sent_boot_ms = Some(499_999), 0), Ok("SampledAfterSent"));
    let (mut store, stream) = after(1);
    let mut half = sample(2, at(4), 4.0, 1.0);
    (half.sampled_boot_ms, half.sent_unix_ms) = (Some(1), half.sent_unix_ms + 60_000);
    let verdict = store.accept(stream, &node("a"), &half, at(4));
    assert_eq!(verdict.refused.unwrap().reason(), "ClockSkew", "half of it tells nothing: as before");
}

#[test]
fn sequence_numbers_only_grow() {
    assert_eq!(refusal(|sample| sample.sequence = 10), Refusal::Duplicate(10));
    assert_eq!(refusal(|sample| sample.sequence = 3), Refusal::OutOfOrder { got: 3, newest: 10 });
}

#[test]
fn an_agent_that_restarts_counts_anew_on_its_new_stream() {
    let (mut store, old) = after(10);
    let new = store.open_stream(&node("a"));
    assert_eq!(store.accept(new, &node("a"), &sample(1, at(11), 4.0, 1.0), at(11)).refusals().count(), 0);
    let late = store.accept(old, &node("a"), &sample(11, at(11), 8.0, 8.0), at(11));
    assert_eq!(late.refused, Some(Refusal::Superseded));
    store.close_stream(&node("a"), old);
    assert_eq!(store.agents_connected(), 1);
}

#[test]
fn two_agents_of_one_node_are_both_named() {
    let (mut store, _) = after(10);
    let mut streams = Vec::new();
    for second in 11..16 {
        let pod = if second % 2 == 0 { "miyako-agent-x" } else { "old-agent-y" };
        let stream = store.open_stream_of(&node("a"), Some(pod), at(second));
        assert_eq!(
            store.accept(stream, &node("a"), &sample(1, at(second), 4.0, 1.0), at(second)).refusals().count(),
            0
        );
        streams.push(stream);
    }
    let problem = store.problems(at(15)).remove(&node("a")).expect("it is told");
    assert_eq!(problem.reason(), "TwoAgents");
    let told = problem.to_string();
    assert!(told.contains("miyako-agent-x") && told.contains("old-agent-y"), "{told}");
    // One of them is deleted, and the other one goes on.
    for second in 16..400 {
        store.accept(streams[4], &node("a"), &sample(second, at(second), 4.0, 1.0), at(second));
    }
    assert_eq!(store.problems(at(399)).len(), 0);
}

#[test]
fn an_agent_speaks_for_its_own_node_only() {
    let lie = refusal(|sample| sample.node = "b".to_owned());
    assert_eq!(lie, Refusal::WrongNode { speaker: node("a"), claimed: node("b") });
    assert!(lie.ends_stream());
    let (store, _) = judged(|sample| sample.node = "b".to_owned());
    assert_eq!(store.node_figures(&node("b")), None);
}

#[test]
fn vms_that_do_not_run_there_are_passed_over() {
    let vm_refusal = |change: fn(&mut VmSample)| {
        let (store, refusals) = judged(|sample| change(&mut sample.vms[0]));
        assert_eq!(store.problems(at(11)).len(), usize::from(!refusals[0].is_ordinary()));
        refusals[0].clone()
    };
    assert_eq!(vm_refusal(|vm| vm.name = "gone".to_owned()), Refusal::UnknownVm(vm("gone")));
    assert_eq!(vm_refusal(|vm| vm.uid = "u2".to_owned()), Refusal::OtherUid(vm("web")));
    assert_eq!(vm_refusal(|vm| vm.name = "x".repeat(10_000)), Refusal::BadName);
    let (_, twice) = judged(|sample| sample.vms.push(sample.vms[0].clone()));
    assert_eq!(twice, [Refusal::Twice(vm("web"))]);
    let (_, many) = judged(|sample| sample.vms = vec![sample.vms[0].clone(); 1_025]);
    assert_eq!(many, [Refusal::TooManyVms(1_025)]);
}

#[test]
fn during_a_migration_only_the_node_where_the_vm_runs_is_heard() {
    let (mut store, stream_a) = after(10);
    let stream_b = store.open_stream(&node("b"));
    let mut from_b = sample(1, at(11), 2.0, 7.0);
    from_b.node = "b".to_owned();
    let verdict = store.accept(stream_b, &node("b"), &from_b, at(11));
    assert_eq!(verdict.parts, [Refusal::Elsewhere(vm("web"))]);
    assert_eq!(full(vm_window(&mut store, "web", at(11), SECOND * 5)), 1.0);
    // It arrives: from now on the other one is not heard.
    store.set_inventory(inventory(&["a", "b"], &[("web", "u1", "b")]), at(12));
    let verdict = store.accept(stream_a, &node("a"), &sample(11, at(12), 4.0, 5.0), at(12));
    assert_eq!(verdict.parts, [Refusal::Elsewhere(vm("web"))]);
    from_b = sample(2, at(12), 2.0, 1.0);
    from_b.node = "b".to_owned();
    assert_eq!(store.accept(stream_b, &node("b"), &from_b, at(12)).refusals().count(), 0);
    assert_eq!(full(vm_window(&mut store, "web", at(12), SECOND * 5)), 1.0, "its window moved along");
}

#[test]
fn what_vanishes_is_forgotten_and_what_is_born_again_begins_anew() {
    let (mut store, _) = after(10);
    store.set_inventory(inventory(&["a"], &[("web", "u2", "a")]), at(11));
    assert_eq!(vm_window(&mut store, "web", at(11), SECOND * 5), WindowAverage::Never);
    store.set_inventory(Inventory::default(), at(12));
    assert_eq!(node_window(&mut store, "a", at(12), SECOND * 5), WindowAverage::Never);
    assert_eq!(store.problems(at(100)), BTreeMap::new());
    assert_eq!(store.vm_figures(&vm("web")), None);
}

#[test]
fn a_vm_born_again_while_the_histories_are_lent_begins_anew_too() {
    let (mut store, stream) = after(10);
    let lent = store.lend();
    store.set_inventory(inventory(&["a", "b"], &[("web", "u2", "a")]), at(11));
    let mut newborn = sample(11, at(11), 4.0, 2.0);
    newborn.vms[0].uid = "u2".to_owned();
    store.accept(stream, &node("a"), &newborn, at(11));
    store.take_back(lent);
    let average = vm_window(&mut store, "web", at(11), SECOND * 5);
    assert_eq!(average, WindowAverage::Filling { have: 1, want: 5 });
}

#[test]
fn what_arrives_while_the_histories_are_lent_is_entered_when_they_come_back() {
    let (mut store, stream) = after(10);
    let lent = store.lend();
    store.accept(stream, &node("a"), &sample(11, at(11), 9.0, 1.0), at(11));
    store.take_back(lent);
    assert_eq!(full(node_window(&mut store, "a", at(11), SECOND * 5)), 5.0);
}

#[test]
fn a_clock_that_is_set_back_does_not_deafen_the_operator() {
    let (mut store, stream) = after(10);
    // Everybody's clock is corrected by an hour.
    let back = |second: u64| at(second) - SECOND * 3600;
    for second in 11..=16 {
        let verdict = store.accept(stream, &node("a"), &sample(second, back(second), 2.0, 1.0), back(second));
        assert_eq!(verdict.refusals().count(), 0);
    }
    assert_eq!(full(node_window(&mut store, "a", back(16), SECOND * 5)), 2.0);
}

#[test]
fn samples_that_come_a_little_early_or_late_leave_no_holes() {
    let mut store = store();
    let stream = store.open_stream(&node("a"));
    for sequence in 1_u64..=60 {
        // Each a millisecond and a half later than the last: one second by the clock passes without a sample.
        let moment = START + Span::from_micros(985_000 + sequence * 1_001_500);
        store.accept(stream, &node("a"), &sample(sequence, moment, 4.0, 1.0), moment);
    }
    assert_eq!(full(node_window(&mut store, "a", at(62), SECOND * 30)), 4.0);
}

#[test]
fn silence_is_a_problem_only_of_nodes_that_had_an_agent() {
    let (store, _) = after(10);
    assert_eq!(store.problems(at(13)), BTreeMap::new());
    assert_eq!(store.problems(at(14)), BTreeMap::from([(node("a"), NodeProblem::Silent { since: SECOND * 4 })]));
}

#[test]
fn a_sleeping_node_may_be_silent() {
    let (mut store, _) = after(10);
    let asleep = Inventory { asleep: [node("a")].into(), ..inventory(&["a", "b"], &[("web", "u1", "a")]) };
    store.set_inventory(asleep, at(11));
    assert_eq!(store.problems(at(60)), BTreeMap::new());
}

#[test]
fn what_exists_is_learnt_from_snapshots() {
    use miyako_core::model::{Bytes, MilliCpu, Node, Resources, Snapshot};
    let mut snapshot = Snapshot::default();
    for name in ["a", "b"] {
        let resources = Resources::new(MilliCpu(8_000), Bytes::gib(32), 110);
        snapshot.nodes.insert(node(name), Node::new(name, resources));
    }
    let of_it = Inventory::of(&snapshot);
    assert!(of_it.is_of(&snapshot));
    assert_eq!(of_it, inventory(&["a", "b"], &[]));
    let changes: [fn(&mut Snapshot); 3] = [
        |snapshot| drop(snapshot.nodes.remove(&node("b"))),
        |snapshot| snapshot.nodes.get_mut(&node("a")).unwrap().allocatable.cpu = MilliCpu(1),
        |snapshot| snapshot.nodes.get_mut(&node("a")).unwrap().power = miyako_core::model::PowerState::Suspended,
    ];
    for change in changes {
        let mut changed = snapshot.clone();
        change(&mut changed);
        assert!(!of_it.is_of(&changed));
        assert!(Inventory::of(&changed).is_of(&changed));
    }
    let mut store = LoadStore::new();
    store.learn(&snapshot, START);
    let stream = store.open_stream(&node("a"));
    let verdict = store.accept(stream, &node("a"), &sample(1, START, 4.0, 1.0), START);
    assert_eq!((verdict.refused, verdict.parts), (None, vec![Refusal::UnknownVm(vm("web"))]));
}

#[test]
fn a_thousand_nodes_with_twenty_thousand_vms_stay_small() {
    let names: Vec<_> = (0..1_000).map(|number| format!("node-{number}")).collect();
    let mut known = Inventory::default();
    for (number, name) in names.iter().enumerate() {
        known.nodes.insert(node(name), Cores::new(64.0).unwrap());
        for slot in 0..20 {
            let place = VmPlace { uid: Uid::new("uid"), node: Some(node(name)) };
            known.vms.insert(vm(&format!("vm-{}", number * 20 + slot)), place);
        }
    }
    let mut store = LoadStore::new();
    store.set_inventory(known, START);
    for second in 1..=3 {
        for (number, name) in names.iter().enumerate() {
            let mut sample = sample(second, at(second), 10.0, 0.5);
            sample.node.clone_from(name);
            sample.vms = (0..20)
                .map(|slot| VmSample {
                    name: format!("vm-{}", number * 20 + slot),
                    uid: "uid".to_owned(),
                    ..sample.vms[0].clone()
                })
                .collect();
            let stream = store.open_stream(&node(name));
            assert_eq!(store.accept(stream, &node(name), &sample, at(second)).refusals().count(), 0);
        }
    }
    let table = store.lend();
    assert_eq!((table.nodes.len(), table.vms.len()), (1_000, 20_000));
    // The histories are the bulk: each is two rings on the heap and a few words beside.
    let each = 64 * 4 + 128 * 8 + size_of::<miyako_core::model::LoadHistory>();
    assert!(21_000 * each < 40 << 20, "{each} bytes each");
}
