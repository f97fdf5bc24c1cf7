//! One task for one node: claimed, carried out, answered.

use super::{
    Goal, Judgement, MakeDriver, Task, Ways, judge,
    secret::{Secrets, patiently},
    ways, ways_without_node,
};
use crate::{
    stream::WallClock,
    wake::{self, Driver, Patience, Reading, Retry, Woken, protocol_name, wake},
};
use k8s_openapi::{api::core::v1::Node, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use miyako_api::{
    NodePower, NodePowerClass,
    node_power::{WakeOutcome, WakerStatus},
};
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// How often a claim is renewed.
const RENEWAL: Duration = Duration::from_secs(10);

/// How often a write is tried again that others got in the way of.
const TRIES: usize = 5;

/// Between two looks whether a machine is off.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

/// A machine that is still on after this time does not shut down: its agent gives up after ten minutes.
const LONGEST_SHUTDOWN: Duration = Duration::from_secs(660);

/// The longest message, as the schema has it.
const LONGEST_MESSAGE: usize = 1024;

/// What an errand needs.
#[derive(Clone)]
pub(super) struct Errand {
    pub(super) client: Client,
    pub(super) me: String,
    pub(super) clock: WallClock,
    pub(super) make: Arc<dyn MakeDriver>,
    pub(super) seed: u64,
    pub(super) node: String,
    /// A person's request that no operator has answered in time.
    pub(super) ignored: Option<String>,
    /// A claim of the order that was seen unchanged for so long that it is nobody's.
    pub(super) lapsed: Option<WakerStatus>,
}

/// Somebody else has the order now, or it is no more.
struct Lost;

impl Errand {
    /// Takes the order up, wakes the node and tells what came of it. Nothing is lost when it ends anywhere in between:
    /// the claim lapses and the other replica takes the order up.
    pub(super) async fn run(self) {
        let task = match self.claim().await {
            Ok(Some(task)) => task,
            Ok(None) => return,
            Err(error) => return tracing::warn!(node = self.node, %error, "could not take up an order"),
        };
        tracing::info!(node = self.node, ?task, "taken up");
        let carried_out = async {
            let (drivers, problems) = self.drivers().await;
            if drivers.is_empty() {
                return End::failed(problems.join("; "));
            }
            let end = match task.goal {
                Goal::On(belief) => match wake(&drivers, belief, Patience::default(), self.seed).await {
                    Ok(woken) => End::woken(&woken),
                    Err(failure) => End::failed(failure.to_string()),
                },
                Goal::KnowOff => seen_off(&drivers).await,
            };
            end.besides(&problems)
        };
        let end = tokio::select! {
            biased;
            end = carried_out => end,
            Lost = self.keep_claim(&task) => return tracing::info!(node = self.node, "the order is no longer ours"),
        };
        if end.outcome == WakeOutcome::Failed {
            tracing::error!(node = self.node, detail = end.message, "failed");
        } else {
            tracing::info!(node = self.node, outcome = ?end.outcome, detail = end.message, "done");
        }
        if let Err(Lost) = self.tell(&task, Some(&end)).await {
            tracing::info!(node = self.node, "somebody else answered the order");
        }
    }

    fn powers(&self) -> Api<NodePower> {
        Api::all(self.client.clone())
    }

    fn now(&self) -> Time {
        Time(Timestamp::from_millisecond((self.clock)()).unwrap_or_default())
    }

    /// Writes our claim, if the order as it is now is still ours to take. Of two replicas that try at once the version
    /// lets one win.
    async fn claim(&self) -> kube::Result<Option<Task>> {
        let Some(power) = self.powers().get_opt(&self.node).await? else { return Ok(None) };
        let judgement = judge(&power, self.ignored.as_deref(), &self.me, self.lapsed.as_ref());
        let Judgement::TakeUp(task) = judgement else { return Ok(None) };
        match self.write(&power, self.status(&task, None)).await {
            Ok(()) => Ok(Some(task)),
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn status(&self, task: &Task, end: Option<&End>) -> WakerStatus {
        let mut status = WakerStatus {
            generation: task.generation,
            request: task.request.clone(),
            by: self.me.clone(),
            at: self.now(),
            attempts: 0,
            driver: None,
            outcome: None,
            message: None,
        };
        if let Some(end) = end {
            status.outcome = Some(end.outcome);
            status.driver = end.driver.map(str::to_owned);
            status.attempts = end.attempts;
            status.message = Some(end.message.chars().take(LONGEST_MESSAGE).collect());
        }
        status
    }

    async fn write(&self, read: &NodePower, status: WakerStatus) -> kube::Result<()> {
        let patch = json!({
            "metadata": {"uid": read.uid(), "resourceVersion": read.resource_version()},
            "status": {"waker": status},
        });
        self.powers().patch_status(&self.node, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }

    /// Renews the claim for ever; ends when it is lost.
    async fn keep_claim(&self, task: &Task) -> Lost {
        loop {
            tokio::time::sleep(RENEWAL).await;
            if let Err(lost) = self.tell(task, None).await {
                return lost;
            }
        }
    }

    /// Writes our status as long as the claim is ours. While the API server does not answer we go on: the node is
    /// better awake.
    async fn tell(&self, task: &Task, end: Option<&End>) -> Result<(), Lost> {
        for _ in 0..TRIES {
            let written = match self.powers().get_opt(&self.node).await {
                Ok(Some(power)) => {
                    let waker = power.status.as_ref().and_then(|status| status.waker.as_ref());
                    let ours = |waker: &WakerStatus| {
                        waker.by == self.me && waker.generation == task.generation && waker.request == task.request
                    };
                    // Whether it is off is nobody's question any more once another order stands.
                    let over = task.goal == Goal::KnowOff && power.spec.generation != task.generation;
                    if over || !waker.is_some_and(ours) {
                        return Err(Lost);
                    }
                    self.write(&power, self.status(task, end)).await
                }
                Ok(None) => return Err(Lost),
                Err(error) => Err(error),
            };
            match written {
                Ok(()) => return Ok(()),
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                Err(error) => {
                    tracing::warn!(node = self.node, %error, "could not tell how the wake goes");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
        Ok(())
    }

    /// The drivers of the node's class, read afresh, because addresses and passwords change; then those that were recorded
    /// when the node was ordered to sleep, because classes, labels and Nodes go. Whatever can't be read or made costs
    /// itself alone, and is told with the drivers that there are.
    async fn drivers(&self) -> (Vec<Box<dyn Driver>>, Vec<String>) {
        let mut problems = Vec::new();
        let powers = self.powers();
        let power = patiently(|| powers.get_opt(&self.node)).await.unwrap_or_else(|error| {
            problems.push(format!("cannot read NodePower {}: {error}", self.node));
            None
        });
        let nodes = Api::<Node>::all(self.client.clone());
        let node = patiently(|| nodes.get_opt(&self.node)).await;
        let (classes, all) = (Api::<NodePowerClass>::all(self.client.clone()), ListParams::default());
        let classes = patiently(|| classes.list(&all)).await;
        let classes = classes.map(|classes| classes.items).unwrap_or_else(|error| {
            problems.push(format!("cannot list NodePowerClasses: {error}"));
            Vec::new()
        });
        let node = node.unwrap_or_else(|error| {
            problems.push(format!("cannot read node {}: {error}", self.node));
            None
        });
        let found = match (&node, &power) {
            (Some(node), _) => ways(node, &classes, power.as_ref()),
            (None, Some(power)) => ways_without_node(&self.node, power),
            (None, None) => Ways::default(),
        };
        // Of a Node or class that could not be read nothing else is to be said.
        if problems.is_empty() {
            problems.extend(found.problems.iter().map(ToString::to_string));
        }
        let (mut drivers, mut secrets) = (Vec::new(), Secrets::new(self.client.clone()));
        for way in found.ways {
            let known = wake::Node { name: &self.node, labels: &way.labels };
            let made = match secrets.get(way.spec.secret_ref.as_ref()).await {
                Ok(secret) => self.make.make(&way.spec, known, secret.as_ref()),
                Err(problem) => Err(problem),
            };
            let recorded = if way.recorded { ", as recorded when it was ordered to sleep" } else { "" };
            match made {
                Ok(driver) => drivers.push(driver),
                Err(problem) => {
                    problems.push(format!("{} at {}{recorded}: {problem}", protocol_name(way.spec.driver), way.address))
                }
            }
        }
        // One driver that can't be used must not keep the others from waking the node.
        for problem in &problems {
            tracing::error!(node = self.node, problem, "a way to wake the node cannot be used");
        }
        (drivers, problems)
    }
}

/// Asks every driver again and again until one says that the machine is off. Ends without when none of them can ever
/// say it, or after the longest shutdown; the operator has drawn its own conclusion long before.
async fn seen_off(drivers: &[Box<dyn Driver>]) -> End {
    let begun = tokio::time::Instant::now();
    loop {
        let (mut said, mut hope) = (Vec::new(), false);
        for driver in drivers.iter().filter(|driver| driver.can_read()) {
            let protocol = protocol_name(driver.protocol());
            match driver.verify_off().await {
                Ok(reading) => return End::off(protocol, &reading),
                Err(error) => {
                    hope |= error.retry() != Retry::No;
                    said.push(format!("{protocol} {}: {error} – {}", driver.address(), error.check()));
                }
            }
        }
        if said.is_empty() {
            return End::failed("none of the wake drivers can tell whether the machine is off: add redfish, ipmi or amt under the class's spec.wake".into());
        }
        if !hope || begun.elapsed() >= LONGEST_SHUTDOWN {
            return End::failed(said.join("; "));
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// How it ended, as it is told.
struct End {
    outcome: WakeOutcome,
    driver: Option<&'static str>,
    attempts: u32,
    message: String,
}

impl End {
    fn woken(woken: &Woken) -> Self {
        let driver = woken.by.map(protocol_name);
        Self {
            outcome: if woken.verified { WakeOutcome::Awake } else { WakeOutcome::Sent },
            driver,
            attempts: woken.requests,
            message: match driver {
                Some(driver) => format!("{driver}: {}", woken.evidence),
                None => format!("it was on already: {}", woken.evidence),
            },
        }
    }

    fn off(protocol: &'static str, reading: &Reading) -> Self {
        let message = format!("{protocol}: {reading}");
        Self { outcome: WakeOutcome::Off, driver: Some(protocol), attempts: 1, message }
    }

    /// With the ways that could not be tried at all, if the others failed.
    fn besides(mut self, problems: &[String]) -> Self {
        if self.outcome == WakeOutcome::Failed && !problems.is_empty() {
            self.message = format!("{}; {}", self.message, problems.join("; "));
        }
        self
    }

    fn failed(message: String) -> Self {
        Self { outcome: WakeOutcome::Failed, driver: None, attempts: 0, message }
    }
}
