//! How much work makes which load: the micro benchmark of Reactive Cloud, §4.1.1.
//!
//! There, a worker alternates between C busy loops with C·α writes to memory, and a sleep of 10 ms; C follows from the
//! target load and from how many loops and writes the machine does in a second. So it is here, but for three things:
//!
//! * An *operation* is a fixed amount of work, [`OPERATION`] of a virtual CPU, so that the targeted operations grow with
//!   the load as in the paper's Fig. 8; a busy spell is as many operations as the load asks for.
//! * The paper's sleep is the shortest here. To sleep and wake costs an emulated CPU half a millisecond, which at 10 %
//!   would add half of the load again; so lower loads sleep longer and less often ([`PERIOD`]).
//! * Spells begin at fixed times. A sleep that ended late, or a spell that was held up, shortens the next sleeps, up to a
//!   backlog of [`MOST_LATE`]; what is older is given up for good and shows as failed operations. Without this, the
//!   inaccuracy of a timer would pass for a lack of CPU.

use crate::channel::{Intensity, Permille, Speed};
use std::hint::black_box;
use std::time::Duration;

/// The work of one operation: at full load a virtual CPU does a thousand in a second. The paper's machines did 750
/// (§4.1.3).
pub const OPERATION: Duration = Duration::from_millis(1);

/// T_sleep of the paper, "considering the clock accuracy in guest operating systems": the shortest sleep, but above 95 %.
pub const SLEEP: Duration = Duration::from_millis(10);

/// A busy spell and its sleep take so long together, unless the sleep would be shorter than [`SLEEP`].
pub const PERIOD: Duration = Duration::from_millis(50);

/// The longest busy spell. It allows the paper's highest load, 95 %, with its sleep of 10 ms; above, sleeps get shorter.
const LONGEST_SPELL: Duration = Duration::from_millis(190);

/// The backlog beyond which operations are given up: one period of the kernel's CPU bandwidth control, so that a quota
/// that suffices on average fails none.
pub const MOST_LATE: Duration = Duration::from_millis(100);

/// The paper's workload writes about 1 GB/s at α = 1 and a load of 95 % (§4.1.4), so a loop with its write takes some
/// 4 µs; so many steps do that under emulation on a present machine.
const STEPS: u32 = 1800;

/// A busy loop: the paper's unit of calculation. Each step needs the one before, and no shorter way leads to the answer.
#[must_use]
pub fn busy_loop(seed: u64) -> u64 {
    (0..STEPS)
        .fold(black_box(seed), |word, _| (word ^ (word >> 31)).wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1))
}

/// What one operation consists of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Operation {
    /// C, the busy loops; at least one.
    pub loops: u64,
    /// C·α, the pages written; the fraction carries over to the next operation.
    pub writes: f64,
    /// Pages read, likewise.
    pub reads: f64,
}

impl Operation {
    /// The operation that takes [`OPERATION`] on a virtual CPU of this speed: Eqs. (1) and (2), solved for C.
    #[must_use]
    pub fn sized(speed: Speed, intensity: Intensity) -> Self {
        let each = |times: u32, per_second: u64| f64::from(times) / 1000.0 / per_second.max(1) as f64;
        let one =
            1.0 / speed.loops.max(1) as f64 + each(intensity.writes, speed.writes) + each(intensity.reads, speed.reads);
        let loops = (OPERATION.as_secs_f64() / one).round().clamp(1.0, 1e12);
        Self {
            loops: whole(loops),
            writes: loops * f64::from(intensity.writes) / 1000.0,
            reads: loops * f64::from(intensity.reads) / 1000.0,
        }
    }
}

/// The whole part of a number that is known to be small and not negative.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
#[must_use]
pub fn whole(number: f64) -> u64 {
    number.clamp(0.0, 1e15) as u64
}

/// Busy spells and the sleeps between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The work of a spell, as time on an undisturbed virtual CPU.
    pub busy: Duration,
    /// The sleep after it.
    pub sleep: Duration,
}

impl Pace {
    /// The pace that makes this load: Eq. (3), solved for the busy time.
    #[must_use]
    pub fn of(load: Permille) -> Self {
        let load = load.share();
        let spell = |period: Duration| Self { busy: period.mul_f64(load), sleep: period.mul_f64(1.0 - load) };
        let even = spell(PERIOD);
        if even.sleep >= SLEEP {
            return even;
        }
        // The period whose rest is the paper's sleep; of a full load there is none.
        let busy = SLEEP.as_secs_f64() * load / (1.0 - load);
        if busy <= LONGEST_SPELL.as_secs_f64() {
            Self { busy: Duration::from_secs_f64(busy), sleep: SLEEP }
        } else {
            spell(LONGEST_SPELL.div_f64(load))
        }
    }

