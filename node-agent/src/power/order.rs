//! What to do about an order: a pure function of the order, of what was acknowledged, of what stands in the way, and
//! of the time.

use super::preflight::Obstacle;
use miyako_api::{
    node_power::{DesiredPower, NodePowerSpec},
    node_power_class::SuspendMethod,
};
use std::{fmt, time::Duration};

/// An order older than this is not carried out. How old it is tells the sample that it quotes, by a clock
/// of this machine: the operator's clock may be hours off. An order that quotes none is as old as its date says.
pub const OLDEST_ORDER: Duration = Duration::from_secs(10);

/// After so many failures in a row the agent no longer tries by itself.
pub const MOST_FAILURES: u32 = 3;

/// The longest time that a machine's clock is trusted to wake it after: many CMOS alarms know a time of day but no
/// date.
pub const LONGEST_ALARM: Duration = Duration::from_secs(23 * 3600);

/// The shortest sleep worth an alarm: below, the alarm could fire before the machine sleeps.
pub const SHORTEST_ALARM: Duration = Duration::from_secs(5);

/// A sleep that was ordered, with all it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orders {
    /// How to sleep.
    pub method: SuspendMethod,
    /// After this time the machine's clock wakes it.
    pub alarm: Duration,
}

/// What to do about an order.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// It is known already.
    Nothing,
    /// Take note of it; nothing is to be done.
    Acknowledge,
    /// Take note of it and say why it is not carried out.
    Refuse(Refusal),
    /// Acknowledge it, and only then carry it out.
    CarryOut(Orders),
}

/// Why an order is not carried out.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// It came too late.
    #[error("the order is {} s old; an agent obeys within {} s: was it away, or does this node's clock go wrong?", .age.as_secs(), OLDEST_ORDER.as_secs())]
    TooOld {
        /// Its age.
        age: Duration,
    },
    /// It was given on what this agent said long ago.
    #[error("the order rests on a sample that this agent took {} s ago, and it obeys within {} s: was it away?", .age.as_secs(), OLDEST_ORDER.as_secs())]
    StaleSample {
        /// How long ago.
        age: Duration,
    },
    /// It was given on what this agent never said, as far as it knows.
    #[error(
        "the order rests on a sample that this agent does not remember: it was started anew since, or the order is old"
    )]
    UnknownSample,
    /// It was void before it was seen.
    #[error("the order expired before this agent saw it")]
    Expired,
    /// It is of the future.
    #[error("the order is {} s in the future: set this node's clock right (NTP)", .by.as_secs())]
    FromTheFuture {
        /// By how much.
        by: Duration,
    },
    /// Too many failures in a row.
    #[error(
        "{failures} suspends in a row failed, so this agent tries no more: see what `miyako-agent power preflight` says on the node, then order it by hand (`miyako suspend`)"
    )]
    StoppedTrying {
        /// How many.
        failures: u32,
    },
    /// The wake-up time is over or close.
    #[error("its alarm is to wake the node in {} s, which is less than {} s", .after.as_secs(), SHORTEST_ALARM.as_secs())]
    AlarmTooSoon {
        /// From now.
        after: Duration,
    },
    /// Something on this machine.
    #[error("{}", Listed(.0))]
    Obstacles(Vec<Obstacle>),
}

struct Listed<'a>(&'a [Obstacle]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, obstacle) in self.0.iter().enumerate() {
            write!(f, "{}{obstacle}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// What the agent remembers in `status.agent` about orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// The newest order that was acknowledged.
    pub acknowledged: Option<i64>,
    /// Failures in a row.
    pub failures: u32,
}

/// What time it is for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// In milliseconds since the Unix epoch, by this node's clock.
    pub wall: i64,
    /// What is known of the sample that the order quotes.
    pub sample: Quoted,
}

/// The sample that an order quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quoted {
    /// It quotes none, or this agent sends none: all there is are dates, by two clocks.
    Nothing,
    /// This agent took it so long ago, by a clock of its own that nobody sets.
    Taken(Duration),
    /// This agent does not remember it.
    Unknown,
}

/// Whether the order is new and wants the node asleep, so that it pays to look what stands in the way.
#[must_use]
pub fn wants_sleep(order: &NodePowerSpec, memory: Memory) -> bool {
    order.desired == DesiredPower::Suspended && is_new(order, memory)
}

/// An order is carried out at most once: once acknowledged, it and all before it are history.
fn is_new(order: &NodePowerSpec, memory: Memory) -> bool {
    memory.acknowledged.is_none_or(|acknowledged| order.generation > acknowledged)
}

