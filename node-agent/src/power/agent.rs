//! One look at the order and what follows from it.
//!
//! ```text
//!  read NodePower ─▶ settle what went before ─▶ new order? ─▶ read pods, look at the machine ─▶ decide
//!                                                                                               │
//!        report the outcome ◀─ look after the node ◀─ sleep ◀─ ACKNOWLEDGED, at its version ◀───┘
//! ```
//!
//! The acknowledgement is the point of no return for the order, not for the node: whatever happens after it, be it a
//! crash at any instruction, nobody obeys that order again. [`crate::power::record`] says how the next look finds out
//! what came of it.

use super::{
    Settings,
    cluster::{Cluster, ClusterError, Heartbeat, InTheWay},
    host::{Host, HostError},
    order::{self, Decision, Now, Orders, Quoted, decide},
    preflight::{Obstacle, obstacles_to, vms},
    record::{self, Found, Outcome},
    sleep::{SleepError, sleep},
};
use crate::stream::WallClock;
use miyako_api::{
    node_power::{AgentStatus, NodePower},
    node_power_class::SuspendMethod,
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep as wait};

/// How often a node that has just woken is looked at.
const RECOVERY_INTERVAL: Duration = Duration::from_millis(250);
/// How long a node that has just woken is looked after. virt-handler's own heartbeat comes within 132 s.
const LONGEST_RECOVERY: Duration = Duration::from_secs(150);
/// How long an orderly shutdown may take before it counts as failed.
const LONGEST_SHUTDOWN: Duration = Duration::from_secs(600);
/// How often the record is written although nothing changed.
pub(super) const RECORD_INTERVAL: Duration = Duration::from_secs(300);

/// What a look led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Nothing is left to be done until the order changes.
    Done,
    /// Something was done: look again.
    Again,
}

/// A look could not be finished. Nothing is lost: the next starts from what the cluster and the machine say.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The cluster did not do as asked.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The machine did not.
    #[error("{}", .0.in_full())]
    Host(#[from] HostError),
}

/// The agent of one node's power.
pub struct PowerAgent<C, H> {
    cluster: Arc<C>,
    host: Arc<H>,
    settings: Settings,
    clock: WallClock,
    outcome: Option<Outcome>,
    /// Since when the machine is back from its last sleep, until that is told.
    back_since: Option<Instant>,
}

impl<C: Cluster, H: Host> PowerAgent<C, H> {
    /// An agent that knows nothing yet.
    pub fn new(cluster: Arc<C>, host: Arc<H>, settings: Settings, clock: WallClock) -> Self {
        Self { cluster, host, settings, clock, outcome: None, back_since: None }
    }

    /// One look.
    ///
    /// # Errors
    /// When the cluster or the machine fails; look again later.
    pub async fn look(&mut self) -> Result<Look, LookError> {
        let Some(power) = self.cluster.node_power().await? else { return Ok(Look::Done) };
        let mut power = self.settle(power).await?;
        if let Some(since) = self.to_be_looked_after(&record_of(&power)) {
            power = self.look_after(power, since).await?;
        }
        self.back_since = None;
        let record = record_of(&power);
        let memory = record::memory(&record);
        let obstacles =
            if order::wants_sleep(&power.spec, memory) { self.obstacles(power.spec.method).await? } else { Vec::new() };
        let generation = power.spec.generation;
        match decide(&power.spec, memory, &obstacles, self.settings.longest_sleep, self.now(&power)) {
            Decision::Nothing => return Ok(Look::Done),
            Decision::Acknowledge => self.write(&power, record::noted(&record, generation, None)).await?,
            Decision::Refuse(refusal) => {
                tracing::warn!(generation, %refusal, "refused an order");
                self.write(&power, record::noted(&record, generation, Some(refusal.to_string()))).await?
            }
            Decision::CarryOut(orders) => {
                let power = self.write(&power, record::acknowledged(&record, generation)).await?;
                tracing::info!(generation, reason = power.spec.reason, ?orders, "going to sleep");
                self.outcome = Some(self.carry_out(&power, orders).await);
                return Ok(Look::Again);
            }
        };
        Ok(Look::Done)
    }

