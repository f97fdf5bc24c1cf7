//! What `status.agent` says, and what follows from it when the machine is found as it is: pure.
//!
//! Nothing about a sleep lives in the agent's memory alone. The acknowledgement records, before `mem`, how long the
//! machine had slept since it booted; whoever finds more than that later, the same agent or its successor, knows that
//! it slept, and whoever finds the order still under way without it knows that it did not.
//!
//! ```text
//!                  acknowledged, attempt = N, asleepMillisSinceBoot = a
//!                                     │
//!        ┌────────────────────┬───────┴─────────────┬──────────────────────┐
//!  asleep grew           another boot id       neither, and the       neither, and no word:
//!  = resumed             = powered off, or     attempt failed         this agent's predecessor died
//!                          a lost S3           = refusal              = refusal
//! ```

use super::{host::Machine, order::Memory, sleep::LEAST_SLEEP};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use miyako_api::{
    node_power::{AgentStatus, LastSleep, NodePowerSpec, WokenBy},
    node_power_class::SuspendMethod,
};
use std::time::Duration;

/// What one attempt came to, as long as the agent that made it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The machine slept.
    Slept {
        /// What woke it.
        by: WokenBy,
        /// What the kernel knows of it.
        source: Option<String>,
    },
    /// It did not.
    Failed {
        /// Why.
        why: String,
        /// The machine failed, rather than that the sleep was not wanted any more.
        counts: bool,
    },
}

/// What has happened since the record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Unchanged,
    /// There was no record.
    New,
    /// The machine slept and is back: what sleeps with it must be looked after.
    Resumed,
    /// The machine booted.
    Booted,
    /// An order was not carried out.
    NotCarriedOut,
}

/// The record that goes with the machine as it is now, and what has happened since `before` was written.
#[must_use]
pub fn settle(
    before: &AgentStatus,
    order: &NodePowerSpec,
    machine: &Machine,
    outcome: Option<&Outcome>,
    now: i64,
) -> (AgentStatus, Found) {
    let asleep = i64::try_from(machine.asleep.as_millis()).unwrap_or(i64::MAX);
    let recorded = before.asleep_millis_since_boot.unwrap_or(asleep);
    let grown = u64::try_from(asleep.saturating_sub(recorded)).unwrap_or(0);
    let mut after = before.clone();
    let found = match &before.boot_id {
        None => Found::New,
        Some(boot_id) if *boot_id != machine.boot_id => {
            booted(&mut after, order, now);
            Found::Booted
        }
        Some(_) if Duration::from_millis(grown) >= LEAST_SLEEP => {
            resumed(&mut after, grown, outcome, now);
            Found::Resumed
        }
        Some(_) => match before.attempt {
            Some(generation) => {
                not_carried_out(&mut after, generation, outcome);
                Found::NotCarriedOut
            }
            None => return (after, Found::Unchanged),
        },
    };
    after.attempt = None;
    after.boot_id = Some(machine.boot_id.clone());
    after.asleep_millis_since_boot = Some(asleep);
    (after, found)
}

fn booted(record: &mut AgentStatus, order: &NodePowerSpec, now: i64) {
    let Some(generation) = record.attempt else {
        // Somebody had the machine in hand; what failed before may work now.
        record.suspend_failures = None;
        return;
    };
    record.resumed_at = to_api(now);
    // The order to be awake that came since says how it slept.
    if order.generation >= generation && order.method == SuspendMethod::PowerOff {
        record.suspend_failures = None;
        record.refusal = None;
        record.last_sleep = Some(last_sleep(Some(generation), SuspendMethod::PowerOff, None, None));
    } else {
        record.suspend_failures = Some(failures(record) + 1);
        record.refusal = Some(format!(
            "after order {generation} the machine booted instead of resuming: what was in memory is lost; look for a power loss, or for a firmware that can't resume"
        ));
    }
}

fn resumed(record: &mut AgentStatus, millis: u64, outcome: Option<&Outcome>, now: i64) {
    let seconds = i64::try_from(millis.saturating_add(500) / 1000).unwrap_or(i64::MAX);
    record.last_sleep = Some(last_sleep(record.attempt, SuspendMethod::S3, Some(seconds), outcome));
    record.resumed_at = to_api(now);
    record.suspend_failures = None;
    if record.attempt.is_some() {
        record.refusal = None;
    }
}

fn not_carried_out(record: &mut AgentStatus, generation: i64, outcome: Option<&Outcome>) {
    let (why, counts) = match outcome {
        Some(Outcome::Failed { why, counts }) => (why.as_str(), *counts),
        Some(Outcome::Slept { .. }) | None => {
            ("the agent was restarted after it acknowledged the order; it is not obeyed again", false)
        }
    };
    record.refusal = Some(bounded(format!("order {generation}: {why}")));
    if counts {
        record.suspend_failures = Some(failures(record) + 1);
    }
}

fn last_sleep(
    generation: Option<i64>,
    method: SuspendMethod,
    seconds: Option<i64>,
    outcome: Option<&Outcome>,
) -> LastSleep {
    let (woken_by, wake_source) = match outcome {
        Some(Outcome::Slept { by, source }) => (*by, source.clone()),
        _ => (WokenBy::Unknown, None),
    };
    LastSleep {
        generation,
        method,
        seconds,
        woken_by,
        wake_source,
        kubelet_after_millis: None,
        kube_virt_after_millis: None,
    }
}

/// The record with an order acknowledged that is about to be carried out.
#[must_use]
pub fn acknowledged(before: &AgentStatus, generation: i64) -> AgentStatus {
    AgentStatus {
        acknowledged_generation: Some(generation),
        attempt: Some(generation),
        refusal: None,
        ..before.clone()
    }
}

