//! One NodePower behind the rules of an API server, and a machine whose calls can be the last that an agent makes.

use crate::power::{
    Cluster, ClusterError, Heartbeat, Host, HostError, InTheWay, Machine, PowerAgent, Settings, SimulatedHost,
    order::LONGEST_ALARM,
    preflight::{Facts, WakeSource},
    record::to_api,
};
use miyako_api::{
    node_power::{AgentStatus, DesiredPower, NodePower, NodePowerSpec, NodePowerStatus},
    node_power_class::SuspendMethod,
};
use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// The wall clock at the begin of a test.
pub(super) const BEGIN: i64 = 1_800_000_000_000;

/// Counts an agent's calls, and lets none return after a given one: the agent is dead then.
#[derive(Default)]
pub(super) struct Life {
    calls: AtomicUsize,
    last: Option<(usize, Moment)>,
}

/// Whether a call that kills the agent takes effect first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Before,
    After,
}

impl Life {
    pub(super) fn until(call: usize, instant: Moment) -> Self {
        Self { calls: AtomicUsize::new(0), last: Some((call, instant)) }
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

pub(super) struct World {
    pub(super) power: Mutex<Option<NodePower>>,
    pub(super) pods: Mutex<Vec<String>>,
    pub(super) heartbeats: Mutex<Vec<Heartbeat>>,
    /// Somebody writes the object between the agent's read and its next write.
    pub(super) meddle: AtomicBool,
    pub(super) machine: Arc<SimulatedHost>,
    begun: Instant,
}

impl World {
    pub(super) fn new(order: NodePowerSpec) -> Arc<Self> {
        let mut power = NodePower::new("node-1", order);
        power.metadata.resource_version = Some("1".into());
        Arc::new(Self {
            power: Mutex::new(Some(power)),
            pods: Mutex::default(),
            heartbeats: Mutex::default(),
            meddle: AtomicBool::new(false),
            machine: Arc::new(SimulatedHost::new()),
            begun: Instant::now(),
        })
    }

    pub(super) fn now(&self) -> i64 {
        BEGIN + i64::try_from(self.begun.elapsed().as_millis()).unwrap()
    }

    /// An agent that lives as long as `life`.
    pub(super) fn agent(self: &Arc<Self>, life: &Arc<Life>) -> PowerAgent<Mortal, Mortal> {
        let part = || Arc::new(Mortal { world: Arc::clone(self), life: Arc::clone(life) });
        let world = Arc::clone(self);
        let settings = Settings {
            node: "node-1".into(),
            wake_source: WakeSource::Controller,
            longest_sleep: LONGEST_ALARM,
            samples: None,
            version: "test",
        };
        PowerAgent::new(part(), part(), settings, Arc::new(move || world.now()))
    }

    pub(super) fn record(&self) -> AgentStatus {
        let power = self.power.lock().unwrap();
        power.as_ref().and_then(|power| power.status.clone()).and_then(|status| status.agent).unwrap_or_default()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut NodePower)) {
        let mut power = self.power.lock().unwrap();
        let power = power.as_mut().unwrap();
        change(power);
        let version: u64 = power.metadata.resource_version.as_ref().unwrap().parse().unwrap();
        power.metadata.resource_version = Some((version + 1).to_string());
    }
}

/// An order to sleep that was given at the begin of the test.
pub(super) fn order(generation: i64, method: SuspendMethod) -> NodePowerSpec {
    NodePowerSpec {
        desired: DesiredPower::Suspended,
        generation,
        issued_at: to_api(BEGIN).unwrap(),
        expires_at: to_api(BEGIN + 60_000).unwrap(),
        reason: "empty".into(),
        wake_by: None,
        method,
        wake_at: None,
        despite_failures: false,
        sample: None,
        wake_ways: Vec::new(),
    }
}

/// The world as one agent reaches it: a call may be its last.
pub(super) struct Mortal {
    world: Arc<World>,
    life: Arc<Life>,
}

impl Mortal {
    /// Does not return when the agent dies before, or after, this call.
    async fn call<T>(&self, effect: impl Future<Output = T> + Send) -> T {
        let call = self.life.calls.fetch_add(1, Ordering::SeqCst);
        if self.life.last == Some((call, Moment::Before)) {
            return pending().await;
        }
        let answer = effect.await;
        if self.life.last == Some((call, Moment::After)) {
            return pending().await;
        }
        answer
    }
}

impl Cluster for Mortal {
    async fn node_power(&self) -> Result<Option<NodePower>, ClusterError> {
        self.call(async { Ok(self.world.power.lock().unwrap().clone()) }).await
    }

    async fn in_the_way(&self) -> Result<InTheWay, ClusterError> {
        let look = async { Ok(InTheWay { control_plane: None, pods: self.world.pods.lock().unwrap().clone() }) };
        self.call(look).await
    }

    async fn report(&self, seen: &NodePower, agent: &AgentStatus) -> Result<NodePower, ClusterError> {
        let write = async {
            if self.world.meddle.swap(false, Ordering::SeqCst) {
                self.world.change(|power| {
                    power.spec.generation += 1;
                    power.spec.desired = DesiredPower::Awake;
                });
            }
            let version = self.world.power.lock().unwrap().as_ref().unwrap().metadata.resource_version.clone();
            if seen.metadata.resource_version != version {
                return Err(ClusterError::Conflict { what: "write status.agent" });
            }
            self.world.change(|power| {
                let status = power.status.get_or_insert_with(NodePowerStatus::default);
                status.agent = Some(agent.clone());
            });
            Ok(self.world.power.lock().unwrap().clone().unwrap())
        };
        self.call(write).await
    }

    async fn renew_heartbeat(&self, _: i64) -> Result<Heartbeat, ClusterError> {
        let renew = async {
            let mut heartbeats = self.world.heartbeats.lock().unwrap();
            Ok(if heartbeats.is_empty() { Heartbeat::Fresh } else { heartbeats.remove(0) })
        };
        self.call(renew).await
    }

    fn reconnect(&self) {}
}

/// The calls that can't wait are made at once; dying there is dying at the next call that can.
impl Host for Mortal {
    fn machine(&self) -> Result<Machine, HostError> {
        self.world.machine.machine()
    }

    fn facts(&self) -> Result<Facts, HostError> {
        self.world.machine.facts()
    }

    fn choose_deep(&self) -> Result<(), HostError> {
        self.world.machine.choose_deep()
    }

    fn set_alarm(&self, after: Duration) -> Result<(), HostError> {
        self.world.machine.set_alarm(after)
    }

    fn clear_alarm(&self) -> Result<bool, HostError> {
        self.world.machine.clear_alarm()
    }

    async fn wakeup_count(&self) -> Result<u64, HostError> {
        self.call(self.world.machine.wakeup_count()).await
    }

    fn confirm_wakeup_count(&self, count: u64) -> Result<bool, HostError> {
        self.world.machine.confirm_wakeup_count(count)
    }

    async fn enter_mem(&self) -> Result<(), HostError> {
        self.call(self.world.machine.enter_mem()).await
    }

    fn wake_source(&self) -> Option<String> {
        self.world.machine.wake_source()
    }

    async fn power_off(&self) -> Result<(), HostError> {
        self.call(self.world.machine.power_off()).await
    }

    async fn kubelet(&self) -> Result<(), String> {
        self.call(self.world.machine.kubelet()).await
    }
}