    /// The operations of a spell; the fraction carries over to the next.
    #[must_use]
    pub fn operations(&self) -> f64 {
        self.busy.as_secs_f64() / OPERATION.as_secs_f64()
    }
}

/// Operations that a load targets in a second, in thousandths, over all workers.
#[must_use]
pub fn target_millis(load: Permille, workers: u32) -> u64 {
    // Thousandths of the load times thousandths of an operation: a full virtual CPU does 1000 operations a second.
    u64::from(load.thousandths()) * u64::from(workers) * 1000
}

/// When the next spell is due, given when this one was and when it ended with its sleep: without drift, but no older
/// than [`MOST_LATE`].
#[must_use]
pub fn next_spell(due: Duration, pace: Pace, now: Duration) -> Duration {
    (due + pace.busy + pace.sleep).max(now.saturating_sub(MOST_LATE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn load(thousandths: u64) -> Permille {
        Permille::new(thousandths).unwrap()
    }

    #[test]
    fn the_papers_highest_load_sleeps_ten_milliseconds_and_lower_ones_longer() {
        let milliseconds = Duration::from_millis;
        assert_eq!(Pace::of(load(0)), Pace { busy: Duration::ZERO, sleep: PERIOD });
        assert_eq!(Pace::of(load(100)), Pace { busy: milliseconds(5), sleep: milliseconds(45) });
        let busiest = Pace::of(load(950));
        assert!(busiest.sleep.abs_diff(SLEEP) < Duration::from_micros(1), "{busiest:?}");
        assert_eq!(Pace::of(load(1000)), Pace { busy: LONGEST_SPELL, sleep: Duration::ZERO });
    }

    #[test]
    fn an_operation_of_loops_alone_is_as_many_as_fit() {
        let speed = Speed { loops: 250_000, reads: 1_000_000, writes: 500_000 };
        assert_eq!(Operation::sized(speed, Intensity::BUSY_LOOP), Operation { loops: 250, writes: 0.0, reads: 0.0 });
        // 4 µs of loop and 2 µs of write each.
        assert_eq!(
            Operation::sized(speed, Intensity::WRITE_HEAVY),
            Operation { loops: 167, writes: 167.0, reads: 0.0 }
        );
    }

    proptest! {
        #[test]
        fn pace_makes_the_load(thousandths in 0..=1000u64) {
            let Pace { busy, sleep } = Pace::of(load(thousandths));
            let made = busy.as_secs_f64() / (busy + sleep).as_secs_f64();
            prop_assert!((made - load(thousandths).share()).abs() < 1e-6);
        }

        #[test]
        fn an_operation_takes_its_time(loops in 1_000_000..u64::MAX, reads in 1_000_000..u64::MAX, writes in 1_000_000..u64::MAX,
                                       w in 0..=2000u32, r in 0..=2000u32) {
            let speed = Speed { loops, reads, writes };
            let operation = Operation::sized(speed, Intensity { writes: w, reads: r });
            let took = operation.loops as f64 / loops as f64 + operation.reads / reads as f64 + operation.writes / writes as f64;
            // Beyond the clamp the machine is absurd.
            if operation.loops < 1_000_000_000_000 {
                prop_assert!((took / OPERATION.as_secs_f64() - 1.0).abs() < 0.01, "{took}");
            }
        }

        #[test]
        fn no_speed_makes_an_operation_without_work(loops: u64, reads: u64, writes: u64, w in 0..=Intensity::MOST) {
            let operation = Operation::sized(Speed { loops, reads, writes }, Intensity { writes: w, reads: 0 });
            prop_assert!(operation.loops >= 1 && operation.writes.is_finite());
        }

        #[test]
        fn a_backlog_is_caught_up_or_given_up(late_ms in 0..10_000u64) {
            let pace = Pace::of(load(500));
            let due = Duration::from_secs(5);
            let now = due + pace.busy + pace.sleep + Duration::from_millis(late_ms);
            let next = next_spell(due, pace, now);
            prop_assert_eq!(now - next, Duration::from_millis(late_ms).min(MOST_LATE));
        }
    }
}
