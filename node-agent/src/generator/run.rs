//! Speaking for every node of a scenario.

use super::{Fault, Node, Scenario};
use crate::stream::{Newest, WallClock, newest};
use futures::future::BoxFuture;
use miyako_api::wire::SAMPLE_INTERVAL;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

/// Carries one node's samples to the operator until it is dropped, with that node's identity, clock and seed.
pub type Carry = Box<dyn Fn(&Node, Newest, WallClock, u64) -> BoxFuture<'static, ()> + Send + Sync>;

/// Speaks for the nodes of a scenario, which can be replaced at any time. Dropping it silences all of them.
pub struct Generator {
    carry: Carry,
    clock: WallClock,
    seed: u64,
    current: watch::Sender<Current>,
    speakers: BTreeMap<String, Speaker>,
}

/// A scenario and since when it is in force.
#[derive(Debug, Clone)]
struct Current {
    scenario: Arc<Scenario>,
    since: Instant,
}

/// The tasks of one node; they end when it is dropped.
struct Speaker {
    token_file: PathBuf,
    _tasks: JoinSet<()>,
}

impl Generator {
    /// A generator that speaks for nobody yet.
    #[must_use]
    pub fn new(carry: Carry, clock: WallClock, seed: u64) -> Self {
        let nothing = Current { scenario: Arc::default(), since: Instant::now() };
        Self { carry, clock, seed, current: watch::Sender::new(nothing), speakers: BTreeMap::new() }
    }

    /// Takes another scenario in. Nodes that stay keep their streams; those that went fall silent.
    pub fn set_scenario(&mut self, scenario: Scenario) {
        self.speakers.retain(|name, speaker| {
            scenario.nodes.iter().any(|node| node.name == *name && node.token_file == speaker.token_file)
        });
        let scenario = Arc::new(scenario);
        self.current.send_replace(Current { scenario: Arc::clone(&scenario), since: Instant::now() });
        for (number, node) in (0_u64..).zip(&scenario.nodes) {
            if !self.speakers.contains_key(&node.name) {
                let speaker = self.speak_for(node, self.seed.wrapping_add(number << 16));
                self.speakers.insert(node.name.clone(), speaker);
            }
        }
    }

    fn speak_for(&self, node: &Node, seed: u64) -> Speaker {
        let newest = newest();
        let off_by_ms = Arc::new(AtomicI64::new(0));
        let clock: WallClock = {
            let (clock, off_by_ms) = (Arc::clone(&self.clock), Arc::clone(&off_by_ms));
            Arc::new(move || clock().saturating_add(off_by_ms.load(Ordering::Relaxed)))
        };
        let mut tasks = JoinSet::new();
        tasks.spawn((self.carry)(node, newest.clone(), Arc::clone(&clock), seed));
        tasks.spawn(tell(node.name.clone(), self.current.subscribe(), newest, clock, off_by_ms));
        Speaker { token_file: node.token_file.clone(), _tasks: tasks }
    }
}

/// Tells once a second what the current scenario says of one node.
async fn tell(
    name: String,
    current: watch::Receiver<Current>,
    newest: Newest,
    clock: WallClock,
    off_by_ms: Arc<AtomicI64>,
) {
    let mut ticks = interval(SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sequence = 0;
    loop {
        ticks.tick().await;
        let Current { scenario, since } = current.borrow().clone();
        let Some(node) = scenario.nodes.iter().find(|node| node.name == name) else { continue };
        let elapsed = since.elapsed();
        let mut sample = scenario.sample(node, elapsed);
        sequence += 1;
        sample.sequence = sequence;
        let (mut silent, mut off, mut held_back) = (false, 0.0, 0.0);
        for fault in node.faults_at(elapsed) {
            match fault {
                Fault::Silent => silent = true,
                Fault::ClockOff { seconds } => off = *seconds,
                Fault::HeldBack { seconds } => held_back = *seconds,
                other => other.spoil(&mut sample),
            }
        }
        off_by_ms.store(millis(off), Ordering::Relaxed);
        sample.sampled_unix_ms = clock().saturating_sub(millis(held_back));
        if !silent {
            newest.offer(sample);
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // saturates, which is as good as any other nonsense in a scenario
fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0) as i64
}
