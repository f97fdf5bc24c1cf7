//! NodePowers.

use super::objects;
use miyako_api::node_power::{NodePower, PowerPhase};
use miyako_core::model::{PowerState, Timestamp};

/// What a NodePower adds to its node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObservedPower {
    /// Where the node is between awake and asleep.
    pub state: PowerState,
    /// When it last proved that it can be woken.
    pub wake_tested: Option<Timestamp>,
}

/// Converts a NodePower. Without a phase the node is awake; a wake test that failed proves nothing.
#[must_use]
pub fn convert(power: &NodePower) -> ObservedPower {
    let Some(status) = &power.status else { return ObservedPower::default() };
    let state = match status.phase {
        None | Some(PowerPhase::Awake) => PowerState::Awake,
        Some(PowerPhase::Emptying) => PowerState::Emptying,
        Some(PowerPhase::Suspending) => PowerState::Suspending,
        Some(PowerPhase::Suspended) => PowerState::Suspended,
        Some(PowerPhase::Waking) => PowerState::Waking,
        Some(PowerPhase::Quarantined) => PowerState::Quarantined,
    };
    let test = status.last_wake_test.as_ref().filter(|test| test.succeeded);
    ObservedPower { state, wake_tested: test.map(|test| objects::timestamp(&test.at)) }
}
