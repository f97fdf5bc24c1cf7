//! Whether an order is ours to carry out, as a pure function.
//!
//! No moment that another machine wrote is compared with a clock here. An order to be awake stands until it is answered or
//! replaced by a newer one, and a claim lapses when a replica has seen it unchanged for long on its own clock.

use crate::wake::Belief;
use kube::ResourceExt as _;
use miyako_api::{
    NodePower,
    names::ours,
    node_power::{DesiredPower, PowerPhase, WakerStatus},
    node_power_class::SuspendMethod,
};
use std::time::Duration;

/// A claim that a replica has seen unchanged for so long is nobody's: its holder renews it three times as often.
pub const CLAIM_LAPSES: Duration = Duration::from_secs(30);

/// A person's request to wake that no operator has answered for so long is carried out without one.
pub const OPERATOR_ANSWERS: Duration = Duration::from_secs(20);

/// What to do about one NodePower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing: there is nothing for a waker to do, it is over, or somebody else's.
    Leave,
    /// Take it up.
    TakeUp(Task),
}

/// What there is to be done for one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The generation of the order that stands.
    pub generation: i64,
    /// The person's request that is carried out in place of that order.
    pub request: Option<String>,
    /// What.
    pub goal: Goal,
}

/// What a waker is to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// That the machine is on.
    On(Belief),
    /// Nothing but the knowledge that it is off.
    KnowOff,
}

/// Judges one NodePower for the replica `me`. `ignored` is a person's request that no operator has answered in time, and
/// `lapsed` a claim that this replica has seen unchanged for [`CLAIM_LAPSES`], if there are any.
#[must_use]
pub fn judge(power: &NodePower, ignored: Option<&str>, me: &str, lapsed: Option<&WakerStatus>) -> Judgement {
    let Some(task) = ordered(power).or_else(|| asked(power, ignored)) else { return Judgement::Leave };
    let claim = power.status.as_ref().and_then(|status| status.waker.as_ref());
    let free = match claim {
        Some(claim) if claim.generation > task.generation => false,
        Some(claim) if claim.generation == task.generation && claim.request == task.request => {
            is_free(claim, me, lapsed)
        }
        _ => true,
    };
    if free { Judgement::TakeUp(task) } else { Judgement::Leave }
}

/// What the order that stands has for a waker.
fn ordered(power: &NodePower) -> Option<Task> {
    let (order, status) = (&power.spec, power.status.as_ref()?);
    let goal = match (order.desired, status.phase?) {
        // A node that failed to wake is asked again now and then, each time by a newer order. A node that sleeps on is the
        // operator's to judge.
        (DesiredPower::Awake, PowerPhase::Waking | PowerPhase::Quarantined) => Goal::On(belief(power)),
        // Its agent said that it shuts down; that it is off, only its BMC can say.
        (DesiredPower::Suspended, PowerPhase::Suspending)
            if order.method == SuspendMethod::PowerOff
                && status.agent.as_ref().is_some_and(|agent| agent.attempt == Some(order.generation)) =>
        {
            Goal::KnowOff
        }
        _ => return None,
    };
    Some(Task { generation: order.generation, request: None, goal })
}

/// What a person asks for whom no operator answers. A node that may be awake is left alone: there is nothing to gain.
fn asked(power: &NodePower, ignored: Option<&str>) -> Option<Task> {
    let request = request_to_wake(power).filter(|request| Some(*request) == ignored)?;
    let phase = power.status.as_ref()?.phase?;
    let away = matches!(phase, PowerPhase::Suspended | PowerPhase::Waking | PowerPhase::Quarantined);
    let request = Some(request.chars().take(512).collect());
    away.then(|| Task { generation: power.spec.generation, request, goal: Goal::On(belief(power)) })
}

/// A person's request to wake the node, as it is written.
#[must_use]
pub fn request_to_wake(power: &NodePower) -> Option<&str> {
    let request = power.annotations().get(ours::REQUEST)?;
    (request.split_whitespace().next() == Some("wake")).then_some(request)
}

/// A BMC that says "on" of a machine in S3 may not know better; one that was switched off it knows.
fn belief(power: &NodePower) -> Belief {
    match power.spec.method {
        SuspendMethod::S3 => Belief::Asleep,
        SuspendMethod::PowerOff => Belief::Nothing,
    }
}

