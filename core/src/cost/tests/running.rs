use super::*;
use crate::generate::Dice;

/// Looks at a pre-copy like QEMU's, a second apart: what is left of the round, and the pages of the next when it is done.
fn watch(dice: &mut Dice, dirty: f64, speed: f64, writable: f64, noise: f64, most: usize) -> Vec<Look> {
    let (mut left, mut took, mut looks) = (4000.0, 0.0, Vec::new());
    let threshold = 0.3 * speed;
    for second in 0..most {
        looks.push(Look { elapsed: secs(second as f64), left: mb(left) });
        let mut rest = 1.0;
        while rest > 0.0 {
            let speed = speed * dice.between(1.0 - noise, 1.0 + noise);
            let dirty = dirty * dice.between(1.0 - noise, 1.0 + noise);
            let ends = left / speed;
            if ends > rest {
                (left, took, rest) = (left - speed * rest, took + rest, 0.0);
                continue;
            }
            (took, rest) = (took + ends, rest - ends);
            left = (dirty * took).min(writable);
            took = 0.0;
            if left <= threshold {
                looks.push(Look { elapsed: secs(second as f64 + 1.0), left: mb(left) });
                return looks;
            }
        }
    }
    looks
}

#[test]
fn a_guest_that_writes_faster_than_is_sent_is_seen_within_three_rounds() {
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let (speed, writable) = (dice.between(60.0, 200.0), dice.between(800.0, 3000.0));
        let dirty = speed * dice.between(1.3, 4.0);
        let looks = watch(&mut dice, dirty, speed, writable, 0.1, 600);
        let patience = Patience::new(mb(0.3 * speed));
        let seen = (1..=looks.len())
            .find(|count| matches!(verdict(&looks[..*count], patience), Verdict::NotConverging { .. }))
            .unwrap_or_else(|| panic!("seed {seed}: never seen"));
        // All of the memory, and three times the working set.
        let bound = (4000.0 + 3.0 * writable) / speed * 1.15 + 3.0;
        assert!(looks[seen - 1].elapsed.value() <= bound, "seed {seed}: {seen} > {bound}");
    }
}

#[test]
fn one_that_converges_is_never_ended() {
    for seed in 0..300 {
        let mut dice = Dice::new(seed);
        let (speed, writable) = (dice.between(60.0, 200.0), dice.between(100.0, 3000.0));
        let dirty = speed * dice.between(0.0, 0.7);
        let looks = watch(&mut dice, dirty, speed, writable, 0.1, 600);
        let patience = Patience::new(mb(0.3 * speed));
        for count in 1..=looks.len() {
            let seen = verdict(&looks[..count], patience);
            assert!(!matches!(seen, Verdict::NotConverging { .. }), "seed {seed}, look {count}: {seen:?}");
        }
        assert_eq!(verdict(&looks, patience), Verdict::Converging);
    }
}

#[test]
fn nothing_is_said_too_early() {
    let patience = Patience::new(mb(30.0));
    assert_eq!(verdict(&[], patience), Verdict::TooEarly);
    let look = |elapsed: f64, left: f64| Look { elapsed: secs(elapsed), left: mb(left) };
    assert_eq!(verdict(&[look(0.0, 1000.0), look(5.0, 500.0)], patience), Verdict::TooEarly);
    // One round that grew: a burst. Two: it does not converge, since the first of them.
    let burst = [look(0.0, 1000.0), look(9.0, 100.0), look(10.0, 400.0), look(13.0, 100.0), look(14.0, 420.0)];
    assert_eq!(verdict(&burst, patience), Verdict::TooEarly);
    let stuck = [burst.as_slice(), &[look(17.0, 90.0), look(18.0, 410.0)]].concat();
    assert_eq!(verdict(&stuck, patience), Verdict::NotConverging { since: secs(10.0) });
    // And when the burst is over it converges again.
    let over = [stuck.as_slice(), &[look(21.0, 90.0), look(22.0, 200.0)]].concat();
    assert_eq!(verdict(&over, patience), Verdict::Converging);
}

#[test]
fn rates_tell_too() {
    let fast = (rate(120.0), rate(100.0));
    let slow = (rate(20.0), rate(100.0));
    assert!(outrun(&[slow, fast, fast, fast], 3));
    assert!(!outrun(&[fast, fast, slow], 3) && !outrun(&[fast, fast], 3) && !outrun(&[], 0));
    near(overdue_after(secs(20.0)).value(), 50.0, 1e-9);
}
