//! What nodes draw in a run: the line between idle and full load that the Energy paper measured (tables II and III), over
//! what their VMs really used, and the standby's watts while they slept.

use super::results::{Results, SleepRow};
use anyhow::ensure;
use miyako_core::energy::{Look, draw};
use miyako_core::model::{Cores, PowerFigures, PowerState};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a node of the scenario draws, and how long it takes to fall asleep and to wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Power {
    /// Awake with nothing to do.
    pub idle_watts: u32,
    /// The lab's core busy.
    pub full_watts: u32,
    /// Asleep.
    pub asleep_watts: u32,
    /// From the order to asleep; it draws what an idle node does.
    pub suspend_seconds: u32,
    /// From the button to awake, likewise.
    pub resume_seconds: u32,
}

impl Power {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let Self { idle_watts, full_watts, asleep_watts, suspend_seconds, resume_seconds } = *self;
        ensure!(asleep_watts < idle_watts, "power.asleepWatts: write fewer than idleWatts");
        ensure!(idle_watts <= full_watts, "power.fullWatts: write at least idleWatts");
        ensure!((1..=60).contains(&suspend_seconds), "power.suspendSeconds: write from 1 to 60");
        ensure!((1..=60).contains(&resume_seconds), "power.resumeSeconds: write from 1 to 60");
        Ok(())
    }

    /// What a NodePowerClass says of it, and how its nodes are woken and tested.
    pub(super) fn class(&self) -> Value {
        json!({
            "power": {
                "idleWatts": self.idle_watts, "fullWatts": self.full_watts, "asleepWatts": self.asleep_watts,
                "suspendTime": format!("{}s", self.suspend_seconds), "resumeTime": format!("{}s", self.resume_seconds),
            },
            "wake": [{ "driver": "wol", "address": "02:00:00:00:00:01" }],
            // All at once before a run, so that none falls into it.
            "wakeTest": { "start": "Request" },
        })
    }

    /// From the button to awake.
    #[must_use]
    pub fn resume(&self) -> Duration {
        Duration::from_secs(u64::from(self.resume_seconds))
    }

    fn figures(&self) -> PowerFigures {
        PowerFigures { idle: self.idle_watts, full: self.full_watts, asleep: self.asleep_watts }
    }

    /// Watts of a node whose VMs used so many cores of this many.
    fn watts(&self, power: PowerState, (used, core): (f64, f64)) -> f64 {
        let cores = |value| Cores::new(value).unwrap_or_default();
        let look = Look { power, ready: true, load: Some(cores(used)), capacity: cores(core), measured: None };
        draw(self.figures(), &look).now.value()
    }
}

/// Watts of each node, second by second; none in a scenario that says nothing of them.
#[must_use]
pub fn watts(run: &Results) -> BTreeMap<String, Vec<f64>> {
    let mut watts: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let Some(power) = run.scenario.power else { return watts };
    for (second, row) in run.seconds.iter().enumerate() {
        let span = (second as f64, second as f64 + 1.0);
        for (node, used) in &row.nodes {
            let stands_by = run.sleeps.iter().filter(|sleep| sleep.node == *node);
            let stands_by: f64 = stands_by.map(|sleep| overlap(sleep.stands_by(&power), span)).sum();
            let load = (*used, run.scenario.core);
            let awake = power.watts(PowerState::Awake, load);
            let asleep = power.watts(PowerState::Suspended, load);
            watts.entry(node.clone()).or_default().push(asleep * stands_by + awake * (1.0 - stands_by));
        }
    }
    watts
}

/// For how many seconds of the run a node slept, from falling asleep to being awake.
#[must_use]
pub fn seconds_asleep(run: &Results, node: &str) -> f64 {
    let whole = (0.0, run.seconds.len() as f64);
    let sleeps = run.sleeps.iter().filter(|sleep| sleep.node == node);
    let slept = sleeps.map(|sleep| overlap((sleep.asleep, sleep.awake.unwrap_or(whole.1)), whole));
    // The sum of nothing would be minus zero.
    slept.fold(0.0, |sum, one| sum + one)
}

impl SleepRow {
    /// From when to when it drew what a sleeping node does.
    fn stands_by(&self, power: &Power) -> (f64, f64) {
        let end = self.pressed.or(self.awake).unwrap_or(f64::INFINITY);
        (self.asleep + f64::from(power.suspend_seconds), end)
    }
}

/// How long both spans last together.
pub(super) fn overlap(one: (f64, f64), other: (f64, f64)) -> f64 {
    (one.1.min(other.1) - one.0.max(other.0)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POWER: Power =
        Power { idle_watts: 53, full_watts: 100, asleep_watts: 7, suspend_seconds: 5, resume_seconds: 5 };

    #[test]
    fn a_sleep_stands_by_only_between_its_ends() {
        let sleep =
            SleepRow { node: "a".into(), asleep: 10.0, pressed: Some(30.5), awake: Some(35.5), ..SleepRow::default() };
        assert_eq!(sleep.stands_by(&POWER), (15.0, 30.5));
        assert!((overlap(sleep.stands_by(&POWER), (30.0, 31.0)) - 0.5).abs() < 1e-9);
        assert_eq!(overlap(sleep.stands_by(&POWER), (33.0, 34.0)), 0.0, "it resumes");
        let sleeps_on = SleepRow { pressed: None, awake: None, ..sleep };
        assert_eq!(overlap(sleeps_on.stands_by(&POWER), (99.0, 100.0)), 1.0);
    }

    #[test]
    fn watts_follow_the_papers_line() {
        let watts = |power, used| POWER.watts(power, (used, 0.5));
        assert!((watts(PowerState::Awake, 0.25) - 76.5).abs() < 1e-9);
        assert!((watts(PowerState::Awake, 0.0) - 53.0).abs() < 1e-9);
        assert!((watts(PowerState::Suspended, 0.5) - 7.0).abs() < 1e-9);
    }
}