/// What to do about `order` at `now`, when `obstacles` stand in the way.
/// Without a time in the order the alarm wakes the node after `longest`.
#[must_use]
pub fn decide(order: &NodePowerSpec, memory: Memory, obstacles: &[Obstacle], longest: Duration, now: Now) -> Decision {
    if !is_new(order, memory) {
        return Decision::Nothing;
    }
    if order.desired == DesiredPower::Awake {
        return Decision::Acknowledge;
    }
    if let Err(refusal) = in_time(order, now) {
        return Decision::Refuse(refusal);
    }
    if memory.failures >= MOST_FAILURES && !order.despite_failures {
        return Decision::Refuse(Refusal::StoppedTrying { failures: memory.failures });
    }
    if !obstacles.is_empty() {
        return Decision::Refuse(Refusal::Obstacles(obstacles.to_vec()));
    }
    let longest = longest.min(LONGEST_ALARM);
    // Both times are the operator's; this node's clock may show another hour. The order is a few seconds old at most.
    let issued = millis(&order.issued_at);
    let alarm = order.wake_at.as_ref().map_or(longest, |at| since(issued, millis(at)).min(longest));
    if alarm < SHORTEST_ALARM {
        return Decision::Refuse(Refusal::AlarmTooSoon { after: alarm });
    }
    Decision::CarryOut(Orders { method: order.method, alarm })
}

/// Whether an order may still be obeyed at `now`. Asked again between acknowledgement and sleep, since the write of
/// the acknowledgement may have taken long.
///
/// # Errors
/// Why not.
pub fn in_time(order: &NodePowerSpec, now: Now) -> Result<(), Refusal> {
    match now.sample {
        Quoted::Nothing => in_time_by_date(order, now.wall),
        Quoted::Taken(age) if age <= OLDEST_ORDER => Ok(()),
        Quoted::Taken(age) => Err(Refusal::StaleSample { age }),
        Quoted::Unknown => Err(Refusal::UnknownSample),
    }
}

fn in_time_by_date(order: &NodePowerSpec, now: i64) -> Result<(), Refusal> {
    let issued = millis(&order.issued_at);
    let age = since(issued, now);
    let ahead = since(now, issued);
    if ahead > OLDEST_ORDER {
        return Err(Refusal::FromTheFuture { by: ahead });
    }
    if age > OLDEST_ORDER {
        return Err(Refusal::TooOld { age });
    }
    if now >= millis(&order.expires_at) {
        return Err(Refusal::Expired);
    }
    Ok(())
}

fn millis(time: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time) -> i64 {
    time.0.as_millisecond()
}

