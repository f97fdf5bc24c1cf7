//! What nodes draw and have drawn, and what sleeping saves: measured where a meter exists, else a line between idle and
//! full load (Energy, section IV-A; its table III gives 53 W idle, 100 W full, 7 W asleep).
//!
//! Saved is what a node would have drawn had it never slept, less what it drew. Awake both are the same. Asleep it would
//! have idled: its VMs run elsewhere, and what they draw there counts there. Going to sleep and waking, it draws what
//! an idle node does and does no work: nothing is saved, and nothing is lost against idling.
//!
//! A node is seen to sleep late, once its lease has lapsed, and to be back only once it is usable. The time in between is
//! [unsettled](Unsettled) until the machine's own clocks tell how much of it was sleep.

mod break_even;

pub use break_even::break_even;

use crate::model::{Cores, Joules, PowerFigures, PowerState, RecordedEnergy, Seconds, Span, Watts};
use serde::{Deserialize, Serialize};
use std::iter::Sum;
use std::ops::{Add, AddAssign};

/// A gap between two looks that is longer than this is not accounted for: nobody knows what happened in it. It is
/// longer than a change of the leader takes.
pub const LONGEST_GAP: Span = Span::from_secs(60);

/// Where a figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Source {
    /// A meter: the node's agent, its BMC or Prometheus.
    Measured,
    /// The class's figures and the node's load.
    Modelled,
}

/// What a node draws at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Draw {
    /// It draws this much.
    pub now: Watts,
    /// It would draw this much, had it never slept.
    pub never_sleeping: Watts,
    /// Where the first figure comes from.
    pub source: Source,
}

/// What is known of a node when its draw is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// Its place in the power sequence.
    pub power: PowerState,
    /// It answers: a node that is recorded as awake and does not is counted as idle.
    pub ready: bool,
    /// CPU in use, if that is known.
    pub load: Option<Cores>,
    /// All its cores.
    pub capacity: Cores,
    /// What a meter says, if there is a fresh figure.
    pub measured: Option<Watts>,
}

/// What a node of these figures draws.
#[must_use]
pub fn draw(figures: PowerFigures, look: &Look) -> Draw {
    let watts = |value: f64| Watts::new(value).unwrap_or(Watts::ZERO);
    let idle = watts(f64::from(figures.idle));
    let asleep = look.power == PowerState::Suspended;
    let modelled = match (asleep, look.ready, look.load) {
        (true, _, _) => watts(f64::from(figures.asleep)),
        (false, true, Some(load)) => watts(figures.awake(load.percent_of(look.capacity).value() / 100.0)),
        // Without a load the least that a node which is on draws: no saving is ever made up.
        (false, _, _) => idle,
    };
    let (now, source) = look.measured.map_or((modelled, Source::Modelled), |now| (now, Source::Measured));
    Draw { now, never_sleeping: if asleep { idle } else { now }, source }
}

/// Energy over a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// What was drawn.
    pub used: Joules,
    /// What would have been drawn, had nothing ever slept.
    pub never_sleeping: Joules,
}

impl Account {
    /// What sleeping saved. Negative where a node draws more asleep than its class says it does idle.
    #[must_use]
    pub fn saved(&self) -> f64 {
        self.never_sleeping.value() - self.used.value()
    }

    /// Takes in a draw that held for `span`. A span beyond [`LONGEST_GAP`] is left out, whatever was drawn in it.
    pub fn take_in(&mut self, draw: &Draw, span: Span) {
        if span > LONGEST_GAP {
            return;
        }
        let time = Seconds::new(span.as_secs_f64()).unwrap_or(Seconds::ZERO);
        self.used += draw.now * time;
        self.never_sleeping += draw.never_sleeping * time;
    }
}

/// The time around one sleep of which nobody knows yet whether the node slept: from the order until the lease has
/// lapsed, and from the wish to wake until the node is usable.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Unsettled {
    /// What was drawn in that time, if the node was awake all along.
    awake: Account,
    /// That time.
    span: Span,
    /// The time that was already counted as sleep.
    asleep: Span,
    /// A meter told the last of it, so it saw the sleep too.
    metered: bool,
}

impl Unsettled {
    /// Takes in a draw of which nobody knows. A span beyond [`LONGEST_GAP`] is left out.
    pub fn take_in(&mut self, draw: &Draw, span: Span) {
        if span <= LONGEST_GAP {
            self.awake.take_in(draw, span);
            self.metered = draw.source == Source::Measured;
            self.span = self.span.saturating_add(span);
        }
    }

