use super::*;
use crate::generate::Dice;

/// Liu's algorithm 1 word for word, with the clamps that the project adds: what the model is held to.
fn algorithm_1(memory: f64, threshold: f64, dirty: f64, rate: f64, writable: f64, most: usize) -> (f64, f64, f64) {
    let (mut volumes, mut times) = (vec![memory], Vec::new());
    let mut down = 0.0;
    for i in 0..=most {
        times.push(volumes[i] / rate);
        let gamma = (-0.0463 * times[i] - 0.0001 * dirty + 0.3586).clamp(0.0, 1.0);
        let written = (times[i] * dirty).min(writable);
        let next = written - gamma * written;
        if next <= threshold || next > volumes[i] || i == most {
            volumes.push(written);
            times.push(written / rate);
            down = written / rate + 0.020;
            break;
        }
        volumes.push(next);
    }
    (volumes.iter().sum(), times.iter().sum(), down)
}

#[test]
fn algorithm_1_by_hand() {
    // 1 GB at 100 MB/s (800 Mb/s), 20 MB/s dirtied, stopped below 4 MB.
    // T0 = 10, γ = −0.1064 → 0, V1 = 200; T1 = 2, γ = 0.264, W2 = 10.56, V2 = 29.44; T2 = 0.2944, γ = 0.34297,
    // T2·D = 5.888, V3 = 3.8686 ≤ 4: the last round sends the full 5.888.
    let model = PreCopy::published(mb(4.0), 29);
    let course = model.foretell(&guest(1000.0, 20.0, 1000.0), &fixed(100.0)).unwrap();
    assert_eq!(course.ended, Ended::Converged);
    let sent: Vec<f64> = course.rounds.iter().map(|round| round.sent.0 as f64 / 1e6).collect();
    for (ours, wanted) in sent.iter().zip([1000.0, 200.0, 29.44, 5.888]) {
        near(*ours, wanted, 1e-3);
    }
    assert_eq!(sent.len(), 4);
    near(course.rounds[1].skipped.0 as f64 / 1e6, 10.56, 1e-3);
    near(course.cost.traffic.0 as f64 / 1e6, 1235.328, 1e-3);
    near(course.cost.time.value(), 12.353_28, 1e-6);
    near(course.cost.downtime.value(), 0.078_88, 1e-6);
}

#[test]
fn the_model_is_algorithm_1_for_any_guest() {
    let mut dice = Dice::new(15);
    let mut ends = std::collections::BTreeSet::new();
    for _ in 0..2000 {
        let (memory, dirty) = (dice.between(800.0, 1073.0), dice.between(0.0, 300.0));
        let (speed, writable) = (dice.between(50.0, 100.0), dice.between(1.0, memory));
        let (threshold, most) = (dice.between(0.05, 20.0), 3 + dice.below(30));
        let model = PreCopy::published(mb(threshold), u32::try_from(most).unwrap());
        let course = model.foretell(&guest(memory, dirty, writable), &fixed(speed)).unwrap();
        let (traffic, time, down) = algorithm_1(memory, threshold, dirty, speed, writable, most);
        near(course.cost.traffic.0 as f64 / 1e6, traffic, 1e-4 * traffic);
        near(course.cost.time.value(), time, 1e-4 * time);
        near(course.cost.downtime.value(), down, 1e-4 * down);
        ends.insert(format!("{:?}", course.ended));
    }
    // A round never grows beyond the working set, so at one rate none is larger than the one before.
    assert_eq!(ends.into_iter().collect::<Vec<_>>(), ["Converged", "LastRound"]);
}

#[test]
fn a_round_that_is_larger_than_the_one_before_is_the_last() {
    let dirty = [rate(10.0), rate(300.0)];
    let model = PreCopy::published(mb(4.0), 29);
    let course = model.foretell_trace(&guest(1000.0, 10.0, 900.0), &fixed(100.0), &dirty).unwrap();
    // T0 = 10, V1 = 100; T1 = 1, γ = 0.2823, V2 = 215 > 100: the full 300 are sent.
    let sent: Vec<u64> = course.rounds.iter().map(|round| round.sent.0 / 1_000_000).collect();
    assert_eq!((course.ended, sent), (Ended::Growing, vec![1000, 100, 300]));
    near(course.cost.downtime.value(), 3.02, 1e-6);
    // QEMU has no such rule: the guest may write less again.
    let calms = [rate(10.0), rate(300.0), rate(10.0)];
    let course = PreCopy::qemu(secs(0.1), None).foretell_trace(&guest(1000.0, 10.0, 900.0), &fixed(100.0), &calms);
    assert_eq!(course.unwrap().ended, Ended::Converged);
}

