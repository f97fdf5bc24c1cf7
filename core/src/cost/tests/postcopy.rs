use super::*;
use crate::model::NodeName;

#[test]
fn post_copy_sends_each_page_once_whatever_is_written() {
    let model = PostCopy::default();
    let calm = model.foretell(&guest(4000.0, 0.0, 100.0), &fixed(100.0)).unwrap();
    let busy = model.foretell(&guest(4000.0, 900.0, 100.0), &fixed(100.0)).unwrap();
    assert_eq!(calm, busy);
    near(busy.cost.traffic.0 as f64, 4000.5e6, 1.0);
    // Blackout and degraded time are told apart, and make up the whole.
    near(busy.cost.downtime.value(), 0.025, 1e-9);
    near(busy.cost.degraded.value(), 40.0, 1e-9);
    near(busy.cost.time.value(), 40.025, 1e-9);
    near(busy.waiting.value(), 1.0, 1e-9);
    let reader = guest(4000.0, 0.0, 100.0).touching(mb(4000.0)).unwrap();
    near(model.foretell(&reader, &fixed(100.0)).unwrap().waiting.value(), 40.0, 1e-9);
    // What is at the destination already does not follow.
    let reused = model.foretell_reusing(&reader, &fixed(100.0), mb(3900.0)).unwrap();
    near(reused.cost.degraded.value(), 1.0, 1e-9);
    near(reused.waiting.value(), 1.0, 1e-9);
}

fn hybrid(switch_after: f64) -> Hybrid {
    let pre_copy = PreCopy::qemu(secs(0.3), Some(secs(600.0)));
    Hybrid { pre_copy, post_copy: PostCopy::default(), switch_after: secs(switch_after) }
}

#[test]
fn a_hybrid_is_pre_copy_when_that_is_over_before_the_switch() {
    let guest = guest(1000.0, 5.0, 100.0);
    let HybridCourse::PreCopy(course) = hybrid(60.0).foretell(&guest, &fixed(100.0)).unwrap() else { panic!() };
    assert_eq!(course, hybrid(60.0).pre_copy.foretell(&guest, &fixed(100.0)).unwrap());
}

#[test]
fn a_hybrid_sends_what_was_not_sent_and_what_was_written_again() {
    let switched = |switch: f64, guest: Guest| match hybrid(switch).foretell(&guest, &fixed(100.0)).unwrap() {
        HybridCourse::Switched(course) => course,
        HybridCourse::PreCopy(course) => panic!("{course:?}"),
    };
    // Within the first round: 600 of 1000 MB are left, and what was written of the 400.
    let early = switched(4.0, guest(1000.0, 150.0, 200.0));
    near(early.before.value(), 4.0, 1e-9);
    near(early.cost.degraded.value(), 6.0 + 2.0, 1e-9);
    near(early.cost.traffic.0 as f64 / 1e6, 400.5 + 800.0, 1e-3);
    // A working set that goes round and round is all that is left, whenever it is switched.
    let late = switched(500.0, guest(1000.0, 150.0, 200.0));
    assert!(late.cost.degraded.value() <= 4.0 && late.cost.degraded.value() >= 2.0, "{late:?}");
    near(late.before.value(), 500.0, 1e-9);
    near(late.cost.traffic.0 as f64 / 1e6, 50_000.0, 400.5);
    // At once: post-copy from the start.
    let at_once = switched(0.0, guest(1000.0, 150.0, 200.0));
    assert_eq!(at_once, PostCopy::default().foretell(&guest(1000.0, 150.0, 200.0), &fixed(100.0)).unwrap());
}

fn stretch(host: &str, updated: f64) -> Stretch {
    Stretch { host: NodeName::from(host), updated: mb(updated) }
}

#[test]
fn what_can_be_reused_is_the_thesis_history() {
    // Fig. 5.3: on PM0 until t0, to PM1 until t1 (D1), back from t2 (D2): what is not reusable is D2 + D1.
    let history = [stretch("pm0", 0.0), stretch("pm1", 300.0), stretch("pm1", 200.0)];
    let at = |host: &str| reusable(mb(4000.0), &history, &NodeName::from(host));
    assert_eq!(at("pm0"), Some(mb(3500.0)));
    assert_eq!(at("pm1"), Some(mb(4000.0)), "it is there");
    assert_eq!(at("pm2"), None, "it never was there");
    let old = [stretch("pm0", 0.0), stretch("pm1", 9000.0)];
    assert_eq!(reusable(mb(4000.0), &old, &NodeName::from("pm0")), Some(Bytes(0)));
    // Only the last stay at a host counts.
    let twice = [stretch("pm0", 0.0), stretch("pm1", 3000.0), stretch("pm0", 50.0), stretch("pm1", 20.0)];
    assert_eq!(reusable(mb(4000.0), &twice, &NodeName::from("pm0")), Some(mb(3980.0)));
    assert_eq!(updated(rate(2.0), mb(128.0), secs(600.0)), mb(128.0));
    assert_eq!(updated(rate(2.0), mb(128.0), secs(10.0)), mb(20.0));
}