    /// So much more of this sleep was counted as sleep.
    pub fn slept(&mut self, span: Span) {
        self.asleep = self.asleep.saturating_add(span);
    }

    /// What was drawn after all, by a node that proves to have slept for so long in all. What is beyond the unsettled
    /// time is left out, and without a proof the node was awake: no saving is ever made up.
    #[must_use]
    pub fn settle(self, figures: PowerFigures, proven: Option<Span>) -> Account {
        let slept = proven.unwrap_or_default().saturating_sub(self.asleep).min(self.span);
        if slept.is_zero() {
            return self.awake;
        }
        let (slept, all) = (slept.as_secs_f64(), self.span.as_secs_f64());
        let awake = 1.0 - (slept / all).clamp(0.0, 1.0);
        let joules = |value: f64| Joules::new(value.max(0.0)).unwrap_or(Joules::ZERO);
        let of_sleep = |watts: u32| f64::from(watts) * slept;
        let modelled = joules(self.awake.used.value() * awake + of_sleep(figures.asleep));
        let used = if self.metered { self.awake.used } else { modelled };
        let never_sleeping = joules(self.awake.never_sleeping.value() * awake + of_sleep(figures.idle));
        Account { used, never_sleeping }
    }
}

impl Account {
    /// The account in whole joules.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, and both are finite")]
    pub fn recorded(&self) -> RecordedEnergy {
        RecordedEnergy { used: self.used.value().floor() as u64, saved: self.saved().floor() as i64 }
    }

    /// The account that goes on from what was recorded, if that is ahead: somebody has counted for longer. Whoever has
    /// counted further than the record keeps to their own count.
    #[must_use]
    pub fn continuing(self, recorded: RecordedEnergy) -> Self {
        let (used, saved) = (recorded.used as f64, recorded.saved as f64);
        match (Joules::new(used), Joules::new((used + saved).max(0.0))) {
            (Ok(used), Ok(never_sleeping)) if used > self.used => Self { used, never_sleeping },
            _ => self,
        }
    }
}

impl Add for Account {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { used: self.used + other.used, never_sleeping: self.never_sleeping + other.never_sleeping }
    }
}