#[test]
fn the_last_round_sends_the_skipped_pages_too() {
    let course = PreCopy::published(mb(4.0), 29).foretell(&guest(1000.0, 20.0, 1000.0), &fixed(100.0)).unwrap();
    let [.., before, last] = course.rounds.as_slice() else { panic!("{course:?}") };
    near(last.sent.0 as f64, 20e6 * before.took.value(), 2.0);
    assert!(before.skipped.0 > 0 && last.skipped.0 == 0, "{course:?}");
}

#[test]
fn gamma_stays_within_0_and_1() {
    let published = Skipping::PUBLISHED;
    near(published.share(secs(1.0), rate(50.0)), -0.0463 - 0.005 + 0.3586, 1e-12);
    near(published.share(secs(7.7), rate(0.0)), 0.002_09, 1e-9);
    near(published.share(secs(8.0), rate(0.0)), 0.0, 0.0);
    let other = Skipping { per_second: 1.0, per_megabyte_rate: 0.0, constant: 0.0, fitted: None };
    near(other.share(secs(100.0), rate(0.0)), 1.0, 0.0);
}

#[test]
fn the_formulas_are_the_algorithm_without_skipping() {
    let guest = guest(1000.0, 25.0, 1000.0);
    let formula = closed_form(&guest, rate(100.0), mb(4.0), secs(0.02)).unwrap();
    near(formula.rounds, 4.0, 0.0); // 0.25⁴ of a GB is 3.9 MB.
    near(formula.cost.traffic.0 as f64 / 1e6, 1000.0 * (1.0 - 0.25_f64.powi(5)) / 0.75, 1e-3);
    near(formula.cost.downtime.value(), 0.039_062_5 + 0.02, 1e-9);
    let model = PreCopy { skipping: Skipping::NONE, ..PreCopy::published(mb(4.0), 29) };
    let course = model.foretell(&guest, &fixed(100.0)).unwrap();
    near(course.cost.traffic.0 as f64, formula.cost.traffic.0 as f64, 2.0);
    near(course.cost.time.value(), formula.cost.time.value(), 1e-6);
    near(course.cost.downtime.value(), formula.cost.downtime.value(), 1e-6);
}

#[test]
fn a_guest_that_writes_nothing_is_sent_once() {
    for model in [PreCopy::published(mb(4.0), 29), PreCopy::qemu(secs(0.3), None)] {
        let course = model.foretell(&guest(1000.0, 0.0, 0.0), &fixed(100.0)).unwrap();
        assert_eq!((course.cost.traffic, course.ended), (mb(1000.0), Ended::Converged));
        near(course.cost.downtime.value(), 0.02, 1e-9);
    }
    let formula = closed_form(&guest(1000.0, 0.0, 0.0), rate(100.0), mb(4.0), secs(0.02)).unwrap();
    near(formula.rounds, 1.0, 0.0);
    assert_eq!(formula.cost.traffic, mb(1000.0));
    // Exactly at the threshold, smaller than it, and a λ that needs more rounds than could be counted one by one.
    let rounds = |dirty: f64, threshold: Bytes| {
        closed_form(&guest(1024.0, dirty, 1.0), rate(100.0), threshold, secs(0.02)).unwrap().rounds
    };
    near(rounds(25.0, mb(4.0)), 4.0, 0.0);
    near(rounds(25.0, mb(2000.0)), 0.0, 0.0);
    assert!(rounds(99.999_999_99, mb(1.0)) > 1e10);
}

#[test]
fn xen_also_stops_at_a_multiple_of_the_memory() {
    let model = PreCopy { skipping: Skipping::NONE, stop: StopRule::xen(), resume: secs(0.02) };
    // Each round is 0.97 of the one before: without the rule it would send 33 times the memory.
    let course = model.foretell(&guest(1000.0, 97.0, 1000.0), &fixed(100.0)).unwrap();
    assert_eq!(course.ended, Ended::TooMuchTraffic);
    let sent = course.cost.traffic.0 as f64 / 1e9;
    assert!((3.0..=5.0).contains(&sent), "{sent}");
}

#[test]
fn qemu_stops_when_the_rest_fits_into_the_downtime() {
    let model = PreCopy::qemu(secs(0.3), None);
    let course = model.foretell(&guest(4000.0, 50.0, 1000.0), &fixed(117.0)).unwrap();
    assert!(course.converges());
    let downtime = course.cost.downtime.value();
    assert!(downtime <= 0.3 + 0.02 && downtime > 0.02, "{downtime}");
    // A working set that fits into it always converges, however fast it is written.
    assert!(model.foretell(&guest(4000.0, 900.0, 30.0), &fixed(117.0)).unwrap().converges());
}

