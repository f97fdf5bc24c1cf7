//! What agents tell of the time before their streams began.

use super::*;
use crate::observe::load::Refusal;

/// A sample at `seconds`, with the past of the node (4 cores) and of its VM (1 core) a second apart.
fn with_past(sequence: u64, seconds: u64, past: u32) -> NodeSample {
    let count = usize::try_from(past).unwrap();
    let mut sample = sample(sequence, at(seconds), 4.0, 1.0);
    sample.past_age_ms = (1..=past).rev().map(|back| back * 1000).collect();
    sample.past_cpu_cores = vec![4.0; count];
    sample.vms[0].past_cpu_cores = vec![1.0; count];
    sample
}

/// What becomes of one sample on a new stream at 100 s.
fn taken(sample: &NodeSample) -> (LoadStore, Vec<Refusal>) {
    let mut store = store();
    let stream = store.open_stream(&node("a"));
    let verdict = store.accept(stream, &node("a"), sample, at(100));
    let refusals = verdict.refusals().cloned().collect();
    (store, refusals)
}

#[test]
fn windows_are_full_with_the_first_sample() {
    let (mut store, refusals) = taken(&with_past(1, 100, 60));
    assert_eq!(refusals, []);
    assert_eq!(full(node_window(&mut store, "a", at(100), SECOND * 60)), 4.0);
    assert_eq!(full(vm_window(&mut store, "web", at(100), SECOND * 60)), 1.0);
    assert_eq!(store.node_figures(&node("a")).unwrap().0, at(100), "the newest word is the sample's own");
}

#[test]
fn old_figures_never_pass_for_new_ones() {
    let (mut store, _) = taken(&with_past(1, 100, 60));
    assert!(matches!(node_window(&mut store, "a", at(104), SECOND * 5), WindowAverage::Stale { .. }));
    let mut without_present = with_past(1, 100, 60);
    without_present.vms[0].usage = usage(f64::NAN);
    let (mut store, _) = taken(&without_present);
    assert_eq!(vm_window(&mut store, "web", at(100), SECOND * 5), WindowAverage::Never);
    let mut stale = with_past(1, 100, 60);
    stale.sent_unix_ms -= 60_000;
    stale.sampled_unix_ms -= 60_000;
    let (mut store, refusals) = taken(&stale);
    assert_eq!(refusals, [Refusal::FromThePast { by_millis: 60_000 }]);
    assert_eq!(node_window(&mut store, "a", at(100), SECOND * 5), WindowAverage::Never);
}

#[test]
fn what_is_known_already_stays_and_a_gap_is_filled() {
    let mut store = store();
    let stream = store.open_stream(&node("a"));
    for second in 81..=90 {
        store.accept(stream, &node("a"), &sample(second, at(second), 2.0, 2.0), at(second));
    }
    let stream = store.open_stream(&node("a"));
    store.accept(stream, &node("a"), &with_past(1, 100, 60), at(100));
    assert_eq!(full(node_window(&mut store, "a", at(100), SECOND * 10)), 4.0);
    assert_eq!(full(node_window(&mut store, "a", at(100), SECOND * 20)), 3.0);
}

#[test]
fn what_a_target_used_before_its_vm_came_is_not_the_vms() {
    let mut store = store();
    let mut known = inventory(&["a", "b"], &[("web", "u1", "a")]);
    known.arrived.insert(vm("web"), at(97));
    store.set_inventory(known, at(100));
    let stream = store.open_stream(&node("a"));
    assert_eq!(store.accept(stream, &node("a"), &with_past(1, 100, 60), at(100)).refusals().count(), 0);
    assert_eq!(full(vm_window(&mut store, "web", at(100), SECOND * 3)), 1.0);
    assert!(matches!(vm_window(&mut store, "web", at(100), SECOND * 5), WindowAverage::Filling { have: 3, .. }));
    assert_eq!(full(node_window(&mut store, "a", at(100), SECOND * 60)), 4.0);
}

#[test]
fn it_waits_while_the_table_is_lent() {
    let mut store = store();
    let stream = store.open_stream(&node("a"));
    let table = store.lend();
    store.accept(stream, &node("a"), &with_past(1, 100, 60), at(100));
    store.accept(stream, &node("a"), &sample(2, at(101), 4.0, 1.0), at(101));
    store.take_back(table);
    assert_eq!(full(node_window(&mut store, "a", at(101), SECOND * 60)), 4.0);
    assert_eq!(full(vm_window(&mut store, "web", at(101), SECOND * 60)), 1.0);
}

#[test]
fn a_past_that_makes_no_sense_costs_itself_alone() {
    let refused = |change: &dyn Fn(&mut NodeSample)| {
        let mut sample = with_past(1, 100, 10);
        change(&mut sample);
        let (mut store, refusals) = taken(&sample);
        assert_eq!(store.node_figures(&node("a")).unwrap().0, at(100), "the present counts");
        assert!(matches!(node_window(&mut store, "a", at(100), SECOND * 5), WindowAverage::Filling { have: 1, .. }));
        refusals.into_iter().map(|refusal| refusal.reason()).next()
    };
    assert_eq!(refused(&|sample| sample.past_age_ms.reverse()), Some("BadPast"));
    assert_eq!(refused(&|sample| sample.past_age_ms[9] = 0), Some("BadPast"));
    assert_eq!(refused(&|sample| sample.past_age_ms[0] = u32::MAX), Some("BadPast"));
    assert_eq!(refused(&|sample| sample.past_age_ms.truncate(3)), Some("BadPast"));
    assert_eq!(refused(&|sample| sample.past_cpu_cores[4] = f32::NAN), Some("NotFinite"));
    assert_eq!(refused(&|sample| sample.past_cpu_cores[4] = -1.0), Some("Negative"));
    assert_eq!(refused(&|sample| sample.past_cpu_cores[4] = 1e9), Some("Absurd"));
}
