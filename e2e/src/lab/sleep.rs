//! The lab's nodes fall asleep: their simulated machines' kubelets are silent ([`crate::sleepers`]), and everything that
//! really runs on them is stopped where it is.
//!
//! What is seen of a sleep is noted without asking the operator: processes that stood still in the node's share for VMs,
//! and CPU time that was used there, of both of which there must be none.

use super::stand::{LabStand, Role};
use crate::scene::Scene;
use crate::sleepers::{Sleeper, Stage, play_waker};
use crate::wait::{Look, until};
use kube::Api;
use kube::api::{Patch, PatchParams};
use miyako_api::NodePower;
use miyako_api::names::ours::REQUEST;
use miyako_api::node_power::{NodePowerStatus, PowerPhase};
use miyako_lab::node::Node;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long the operator may take to suspend nodes, or to wake them for a test: a lease alone lapses within 50 s.
const A_WHILE: Duration = Duration::from_mins(5);

/// One time that a node slept.
#[derive(Debug, Clone)]
pub struct Sleep {
    /// The node.
    pub node: String,
    /// Its machine fell asleep.
    pub asleep: Instant,
    /// Its button was pressed.
    pub pressed: Option<Instant>,
    /// Its machine was awake again.
    pub awake: Option<Instant>,
    /// Processes that were in its share for VMs: the most that were there at either end.
    pub programs: usize,
    /// CPU time that its VMs used meanwhile.
    pub used: Duration,
}

/// All sleeps so far, in the order in which they began. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct SleepLog(Arc<Mutex<Vec<Sleep>>>);

impl SleepLog {
    /// What is known now.
    #[must_use]
    pub fn sleeps(&self) -> Vec<Sleep> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Sleep>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_last(&self, node: &str, change: impl FnOnce(&mut Sleep)) {
        if let Some(sleep) = self.lock().iter_mut().rev().find(|sleep| sleep.node == node) {
            change(sleep);
        }
    }
}

/// Gives each node a machine that can sleep and needs so long to wake, and all of them a waker, until the scenario ends.
/// Returns what they will have done.
///
/// # Errors
/// When an agent's pod or its token can't be had.
pub async fn begin(
    scene: &Scene,
    nodes: impl Iterator<Item = &Arc<Node>>,
    resume: Duration,
) -> anyhow::Result<SleepLog> {
    let (mut machines, log) = (Vec::new(), SleepLog::default());
    for node in nodes {
        let machine = Sleeper::begin(scene, node.name(), resume).await?;
        scene.play(follow(Arc::clone(node), Arc::clone(&machine), log.clone()));
        machines.push(machine);
    }
    play_waker(scene, machines.iter()).await?;
    Ok(log)
}

impl LabStand {
    /// Has every node for busy VMs suspended and woken once, all at the same time: no policy lets a node sleep that has
    /// not shown that it wakes. There must be no VMs yet, and no policy acts when it is done.
    ///
    /// # Errors
    /// When one does not wake in time.
    pub(super) async fn show_that_nodes_wake(&self) -> anyhow::Result<()> {
        self.put_policy(json!({ "mode": "Automatic", "sleep": { "after": "2h" } })).await?;
        let powers: Api<NodePower> = Api::all(self.scene().admin());
        let nodes = self.nodes_for_busy_vms();
        for node in &nodes {
            self.power_of(node, "is known to be empty", |status| status.empty_since.is_some()).await?;
            let ask = json!({ "metadata": { "annotations": { REQUEST: "wake-test lab 1" } } });
            powers.patch(node, &PatchParams::default(), &Patch::Merge(ask)).await?;
        }
        for node in &nodes {
            let back = |status: &NodePowerStatus| {
                status.phase == Some(PowerPhase::Awake)
                    && status.last_wake_test.as_ref().is_some_and(|test| test.succeeded)
            };
            self.power_of(node, "has shown that it wakes", back).await?;
        }
        self.put_policy(json!({ "mode": "Off" })).await
    }

    /// Waits until all nodes for busy VMs sleep on which none begins.
    ///
    /// # Errors
    /// When one stays awake.
    pub async fn wait_until_the_empty_sleep(&self) -> anyhow::Result<()> {
        let homes: BTreeSet<&str> = self.plan().vms.iter().map(|vm| vm.node.as_str()).collect();
        for node in self.nodes_for_busy_vms().into_iter().filter(|node| !homes.contains(node)) {
            self.power_of(node, "sleeps", |status| status.phase == Some(PowerPhase::Suspended)).await?;
        }
        Ok(())
    }

    fn nodes_for_busy_vms(&self) -> Vec<&str> {
        let nodes = self.plan().nodes.iter().filter(|node| node.role == Role::Dedicated);
        nodes.map(|node| node.spec.name.as_str()).collect()
    }

    async fn power_of(&self, node: &str, what: &str, holds: impl Fn(&NodePowerStatus) -> bool) -> anyhow::Result<()> {
        let powers: Api<NodePower> = Api::all(self.scene().admin());
        until(&format!("{node} {what}"), A_WHILE, || async {
            let status = powers.get_opt(node).await?.and_then(|power| power.status).unwrap_or_default();
            Ok(Look::holds(holds(&status), format!("{status:?}")))
        })
        .await
    }
}

/// Stops everything on a node while its machine sleeps, and notes what it sees.
async fn follow(node: Arc<Node>, machine: Arc<Sleeper>, log: SleepLog) {
    let mut stage = machine.stage();
    // What its VMs had used when it fell asleep.
    let mut before = None;
    while stage.changed().await.is_ok() {
        let (now, at) = (*stage.borrow_and_update(), Instant::now());
        match now {
            Stage::Asleep => {
                node.freeze();
                before = node.cpu_time().ok();
                log.lock().push(Sleep {
                    node: node.name().to_owned(),
                    asleep: at,
                    pressed: None,
                    awake: None,
                    programs: node.programs(),
                    used: Duration::ZERO,
                });
            }
            Stage::Resuming => log.change_last(node.name(), |sleep| sleep.pressed = Some(at)),
            Stage::On => {
                let used = node.cpu_time().ok().zip(before.take()).map(|(after, before)| after.saturating_sub(before));
                let programs = node.programs();
                node.thaw();
                log.change_last(node.name(), |sleep| {
                    sleep.awake = Some(at);
                    sleep.programs = sleep.programs.max(programs);
                    sleep.used = used.unwrap_or_default();
                });
            }
        }
    }
}