    /// What time it is for the order that stands.
    fn now(&self, power: &NodePower) -> Now {
        let quoted = self.settings.samples.as_ref().zip(power.spec.sample);
        let sample = quoted.map_or(Quoted::Nothing, |(samples, sequence)| {
            let age = u64::try_from(sequence).ok().and_then(|sequence| samples.age(sequence));
            age.map_or(Quoted::Unknown, Quoted::Taken)
        });
        Now { wall: (self.clock)(), sample }
    }

    /// Brings the record in line with the machine.
    async fn settle(&mut self, power: NodePower) -> Result<NodePower, LookError> {
        let before = record_of(&power);
        let machine = self.host.machine()?;
        let now = (self.clock)();
        let (mut after, found) = record::settle(&before, &power.spec, &machine, self.outcome.as_ref(), now);
        after.obstacles = self.lasting_obstacles(power.spec.method)?;
        after.version = Some(self.settings.version.to_owned());
        let aged = before.last_seen.as_ref().is_none_or(|at| {
            now.saturating_sub(at.0.as_millisecond()) >= i64::try_from(RECORD_INTERVAL.as_millis()).unwrap_or(i64::MAX)
        });
        if after == before && !aged {
            return Ok(power);
        }
        match found {
            Found::Unchanged | Found::New => {}
            Found::Resumed => tracing::info!(sleep = ?after.last_sleep, "back from sleep"),
            Found::Booted => tracing::info!(boot_id = machine.boot_id, "the machine has booted"),
            Found::NotCarriedOut => {
                tracing::error!(why = after.refusal, failures = after.suspend_failures, "did not sleep");
            }
        }
        let power = self.write(&power, after).await?;
        self.outcome = None;
        Ok(power)
    }

    /// Since when the node is back from a sleep after which nobody has looked after it yet, neither this agent nor
    /// one before it.
    fn to_be_looked_after(&self, record: &AgentStatus) -> Option<Instant> {
        let sleep = record.last_sleep.as_ref()?;
        if sleep.method != SuspendMethod::S3 || sleep.kubelet_after_millis.is_some() {
            return None;
        }
        let resumed = record.resumed_at.as_ref()?.0.as_millisecond();
        let age = Duration::from_millis(u64::try_from((self.clock)().saturating_sub(resumed)).unwrap_or(0));
        let since = self.back_since.or_else(|| Instant::now().checked_sub(age))?;
        (age < LONGEST_RECOVERY).then_some(since)
    }

    /// Sleeps, or shuts down.
    async fn carry_out(&mut self, power: &NodePower, orders: Orders) -> Outcome {
        let last_look = || {
            // The write of the acknowledgement may have taken long, and a VM may have come.
            order::in_time(&power.spec, self.now(power)).map_err(|late| SleepError::GivenUp(late.to_string()))?;
            match vms(&self.host.facts()?).into_iter().next() {
                Some(obstacle) => Err(SleepError::Obstacle(obstacle)),
                None => Ok(()),
            }
        };
        match orders.method {
            SuspendMethod::S3 => match sleep(&*self.host, orders.alarm, last_look).await {
                Ok(slept) => {
                    self.back_since = Some(Instant::now());
                    self.cluster.reconnect();
                    Outcome::Slept { by: slept.by, source: slept.source }
                }
                Err(error) => Outcome::Failed { why: error.to_string(), counts: error.is_failure() },
            },
            SuspendMethod::PowerOff => match self.shut_down(last_look, orders.alarm).await {
                Ok(()) => Outcome::Failed {
                    why: format!("the machine is still up {} s after its shutdown began", LONGEST_SHUTDOWN.as_secs()),
                    counts: true,
                },
                Err(error) => Outcome::Failed { why: error.to_string(), counts: error.is_failure() },
            },
        }
    }

    /// Returns only if the machine does not shut down: it refused, or is still up after a long while.
    async fn shut_down(
        &self,
        last_look: impl Fn() -> Result<(), SleepError>,
        alarm: Duration,
    ) -> Result<(), SleepError> {
        // Clocks that can switch a machine on do so; that others can't is no reason to stay up.
        if let Err(error) = self.host.set_alarm(alarm) {
            tracing::warn!(error = error.in_full(), "no alarm will switch the machine on");
        }
        let begun = match last_look() {
            Ok(()) => self.host.power_off().await.map_err(SleepError::Host),
            given_up => given_up,
        };
        if begun.is_ok() {
            wait(LONGEST_SHUTDOWN).await;
        }
        if let Err(error) = self.host.clear_alarm() {
            tracing::warn!(error = error.in_full(), "the alarm could not be taken back");
        }
        begun
    }