/// From `begin` to `end`, zero when they come the other way round.
fn since(begin: i64, end: i64) -> Duration {
    Duration::from_millis(u64::try_from(end.saturating_sub(begin)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power::preflight::Obstacle;
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
    use proptest::prelude::*;

    const NOW: i64 = 1_800_000_000_000;
    const BY_DATE: Now = Now { wall: NOW, sample: Quoted::Nothing };
    const DAY: Duration = Duration::from_secs(86_400);

    fn at(millis: i64) -> Time {
        Time(Timestamp::from_millisecond(millis).unwrap())
    }

    fn order(generation: i64) -> NodePowerSpec {
        NodePowerSpec {
            desired: DesiredPower::Suspended,
            generation,
            issued_at: at(NOW - 1_000),
            expires_at: at(NOW + 9_000),
            reason: "empty".into(),
            wake_by: None,
            method: SuspendMethod::S3,
            wake_at: None,
            despite_failures: false,
            sample: None,
            wake_ways: Vec::new(),
        }
    }

    fn memory(acknowledged: i64) -> Memory {
        Memory { acknowledged: Some(acknowledged), failures: 0 }
    }

    fn refusal(decision: Decision) -> String {
        match decision {
            Decision::Refuse(refusal) => refusal.to_string(),
            other => panic!("not a refusal: {other:?}"),
        }
    }

    #[test]
    fn a_fresh_order_is_carried_out_with_an_alarm_that_any_clock_knows() {
        let carried_out = Decision::CarryOut(Orders { method: SuspendMethod::S3, alarm: LONGEST_ALARM });
        assert_eq!(decide(&order(3), memory(2), &[], DAY, BY_DATE), carried_out);
        assert_eq!(decide(&order(0), Memory::default(), &[], DAY, BY_DATE), carried_out);
        let timed = NodePowerSpec { wake_at: Some(at(NOW + 60_000)), method: SuspendMethod::PowerOff, ..order(3) };
        let Decision::CarryOut(orders) = decide(&timed, memory(2), &[], DAY, BY_DATE) else { panic!("refused") };
        assert_eq!((orders.method, orders.alarm), (SuspendMethod::PowerOff, Duration::from_secs(61)));
    }

    #[test]
    fn an_order_to_be_awake_is_noted_at_any_age() {
        let awake = NodePowerSpec { desired: DesiredPower::Awake, issued_at: at(0), expires_at: at(1), ..order(3) };
        assert_eq!(decide(&awake, memory(2), &[], DAY, BY_DATE), Decision::Acknowledge);
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        let refused = |order: NodePowerSpec| refusal(decide(&order, memory(2), &[], DAY, BY_DATE));
        assert!(refused(NodePowerSpec { issued_at: at(NOW - 10_001), ..order(3) }).contains("10 s old"));
        assert!(refused(NodePowerSpec { issued_at: at(NOW + 3_600_000), ..order(3) }).contains("3600 s in the future"));
        assert!(refused(NodePowerSpec { expires_at: at(NOW), ..order(3) }).contains("expired"));
        assert!(refused(NodePowerSpec { wake_at: Some(at(NOW)), ..order(3) }).contains("alarm"));
        let obstacle = Obstacle::Qemu { pid: 17, program: "qemu-kvm".into() };
        let why = refusal(decide(&order(3), memory(2), &[obstacle], DAY, BY_DATE));
        assert!(why.contains("qemu-kvm") && why.contains("17"), "{why}");
    }

    #[test]
    fn an_order_that_quotes_a_sample_is_as_old_as_that_whatever_the_clocks_say() {
        let by_sample = |sample| Now { wall: NOW, sample };
        let taken = |millis| Quoted::Taken(Duration::from_millis(millis));
        // The operator's clock is three hours ahead, or three hours behind.
        for by in [10_800_000, -10_800_000] {
            let order = NodePowerSpec {
                issued_at: at(NOW + by),
                expires_at: at(NOW + by + 10_000),
                wake_at: Some(at(NOW + by + 3_600_000)),
                ..order(3)
            };
            let alarm = Duration::from_secs(3600);
            let carried_out = Decision::CarryOut(Orders { method: SuspendMethod::S3, alarm });
            assert_eq!(decide(&order, memory(2), &[], DAY, by_sample(taken(10_000))), carried_out);
            let refused = |sample| refusal(decide(&order, memory(2), &[], DAY, by_sample(sample)));
            assert!(refused(taken(10_001)).contains("took 10 s ago"));
            assert!(refused(Quoted::Unknown).contains("does not remember"));
        }
        // A clock that agrees is no proof: the order lay about while the node slept and its clock was set back.
        let why = refusal(decide(&order(3), memory(2), &[], DAY, by_sample(taken(60_000))));
        assert!(why.contains("took 60 s ago"), "{why}");
    }

    #[test]
    fn after_failures_only_a_person_is_obeyed() {
        let memory = Memory { acknowledged: Some(2), failures: MOST_FAILURES };
        assert!(refusal(decide(&order(3), memory, &[], DAY, BY_DATE)).contains("3 suspends in a row"));
        let by_a_person = NodePowerSpec { despite_failures: true, ..order(3) };
        assert!(matches!(decide(&by_a_person, memory, &[], DAY, BY_DATE), Decision::CarryOut(_)));
    }

    proptest! {
        /// Whatever the times say, an acknowledged order is never carried out, nor one that is older than ten
        /// seconds.
        #[test]
        fn nothing_old_or_known_is_ever_carried_out(
            generation in 0_i64..6, acknowledged in proptest::option::of(0_i64..6), failures in 0_u32..6,
            issued in -30_000_i64..30_000, expires in -30_000_i64..30_000,
            wake in proptest::option::of(-10_000_i64..200_000_000), despite_failures: bool,
        ) {
            let order = NodePowerSpec {
                issued_at: at(NOW + issued), expires_at: at(NOW + expires), wake_at: wake.map(|wake| at(NOW + wake)),
                despite_failures, ..order(generation)
            };
            if let Decision::CarryOut(orders) = decide(&order, Memory { acknowledged, failures }, &[], DAY, BY_DATE) {
                prop_assert!(acknowledged.is_none_or(|acknowledged| generation > acknowledged));
                prop_assert!((-10_000..=10_000).contains(&issued) && expires > 0);
                prop_assert!(failures < MOST_FAILURES || despite_failures);
                prop_assert!((SHORTEST_ALARM..=LONGEST_ALARM).contains(&orders.alarm));
            }
        }
    }
}
