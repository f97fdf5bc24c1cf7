//! What goes wrong with the demo's machines: a wake in thirty or so fails. The operator takes another node, and asks the one
//! that failed again and again until it comes.

use crate::sim::cluster::{Fate, WakeFate};
use crate::sim::simulation::Simulation;
use crate::sim::workload::Chance;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// This share of all wakes fails …
const FAILS: f64 = 0.03;
/// … and this one for certain, counted from 0, so that everybody sees what becomes of such a node.
const FAILS_FOR_CERTAIN: i64 = 0;
/// A machine can be woken again so many seconds after it was given up: somebody has looked after it.
const REPAIRED_AFTER: u32 = 20 * 60;
/// Seconds from the request until the machine runs (Energy, section II-B: "5 seconds or less").
const WAKES_AFTER: (f64, f64) = (2.0, 6.0);

/// Decides how the next wake will go, whichever node it is.
#[derive(Debug, Default)]
pub(super) struct Mishaps {
    seed: u64,
    /// Wakes that were begun.
    wakes: i64,
    /// The machines that were known to sleep a second ago.
    long: BTreeSet<String>,
    /// The machines that are being woken; of those that do not come, for how many seconds they have been given up.
    waking: BTreeMap<String, Option<u32>>,
}

impl Mishaps {
    /// All chance follows from the seed.
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// One second.
    pub(super) fn second(&mut self, simulation: &mut Simulation) {
        let Some(machines) = &mut simulation.machines else { return };
        let server = &simulation.world.server;
        let phase_of = |node: &str| {
            let phase = |power: &Value| power.pointer("/status/phase").and_then(Value::as_str).map(str::to_owned);
            server.view(|view| view.get("miyako.dev", "nodepowers", "", node).and_then(phase)).unwrap_or_default()
        };
        let asleep: BTreeMap<String, String> =
            machines.asleep().into_iter().map(|node| (node.to_owned(), phase_of(node))).collect();
        self.waking.retain(|node, _| asleep.contains_key(node));
        let begun = self.wakes;
        for (node, phase) in &asleep {
            if !matches!(phase.as_str(), "Waking" | "Quarantined") {
                continue;
            }
            let Some(given_up) = self.waking.get_mut(node) else {
                let long = self.long.contains(node);
                let fails = long && self.fate_of(begun).wake == WakeFate::Fails;
                self.waking.insert(node.clone(), fails.then_some(0));
                self.wakes += i64::from(long);
                continue;
            };
            if let Some(seconds) = given_up.as_mut().filter(|_| phase == "Quarantined") {
                *seconds += 1;
                if *seconds > REPAIRED_AFTER {
                    *given_up = None;
                    machines.set_fate(node, Fate::default());
                }
            }
        }
        self.long = asleep.iter().filter(|(_, phase)| *phase == "Suspended").map(|(node, _)| node.clone()).collect();
        for (node, phase) in asleep.iter().filter(|(node, _)| !self.waking.contains_key(*node)) {
            // Whoever is called back while still falling asleep comes: only long sleepers fail.
            let fate = if phase == "Suspended" { self.fate_of(self.wakes) } else { Fate::default() };
            machines.set_fate(node, fate);
        }
    }

    /// How this wake goes.
    fn fate_of(&self, wake: i64) -> Fate {
        let chance = |purpose| Chance::new(self.seed, "wakes").of(purpose, wake);
        let fails = wake == FAILS_FOR_CERTAIN || chance(1).unit() < FAILS;
        let (soonest, latest) = WAKES_AFTER;
        #[allow(clippy::cast_possible_truncation, reason = "a few seconds")]
        let seconds = chance(2).between(soonest, latest).round() as i64;
        Fate { wake: if fails { WakeFate::Fails } else { WakeFate::After(seconds) }, ..Fate::default() }
    }
}
