//! NodePowers.

use super::objects;
use miyako_api::names::ours;
use miyako_api::node_power::{
    AgentStatus, DesiredPower, NodePower, NodePowerSpec, NodePowerStatus, PowerPhase, WakeOutcome, WakerStatus, WokenBy,
};
use miyako_core::model::{
    AgentWord, Desired, Order, PowerRecord, PowerState, Purpose, RecordedEnergy, Request, Restless, Span, Timestamp,
    Wakeable, WakerOutcome, WakerWord,
};

/// Converts a NodePower. Without a phase the node is awake; a wake test that failed proves nothing.
#[must_use]
pub fn convert(power: &NodePower) -> PowerRecord {
    let status = power.status.clone().unwrap_or_default();
    let test = |succeeded| {
        let found = status.last_wake_test.as_ref().filter(|test| test.succeeded == succeeded);
        found.map(|test| objects::timestamp(&test.at))
    };
    let (wake_tested, wake_failed) = (test(true), test(false));
    PowerRecord {
        uid: Some(objects::uid(&power.metadata)),
        version: power.metadata.resource_version.clone().unwrap_or_default(),
        order: Some(order(&power.spec)),
        agent: status.agent.as_ref().map(agent).unwrap_or_default(),
        waker: status.waker.as_ref().map(waker),
        wakeable: wakeable(&status),
        phase: match status.phase {
            None | Some(PowerPhase::Awake) => PowerState::Awake,
            Some(PowerPhase::Emptying) => PowerState::Emptying,
            Some(PowerPhase::Suspending) => PowerState::Suspending,
            Some(PowerPhase::Suspended) => PowerState::Suspended,
            Some(PowerPhase::Waking) => PowerState::Waking,
            Some(PowerPhase::Quarantined) => PowerState::Quarantined,
        },
        noted: status.phase.is_some(),
        since: status.since.as_ref().map(objects::timestamp),
        purpose: status.purpose.map(Purpose::from),
        earlier: status.earlier_purposes.into_iter().map(Purpose::from).collect(),
        suspend_generation: status.suspend_generation,
        asleep_since: status.asleep_since.as_ref().map(objects::timestamp),
        empty_since: status.empty_since.as_ref().map(objects::timestamp),
        boot_id: status.boot_id,
        last_sleep: status.last_sleep_seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Span::from_secs),
        wake_tested,
        wake_failed,
        restless: status.restless.map(|restless| Restless {
            times: restless.times,
            until: restless.until.as_ref().map(objects::timestamp),
            why: restless.why,
        }),
        request: objects::annotation(&power.metadata, ours::REQUEST).and_then(Request::read),
        message: status.message,
        energy: energy(status.joules, status.saved_joules),
    }
}

fn energy(used: Option<i64>, saved: Option<i64>) -> Option<RecordedEnergy> {
    Some(RecordedEnergy { used: u64::try_from(used?).ok()?, saved: saved.unwrap_or_default() })
}

fn order(spec: &NodePowerSpec) -> Order {
    Order {
        desired: match spec.desired {
            DesiredPower::Awake => Desired::Awake,
            DesiredPower::Suspended => Desired::Suspended,
        },
        method: super::class::method(spec.method),
        generation: spec.generation,
        issued: objects::timestamp(&spec.issued_at),
        expires: objects::timestamp(&spec.expires_at),
        reason: spec.reason.clone(),
    }
}

fn waker(status: &WakerStatus) -> WakerWord {
    WakerWord {
        generation: status.generation,
        by: status.by.clone(),
        at: objects::timestamp(&status.at),
        outcome: status.outcome.map(|outcome| match outcome {
            WakeOutcome::Awake => WakerOutcome::Awake,
            WakeOutcome::Sent => WakerOutcome::Sent,
            WakeOutcome::Off => WakerOutcome::Off,
            WakeOutcome::Failed => WakerOutcome::Failed,
        }),
        message: status.message.clone().unwrap_or_default(),
    }
}

fn wakeable(status: &NodePowerStatus) -> Option<(Wakeable, Timestamp)> {
    let condition = status.conditions.iter().find(|condition| condition.type_ == Wakeable::TYPE)?;
    Some((Wakeable::of_reason(&condition.reason)?, objects::timestamp(&condition.last_transition_time)))
}

fn agent(status: &AgentStatus) -> AgentWord {
    let by_clock = status.last_sleep.as_ref().filter(|sleep| sleep.woken_by == WokenBy::Alarm);
    AgentWord {
        acknowledged: status.acknowledged_generation,
        boot_id: status.boot_id.clone(),
        woken_by_clock: by_clock.and_then(|sleep| sleep.generation),
        slept: status.last_sleep.as_ref().and_then(|sleep| {
            let seconds = sleep.seconds.and_then(|seconds| u64::try_from(seconds).ok())?;
            Some((sleep.generation?, Span::from_secs(seconds)))
        }),
        resumed: status.resumed_at.as_ref().map(objects::timestamp),
        wake_source: status.last_sleep.as_ref().and_then(|sleep| Some((sleep.generation?, sleep.wake_source.clone()?))),
        refusal: status.refusal.clone().filter(|refusal| !refusal.is_empty()),
        obstacles: status.obstacles.clone(),
    }
}
