//! Whether an order is ours to carry out, as a pure function.

use miyako_api::{
    NodePower,
    node_power::{DesiredPower, PowerPhase},
};
use std::time::Duration;

/// A claim that was not renewed for so long is nobody's: its holder renews it three times as often.
pub const CLAIM_LAPSES: Duration = Duration::from_secs(30);

/// What to do about one NodePower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing: it is no order to wake, is over, or somebody else's.
    Leave,
    /// Take up the order of this generation.
    TakeUp {
        /// The order's generation.
        generation: i64,
    },
}

/// Judges one NodePower for the replica `me` at `now`, in milliseconds since the Unix epoch.
#[must_use]
pub fn judge(power: &NodePower, me: &str, now: i64) -> Judgement {
    let order = &power.spec;
    let status = power.status.as_ref();
    // A node that failed to wake is asked again now and then.
    let phase = status.and_then(|status| status.phase);
    let waking = matches!(phase, Some(PowerPhase::Waking | PowerPhase::Quarantined));
    // An order that has expired was replaced by a newer one or given up; a node that sleeps on is the operator's to judge.
    if order.desired != DesiredPower::Awake || !waking || order.expires_at.0.as_millisecond() <= now {
        return Judgement::Leave;
    }
    let take_up = Judgement::TakeUp { generation: order.generation };
    match status.and_then(|status| status.waker.as_ref()) {
        Some(waker) if waker.generation > order.generation => Judgement::Leave,
        Some(waker) if waker.generation == order.generation => {
            let lapsed = now.saturating_sub(waker.at.0.as_millisecond()).unsigned_abs() >= lapse_millis();
            // Our own claim without an errand is that of an earlier life under the same name.
            let free = waker.by == me || lapsed;
            if waker.outcome.is_none() && free { take_up } else { Judgement::Leave }
        }
        _ => take_up,
    }
}

/// A claim from the future is as wrong as one from long ago: clocks differ, but not by that much.
fn lapse_millis() -> u64 {
    u64::try_from(CLAIM_LAPSES.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use miyako_api::node_power::{NodePowerStatus, WakeOutcome, WakerStatus};
    use serde_json::json;

    /// Noon, so that a time some hours off is of the same day.
    const NOW: i64 = 1_767_614_400_000;

    fn time(millis: i64) -> serde_json::Value {
        let seconds = millis / 1000;
        json!(format!("2026-01-05T{:02}:{:02}:{:02}Z", (seconds / 3600) % 24, (seconds / 60) % 60, seconds % 60))
    }

    fn ordered(desired: &str, phase: PowerPhase, expires: i64) -> NodePower {
        let spec = json!({
            "desired": desired, "generation": 7, "issuedAt": time(NOW), "expiresAt": time(expires), "reason": "a test",
        });
        let mut power = NodePower::new("node", serde_json::from_value(spec).unwrap());
        power.status = Some(NodePowerStatus { phase: Some(phase), ..NodePowerStatus::default() });
        power
    }

    fn waking() -> NodePower {
        ordered("Awake", PowerPhase::Waking, NOW + 600_000)
    }

    fn claimed(by: &str, age_seconds: i64, generation: i64, outcome: Option<WakeOutcome>) -> NodePower {
        let mut power = waking();
        let at = serde_json::from_value(time(NOW - age_seconds * 1000)).unwrap();
        power.status.as_mut().unwrap().waker =
            Some(WakerStatus { generation, by: by.into(), at, attempts: 1, driver: None, outcome, message: None });
        power
    }

    #[test]
    fn an_order_to_wake_is_taken_up_by_whoever_comes_first() {
        let take_up = Judgement::TakeUp { generation: 7 };
        assert_eq!(judge(&waking(), "me", NOW), take_up);
        assert_eq!(judge(&claimed("other", 5, 7, None), "me", NOW), Judgement::Leave);
        assert_eq!(judge(&claimed("other", 5, 6, None), "me", NOW), take_up, "that was another order");
        assert_eq!(judge(&claimed("other", 5, 8, None), "me", NOW), Judgement::Leave, "our picture is old");
    }

    #[test]
    fn a_claim_whose_holder_died_is_taken_over_and_a_finished_one_is_not() {
        let take_up = Judgement::TakeUp { generation: 7 };
        assert_eq!(judge(&claimed("other", 30, 7, None), "me", NOW), take_up);
        assert_eq!(judge(&claimed("other", -3600, 7, None), "me", NOW), take_up, "stamped by a wrong clock");
        assert_eq!(judge(&claimed("me", 1, 7, None), "me", NOW), take_up, "of an earlier life");
        for outcome in [WakeOutcome::Awake, WakeOutcome::Sent, WakeOutcome::Failed] {
            assert_eq!(judge(&claimed("other", 600, 7, Some(outcome)), "me", NOW), Judgement::Leave);
            assert_eq!(judge(&claimed("me", 600, 7, Some(outcome)), "me", NOW), Judgement::Leave);
        }
    }

    #[test]
    fn whatever_is_no_order_to_wake_is_left_alone() {
        let left = [
            ordered("Suspended", PowerPhase::Waking, NOW + 1000),
            ordered("Awake", PowerPhase::Waking, NOW),
            ordered("Awake", PowerPhase::Awake, NOW + 1000),
            ordered("Awake", PowerPhase::Suspended, NOW + 1000),
        ];
        for power in left {
            assert_eq!(judge(&power, "me", NOW), Judgement::Leave, "{power:?}");
        }
        let mut unknown = waking();
        unknown.status = None;
        assert_eq!(judge(&unknown, "me", NOW), Judgement::Leave);
    }
}