/// The record with an order taken note of that is not carried out; with a reason when it is refused.
#[must_use]
pub fn noted(before: &AgentStatus, generation: i64, refusal: Option<String>) -> AgentStatus {
    AgentStatus { acknowledged_generation: Some(generation), refusal: refusal.map(bounded), ..before.clone() }
}

/// What the record remembers about orders.
#[must_use]
pub fn memory(record: &AgentStatus) -> Memory {
    Memory { acknowledged: record.acknowledged_generation, failures: failures(record) }
}

fn failures(record: &AgentStatus) -> u32 {
    record.suspend_failures.unwrap_or(0)
}

/// As long as the schema allows.
fn bounded(text: String) -> String {
    if text.chars().count() <= 1024 { text } else { text.chars().take(1023).chain(['…']).collect() }
}

/// A time of the API, to the second as the API keeps it.
pub(super) fn to_api(millis: i64) -> Option<Time> {
    Timestamp::from_millisecond(millis).ok().map(Time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use miyako_api::node_power::DesiredPower;

    fn order(method: SuspendMethod) -> NodePowerSpec {
        NodePowerSpec {
            desired: DesiredPower::Suspended,
            generation: 7,
            issued_at: to_api(0).unwrap(),
            expires_at: to_api(10_000).unwrap(),
            reason: "empty".into(),
            wake_by: None,
            method,
            wake_at: None,
            despite_failures: false,
            sample: None,
            wake_ways: Vec::new(),
        }
    }

    fn machine(boot_id: &str, asleep: u64) -> Machine {
        Machine { boot_id: boot_id.into(), asleep: Duration::from_millis(asleep) }
    }

    fn attempting() -> AgentStatus {
        let record = AgentStatus { suspend_failures: Some(2), ..AgentStatus::default() };
        let (record, found) = settle(&record, &order(SuspendMethod::S3), &machine("a", 5_000), None, 0);
        assert_eq!(found, Found::New);
        acknowledged(&record, 7)
    }

    fn after(method: SuspendMethod, machine: &Machine, outcome: Option<&Outcome>) -> (AgentStatus, Found) {
        settle(&attempting(), &order(method), machine, outcome, 60_000)
    }

    #[test]
    fn a_machine_that_slept_is_found_to_have_whoever_looks() {
        let slept = Outcome::Slept { by: WokenBy::Alarm, source: Some("interrupt 9".into()) };
        for outcome in [None, Some(&slept)] {
            let (record, found) = after(SuspendMethod::S3, &machine("a", 35_200), outcome);
            assert_eq!((found, record.attempt, record.suspend_failures), (Found::Resumed, None, None));
            let sleep = record.last_sleep.clone().unwrap();
            assert_eq!((sleep.generation, sleep.seconds), (Some(7), Some(30)));
            assert_eq!(sleep.woken_by, if outcome.is_some() { WokenBy::Alarm } else { WokenBy::Unknown });
            assert_eq!(record.resumed_at, to_api(60_000));
            // Once is enough.
            let again = settle(&record, &order(SuspendMethod::S3), &machine("a", 35_200), None, 61_000);
            assert_eq!(again, (record, Found::Unchanged));
        }
    }

    #[test]
    fn a_sleep_that_nobody_ordered_is_noticed_too() {
        let record = AgentStatus { attempt: None, ..attempting() };
        let (record, found) = settle(&record, &order(SuspendMethod::S3), &machine("a", 35_000), None, 0);
        assert_eq!((found, record.last_sleep.unwrap().generation), (Found::Resumed, None));
    }

    #[test]
    fn a_failure_counts_and_a_change_of_mind_does_not() {
        for (counts, failures) in [(true, Some(3)), (false, Some(2))] {
            let failed = Outcome::Failed { why: "did not sleep".into(), counts };
            let (record, found) = after(SuspendMethod::S3, &machine("a", 5_900), Some(&failed));
            assert_eq!((found, record.suspend_failures), (Found::NotCarriedOut, failures));
            assert_eq!(record.refusal.as_deref(), Some("order 7: did not sleep"));
        }
    }

    #[test]
    fn an_agent_that_died_before_the_sleep_leaves_a_refusal() {
        let (record, found) = after(SuspendMethod::S3, &machine("a", 5_000), None);
        assert_eq!((found, record.attempt, record.suspend_failures), (Found::NotCarriedOut, None, Some(2)));
        assert!(record.refusal.unwrap().contains("restarted"));
    }

    #[test]
    fn a_boot_is_what_a_shutdown_leads_to_and_a_failure_of_s3() {
        let (record, found) = after(SuspendMethod::PowerOff, &machine("b", 0), None);
        assert_eq!((found, record.suspend_failures, record.refusal), (Found::Booted, None, None));
        assert_eq!(record.last_sleep.unwrap().method, SuspendMethod::PowerOff);
        let (record, found) = after(SuspendMethod::S3, &machine("b", 0), None);
        assert_eq!((found, record.suspend_failures), (Found::Booted, Some(3)));
        assert!(record.refusal.unwrap().contains("booted instead of resuming"));
    }

    #[test]
    fn a_boot_by_itself_forgets_failures() {
        let record = AgentStatus { attempt: None, ..attempting() };
        let (record, found) = settle(&record, &order(SuspendMethod::S3), &machine("b", 0), None, 0);
        assert_eq!((found, record.suspend_failures, record.boot_id.as_deref()), (Found::Booted, None, Some("b")));
    }

    #[test]
    fn a_long_reason_is_cut_to_what_the_schema_takes() {
        let record = noted(&AgentStatus::default(), 1, Some("ä".repeat(5_000)));
        assert_eq!(record.refusal.unwrap().chars().count(), 1024);
    }
}