    /// What stands in the way of sleep now.
    async fn obstacles(&self, method: SuspendMethod) -> Result<Vec<Obstacle>, LookError> {
        let InTheWay { control_plane, pods } = self.cluster.in_the_way().await?;
        let facts = self.host.facts()?;
        let mut obstacles = obstacles_to(method, &facts, self.settings.wake_source);
        obstacles.extend(control_plane.map(|by| Obstacle::ControlPlane { by }));
        obstacles.extend(pods.into_iter().map(|pod| Obstacle::Pod { pod }));
        Ok(obstacles)
    }

    /// What keeps this machine from sleeping in this way whatever runs on it, as the record tells it.
    fn lasting_obstacles(&self, method: SuspendMethod) -> Result<Vec<String>, LookError> {
        let obstacles = obstacles_to(method, &self.host.facts()?, self.settings.wake_source);
        Ok(obstacles.iter().filter(|obstacle| obstacle.lasts()).map(ToString::to_string).collect())
    }

    /// After a sleep: waits until the kubelet is healthy and KubeVirt calls the node schedulable, and tells how long
    /// each took.
    async fn look_after(&self, power: NodePower, since: Instant) -> Result<NodePower, LookError> {
        let deadline = since + LONGEST_RECOVERY;
        let Some(kubelet_after) = self.kubelet_healthy(since, deadline).await else { return Ok(power) };
        let kubevirt_after = self.heartbeat_fresh(since, deadline).await;
        tracing::info!(?kubelet_after, ?kubevirt_after, "the node is healthy again");
        // Whoever wrote meanwhile, the figures belong to the record as it is now.
        let Some(power) = self.cluster.node_power().await? else { return Ok(power) };
        let mut record = record_of(&power);
        if let Some(sleep) = &mut record.last_sleep {
            sleep.kubelet_after_millis = millis(kubelet_after);
            sleep.kube_virt_after_millis = kubevirt_after.and_then(millis);
        }
        self.write(&power, record).await
    }

    async fn kubelet_healthy(&self, since: Instant, deadline: Instant) -> Option<Duration> {
        let mut said = None;
        loop {
            let Err(why) = self.host.kubelet().await else { return Some(since.elapsed()) };
            if said.as_ref() != Some(&why) {
                tracing::warn!(why, "the kubelet is not healthy after the sleep");
            }
            if Instant::now() >= deadline {
                tracing::error!(why, "the kubelet did not recover from the sleep; its own heartbeat will tell");
                return None;
            }
            said = Some(why);
            wait(RECOVERY_INTERVAL).await;
        }
    }

    /// Nothing when there is no KubeVirt here, or virt-handler is not ready in time: it then speaks for itself.
    async fn heartbeat_fresh(&self, since: Instant, deadline: Instant) -> Option<Duration> {
        let mut said = None;
        loop {
            let why = match self.cluster.renew_heartbeat((self.clock)()).await {
                Ok(Heartbeat::Fresh) => return Some(since.elapsed()),
                Ok(Heartbeat::NoKubeVirt) => return None,
                Ok(Heartbeat::NotYet(why)) => why,
                Err(error) => error.to_string(),
            };
            if said.as_ref() != Some(&why) {
                tracing::warn!(why, "no heartbeat for KubeVirt yet");
            }
            if Instant::now() >= deadline {
                return None;
            }
            said = Some(why);
            wait(RECOVERY_INTERVAL).await;
        }
    }

    async fn write(&self, seen: &NodePower, mut record: AgentStatus) -> Result<NodePower, LookError> {
        record.last_seen = record::to_api((self.clock)());
        Ok(self.cluster.report(seen, &record).await?)
    }
}

fn record_of(power: &NodePower) -> AgentStatus {
    power.status.as_ref().and_then(|status| status.agent.clone()).unwrap_or_default()
}

fn millis(duration: Duration) -> Option<i64> {
    i64::try_from(duration.as_millis()).ok()
}