#[test]
fn qemu_never_stops_a_guest_that_writes_faster_than_is_sent() {
    let limit = secs(150.0 * 4.0);
    let model = PreCopy::qemu(secs(0.3), Some(limit));
    let course = model.foretell(&guest(4000.0, 150.0, 1000.0), &fixed(117.0)).unwrap();
    assert_eq!((course.ended, course.converges()), (Ended::Never, false));
    assert_eq!((course.cost.time, course.cost.downtime), (limit, Seconds::ZERO));
    near(course.cost.traffic.0 as f64, 117e6 * 600.0, 1e3);
    // Nor one whose rounds get smaller too slowly for the time limit.
    let slow = PreCopy::qemu(secs(0.3), Some(secs(60.0)));
    let course = slow.foretell(&guest(4000.0, 110.0, 4000.0), &fixed(117.0)).unwrap();
    assert_eq!((course.ended, course.cost.time), (Ended::Never, secs(60.0)));
    near(course.cost.traffic.0 as f64, 117e6 * 60.0, 1e3);
}

#[test]
fn time_and_traffic_grow_with_memory_and_writes_and_shrink_with_the_rate() {
    let model = PreCopy::qemu(secs(0.3), None);
    let time =
        |memory, dirty, speed| model.foretell(&guest(memory, dirty, 500.0), &fixed(speed)).unwrap().cost.time.value();
    assert!(time(2000.0, 20.0, 117.0) > time(1000.0, 20.0, 117.0));
    assert!(time(1000.0, 60.0, 117.0) > time(1000.0, 20.0, 117.0));
    assert!(time(1000.0, 20.0, 1170.0) < time(1000.0, 20.0, 117.0));
}

#[test]
fn a_rate_that_follows_the_writes_is_that_of_eq_22() {
    let adaptive = Adaptive::published(megabits(400.0), megabits(800.0)).unwrap();
    near(adaptive.after(rate(60.0)).value(), 72.5e6, 1e-3);
    near(adaptive.after(rate(1.0)).value(), 50e6, 1e-3);
    near(adaptive.after(rate(500.0)).value(), 100e6, 1e-3);
    // Round by round: the second is as fast as the guest wrote in the first.
    let dirty = [rate(40.0), rate(80.0), rate(20.0)];
    let model = PreCopy { skipping: Skipping::NONE, ..PreCopy::published(mb(1.0), 29) };
    let course = model.foretell_trace(&guest(1000.0, 40.0, 1000.0), &Rate::Adaptive(adaptive), &dirty).unwrap();
    let speeds: Vec<f64> = course.rounds.iter().map(|round| round.sent.0 as f64 / round.took.value() / 1e6).collect();
    for (ours, wanted) in speeds.iter().zip([52.5, 52.5, 92.5, 50.0]) {
        near(*ours, wanted, 1e-3);
    }
}

#[test]
fn the_refined_rate_is_eqs_11_to_13() {
    let mean = mean_dirty_rate(&[(rate(10.0), secs(3.0)), (rate(40.0), secs(1.0))]).unwrap();
    near(mean.value(), 17.5e6, 1e-3);
    assert_eq!(mean_dirty_rate(&[(rate(10.0), secs(0.0))]), None);
    let mut refined = Refined::new(0.6, 0.5).unwrap();
    assert_eq!(refined.estimate(rate(30.0)), rate(30.0), "without a history there is only the sample");
    refined.observe(rate(20.0), rate(30.0));
    near(refined.estimate(rate(30.0)).value(), 25e6, 1e-3);
    refined.observe(rate(40.0), rate(40.0));
    near(refined.average().unwrap().value(), 0.6 * 40e6 + 0.4 * 20e6, 1e-3);
    assert!(refined.phi() > 0.5, "the sample was right and the average was not: {}", refined.phi());
}

#[test]
fn the_refined_rate_is_nearer_than_the_sample_where_samples_are_noisy() {
    let mut dice = Dice::new(7);
    let (mut base, mut better) = (0.0, 0.0);
    let mut refined = Refined::default();
    for migration in 0..200 {
        let mean = 30.0 * dice.between(0.9, 1.1);
        let sample = rate(mean * dice.between(0.4, 1.6));
        if migration > 5 {
            base += relative_error(sample.value(), mean * 1e6).unwrap();
            better += relative_error(refined.estimate(sample).value(), mean * 1e6).unwrap();
        }
        refined.observe(rate(mean), sample);
    }
    assert!(better < 0.5 * base, "{better} {base}");
    assert!(refined.phi() < 0.3, "{}", refined.phi());
}