fn is_free(claim: &WakerStatus, me: &str, lapsed: Option<&WakerStatus>) -> bool {
    // Our own claim without an errand is that of an earlier life under the same name.
    claim.outcome.is_none() && (claim.by == me || lapsed == Some(claim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use miyako_api::node_power::{AgentStatus, NodePowerStatus, WakeOutcome};
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
        power.status.as_mut().unwrap().waker = Some(WakerStatus {
            generation,
            request: None,
            by: by.into(),
            at,
            attempts: 1,
            driver: None,
            outcome,
            message: None,
        });
        power
    }

    fn take_up() -> Judgement {
        Judgement::TakeUp(Task { generation: 7, request: None, goal: Goal::On(Belief::Asleep) })
    }

    fn judged(power: &NodePower) -> Judgement {
        judge(power, None, "me", None)
    }

    #[test]
    fn an_order_to_wake_is_taken_up_by_whoever_comes_first() {
        let take_up = take_up();
        assert_eq!(judged(&waking()), take_up);
        assert_eq!(judged(&claimed("other", 5, 7, None)), Judgement::Leave);
        assert_eq!(judged(&claimed("other", 5, 6, None)), take_up, "that was another order");
        assert_eq!(judged(&claimed("other", 5, 8, None)), Judgement::Leave, "our picture is old");
    }

    #[test]
    fn a_claim_whose_holder_died_is_taken_over_and_a_finished_one_is_not() {
        let take_up = take_up();
        // However its holder's clock stamps it, a claim lapses when it is seen unchanged for long.
        for age in [3600, 5, -3600] {
            let power = claimed("other", age, 7, None);
            assert_eq!(judged(&power), Judgement::Leave, "{age}");
            let seen = power.status.as_ref().unwrap().waker.clone();
            assert_eq!(judge(&power, None, "me", seen.as_ref()), take_up, "{age}");
            let renewed = claimed("other", age - 10, 7, None);
            assert_eq!(judge(&renewed, None, "me", seen.as_ref()), Judgement::Leave, "{age}: it lives");
        }
        assert_eq!(judged(&claimed("me", 1, 7, None)), take_up, "of an earlier life");
        for outcome in [WakeOutcome::Awake, WakeOutcome::Sent, WakeOutcome::Failed] {
            assert_eq!(judged(&claimed("other", 600, 7, Some(outcome))), Judgement::Leave);
            assert_eq!(judged(&claimed("me", 600, 7, Some(outcome))), Judgement::Leave);
        }
    }

    #[test]
    fn whatever_is_no_order_to_wake_is_left_alone() {
        let left = [
            ordered("Suspended", PowerPhase::Waking, NOW + 1000),
            ordered("Awake", PowerPhase::Awake, NOW + 1000),
            ordered("Awake", PowerPhase::Suspended, NOW + 1000),
        ];
        for power in left {
            assert_eq!(judged(&power), Judgement::Leave, "{power:?}");
        }
        let mut unknown = waking();
        unknown.status = None;
        assert_eq!(judged(&unknown), Judgement::Leave);
    }

    #[test]
    fn an_order_to_be_awake_stands_whatever_the_clocks_say() {
        for expires in [NOW + 600_000, NOW - 7_200_000] {
            for phase in [PowerPhase::Waking, PowerPhase::Quarantined] {
                assert_eq!(judged(&ordered("Awake", phase, expires)), take_up(), "{phase:?}");
            }
        }
    }

    fn shutting_down(attempt: Option<i64>) -> NodePower {
        let mut power = ordered("Suspended", PowerPhase::Suspending, NOW - 1000);
        power.spec.method = SuspendMethod::PowerOff;
        let agent = AgentStatus { attempt, ..AgentStatus::default() };
        power.status.as_mut().unwrap().agent = Some(agent);
        power
    }

    #[test]
    fn whether_a_machine_is_off_is_asked_once_its_agent_shuts_it_down() {
        let look = Judgement::TakeUp(Task { generation: 7, request: None, goal: Goal::KnowOff });
        assert_eq!(judged(&shutting_down(Some(7))), look, "however old the order is");
        assert_eq!(judged(&shutting_down(Some(6))), Judgement::Leave);
        assert_eq!(judged(&shutting_down(None)), Judgement::Leave);
        let mut in_s3 = shutting_down(Some(7));
        in_s3.spec.method = SuspendMethod::S3;
        assert_eq!(judged(&in_s3), Judgement::Leave, "its lease tells");
        let mut off = ordered("Awake", PowerPhase::Waking, NOW + 1000);
        off.spec.method = SuspendMethod::PowerOff;
        let wake = Judgement::TakeUp(Task { generation: 7, request: None, goal: Goal::On(Belief::Nothing) });
        assert_eq!(judged(&off), wake);
    }

    #[test]
    fn a_person_whom_no_operator_answers_is_answered() {
        let asked = |request: &str, phase| {
            let mut power = ordered("Suspended", phase, NOW - 1000);
            power.annotations_mut().insert(ours::REQUEST.into(), request.into());
            power
        };
        let power = asked("wake ana now", PowerPhase::Suspended);
        assert_eq!(judged(&power), Judgement::Leave, "the operator has its time first");
        let wake = Task { generation: 7, request: Some("wake ana now".into()), goal: Goal::On(Belief::Asleep) };
        assert_eq!(judge(&power, Some("wake ana now"), "me", None), Judgement::TakeUp(wake));
        assert_eq!(judge(&power, Some("wake ana before"), "me", None), Judgement::Leave);
        for phase in [PowerPhase::Awake, PowerPhase::Emptying, PowerPhase::Suspending] {
            let power = asked("wake ana now", phase);
            assert_eq!(judge(&power, Some("wake ana now"), "me", None), Judgement::Leave, "{phase:?}");
        }
        let power = asked("suspend ana now", PowerPhase::Suspended);
        assert_eq!(judge(&power, Some("suspend ana now"), "me", None), Judgement::Leave);
        // Once it is done it is done, though an earlier word of the same order is another matter.
        let mut power = asked("wake ana now", PowerPhase::Suspended);
        power.status.as_mut().unwrap().waker = claimed("other", 5, 7, Some(WakeOutcome::Off)).status.unwrap().waker;
        assert!(matches!(judge(&power, Some("wake ana now"), "me", None), Judgement::TakeUp(_)));
        power.status.as_mut().unwrap().waker.as_mut().unwrap().request = Some("wake ana now".into());
        assert_eq!(judge(&power, Some("wake ana now"), "me", None), Judgement::Leave);
    }
}