impl AddAssign for Account {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Account {
    fn sum<I: Iterator<Item = Self>>(accounts: I) -> Self {
        accounts.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIGURES: PowerFigures = PowerFigures { idle: 53, full: 100, asleep: 7 };

    fn look(power: PowerState, load: Option<f64>) -> Look {
        let cores = |value| Cores::new(value).unwrap();
        Look { power, ready: true, load: load.map(cores), capacity: cores(4.0), measured: None }
    }

    fn watts(look: &Look) -> (f64, f64) {
        let draw = draw(FIGURES, look);
        (draw.now.value(), draw.never_sleeping.value())
    }

    #[test]
    fn a_node_draws_along_a_line_between_idle_and_full() {
        assert_eq!(watts(&look(PowerState::Awake, Some(0.0))), (53.0, 53.0));
        assert_eq!(watts(&look(PowerState::Awake, Some(2.0))), (76.5, 76.5));
        assert_eq!(watts(&look(PowerState::Awake, Some(9.0))), (100.0, 100.0), "more than all cores is all cores");
        assert_eq!(watts(&look(PowerState::Awake, None)), (53.0, 53.0));
    }

    #[test]
    fn only_a_node_that_sleeps_saves() {
        assert_eq!(watts(&look(PowerState::Suspended, Some(4.0))), (7.0, 53.0), "its last load is no load");
        for power in [PowerState::Emptying, PowerState::Suspending, PowerState::Waking, PowerState::Quarantined] {
            let (now, never) = watts(&look(power, None));
            assert_eq!(now, never, "{power:?}");
        }
    }

    #[test]
    fn a_meter_is_believed_before_the_model() {
        let measured = |power| Look { measured: Watts::new(61.0).ok(), ..look(power, Some(4.0)) };
        let awake = draw(FIGURES, &measured(PowerState::Awake));
        assert_eq!((awake.now.value(), awake.source), (61.0, Source::Measured));
        let asleep = draw(FIGURES, &measured(PowerState::Suspended));
        assert_eq!((asleep.now.value(), asleep.never_sleeping.value()), (61.0, 53.0), "it draws too much asleep");
    }

    #[test]
    fn an_hour_asleep_saves_what_the_figures_say() {
        let mut account = Account::default();
        let asleep = draw(FIGURES, &look(PowerState::Suspended, None));
        for _ in 0..3600 {
            account.take_in(&asleep, Span::from_secs(1));
        }
        assert!((account.saved() - 46.0 * 3600.0).abs() < 1e-6);
        account.take_in(&asleep, LONGEST_GAP + Span::from_secs(1));
        assert!((account.used.value() - 7.0 * 3600.0).abs() < 1e-6, "a gap nobody saw is not made up");
    }

    #[test]
    fn the_time_around_a_sleep_is_settled_by_the_machines_own_clocks() {
        let mut around = Unsettled::default();
        for _ in 0..50 {
            around.take_in(&draw(FIGURES, &look(PowerState::Suspending, None)), Span::from_secs(1));
        }
        around.slept(Span::from_secs(600));
        for _ in 0..10 {
            around.take_in(&draw(FIGURES, &look(PowerState::Waking, None)), Span::from_secs(1));
        }
        let saved = |proven: Option<u64>| {
            let settled = around.settle(FIGURES, proven.map(Span::from_secs));
            assert!((settled.never_sleeping.value() - 60.0 * 53.0).abs() < 1e-6);
            settled.saved()
        };
        assert!((saved(Some(655)) - 55.0 * 46.0).abs() < 1e-6, "48 s before and 7 s after it was seen to sleep");
        assert!((saved(Some(10_000)) - 60.0 * 46.0).abs() < 1e-6, "never more than the time itself");
        for nothing in [None, Some(0), Some(600)] {
            assert!(saved(nothing).abs() < 1e-9);
        }
    }

    proptest! {
        #[test]
        fn no_settlement_saves_more_than_the_proven_sleep(
            around in 0_u64..500, asleep in 0_u64..5000, proven in 0_u64..6000, load in prop::option::of(0.0_f64..8.0),
            watts in prop::option::of(0.0_f64..200.0),
        ) {
            let measured = watts.and_then(|watts| Watts::new(watts).ok());
            let draw = draw(FIGURES, &Look { measured, ..look(PowerState::Waking, load) });
            let mut unsettled = Unsettled::default();
            for _ in 0..around {
                unsettled.take_in(&draw, Span::from_secs(1));
            }
            unsettled.slept(Span::from_secs(asleep));
            let settled = unsettled.settle(FIGURES, Some(Span::from_secs(proven)));
            let most = proven.saturating_sub(asleep).min(around) as f64;
            let per_second = 53.0 - measured.map_or(7.0, |watts| watts.value().min(7.0));
            prop_assert!(settled.saved() <= most * per_second + 1e-6, "{}", settled.saved());
        }

        #[test]
        fn an_account_goes_on_from_its_record_and_never_back(
            own in 0.0_f64..1e12, saved in 0.0_f64..1e12, used in 0_u64..1_000_000_000_000, more in -1_000_000_i64..1_000_000,
        ) {
            let joules = |value: f64| Joules::new(value).unwrap();
            let own = Account { used: joules(own), never_sleeping: joules(own + saved) };
            let next = own.continuing(RecordedEnergy { used, saved: more });
            prop_assert!(next.used >= own.used && next.recorded().used >= used);
            prop_assert_eq!(own.continuing(own.recorded()), own, "one's own record changes nothing");
            let restarted = Account::default().continuing(own.recorded());
            prop_assert!((restarted.saved() - own.saved()).abs() <= 2.0);
        }

        #[test]
        fn nothing_is_saved_awake_and_never_more_than_idle_less_asleep(
            idle in 0_u32..1000, more in 0_u32..1000, asleep in 0_u32..1000, load in 0.0_f64..64.0, seconds in 0_u64..60,
        ) {
            let figures = PowerFigures { idle, full: idle + more, asleep: asleep.min(idle) };
            let span = Span::from_secs(seconds);
            let (mut awake, mut sleeping) = (Account::default(), Account::default());
            awake.take_in(&draw(figures, &look(PowerState::Awake, Some(load))), span);
            sleeping.take_in(&draw(figures, &look(PowerState::Suspended, None)), span);
            prop_assert!(awake.saved().abs() < 1e-9);
            let most = f64::from(figures.idle - figures.asleep) * span.as_secs_f64();
            prop_assert!((sleeping.saved() - most).abs() < 1e-6);
        }
    }
}