#[test]
fn reuse_is_pre_copy_of_the_rest_after_a_preparation() {
    let (model, guest) = (PreCopy::qemu(secs(0.3), None), guest(4000.0, 0.0, 100.0));
    let course = foretell_reuse(&model, &guest, &fixed(1000.0), mb(3000.0), secs(PUBLISHED_PREPARATION)).unwrap();
    near(course.cost.time.value(), 2.5 + 1.0, 1e-6);
    assert_eq!(course.cost.traffic, mb(1000.0));
    let energy = WiredEnergy::PUBLISHED.of(course.cost.traffic);
    near(energy.value(), 512.0 + 20.165, 1e-6);
    // All of it: only the preparation.
    let nothing = foretell_reuse(&model, &guest, &fixed(1000.0), mb(4000.0), secs(2.5)).unwrap();
    near(nothing.cost.time.value(), 2.5, 1e-6);
}

#[test]
fn teleportation_shortens_the_first_round_and_draws_as_much() {
    let (model, guest) = (PreCopy::qemu(secs(0.3), None), guest(4000.0, 0.0, 100.0));
    let plain = model.foretell(&guest, &fixed(100.0)).unwrap();
    let there = foretell_teleport(&model, &guest, &fixed(100.0), 0.25, None).unwrap();
    near(there.course.cost.time.value(), 0.75 * plain.cost.time.value(), 1e-6);
    assert_eq!((there.read, there.course.cost.traffic), (mb(1000.0), mb(3000.0)));
    let energy = &WiredEnergy::PUBLISHED;
    near(there.energy(energy).value(), energy.of(plain.cost.traffic).value(), 1e-6);
    // Slow storage holds the first round up, and the adaptive share never lets it.
    let slow = foretell_teleport(&model, &guest, &fixed(100.0), 0.5, Some(rate(20.0))).unwrap();
    near(slow.course.cost.time.value(), 100.0, 1e-6);
    let share = adaptive_share(rate(100.0), rate(25.0), 1.0).unwrap();
    near(share, 0.2, 1e-12);
    let adaptive = foretell_teleport(&model, &guest, &fixed(100.0), share, Some(rate(25.0))).unwrap();
    near(adaptive.course.cost.time.value(), 32.0, 1e-6);
    near(adaptive_share(rate(100.0), rate(25.0), 0.1).unwrap(), 0.1, 1e-12);
    // The guest writes for as long as the first round takes, not as what it sends would.
    let busy = super::guest(4000.0, 1.0, 1000.0);
    let slow = foretell_teleport(&model, &busy, &fixed(100.0), 0.5, Some(rate(20.0))).unwrap();
    near(slow.course.rounds[1].sent.0 as f64 / 1e6, 100.0, 1e-3);
}

#[test]
fn energy_is_liu_eqs_15_17_and_20() {
    near(WiredEnergy::PUBLISHED.of(mb(1000.0)).value(), 532.165, 1e-9);
    near(WiredEnergy::PUBLISHED.of(Bytes(0)).value(), 20.165, 1e-9);
    let half = WiredEnergy::new(0.256, 10.0825).unwrap();
    assert_eq!(WiredEnergy::of_ends(half, half), WiredEnergy::PUBLISHED);
    // Eq. 19's limit: N₀·ln 2 per bit as R → 0, and it grows with R.
    let per_bit = |rate| wireless(Bytes(1), rate, ROOM_NOISE).unwrap().value() / 8.0;
    near(per_bit(1e-9) / (ROOM_NOISE * std::f64::consts::LN_2), 1.0, 1e-8);
    near(per_bit(1.0) / (ROOM_NOISE * 1.5), 1.0, 1e-12);
    assert!([0.1, 0.5, 1.0, 4.0, 8.0].windows(2).all(|pair| per_bit(pair[0]) < per_bit(pair[1])));
}
