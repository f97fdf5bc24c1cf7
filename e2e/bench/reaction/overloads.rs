//! Overloads, one after the other and several at once, and how long each waits for its migration.

use crate::agents::Agents;
use crate::cluster::{CORES, Cluster, QUIET};
use crate::summary::Reaction;
use miyako_core::model::{NodeName, Span, VmKey};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The profile's window and threshold (Reactive Cloud §3.3.2).
const WINDOW: Span = Span::from_secs(5);
const THRESHOLD: f64 = 0.9 * CORES as f64;
/// A new overload begins after this, more often than once per tick so that all phases of the tick are met.
const PACE: Duration = Duration::from_millis(1_370);
/// An overload that nobody relieved for so long is given up, loudly.
const PATIENCE: Duration = Duration::from_secs(60);
/// What happened on the node so long before an overload still counts.
const DISTURBED: Duration = Duration::from_secs(8);
/// VMs that become busy at once: together more than a node has.
const BUSY: usize = 8;

/// One overload under way.
struct Overload {
    vms: Vec<VmKey>,
    begun: Instant,
    full: Option<Instant>,
}

/// Makes overloads and times what comes of them.
pub(crate) struct Overloads<'a> {
    cluster: &'a Cluster,
    running: BTreeMap<NodeName, Overload>,
}

impl<'a> Overloads<'a> {
    pub(crate) fn new(cluster: &'a Cluster) -> Self {
        Self { cluster, running: BTreeMap::new() }
    }

    /// Overloads one node after the other, until so many were relieved or each had its turn.
    pub(crate) async fn run(mut self, agents: &mut Agents, count: usize) -> anyhow::Result<Vec<Reaction>> {
        let mut nodes = self.cluster.shared.iter();
        let (mut reactions, mut due) = (Vec::new(), Instant::now());
        while reactions.len() < count && (nodes.len() > 0 || !self.running.is_empty()) {
            if Instant::now() >= due
                && let Some((node, vms)) = nodes.next()
            {
                due += PACE;
                let vms: Vec<VmKey> = vms.iter().take(BUSY).cloned().collect();
                vms.iter().for_each(|vm| agents.set(vm, 1.0));
                self.running.insert(node.clone(), Overload { vms, begun: Instant::now(), full: None });
            }
            agents.turn().await?;
            self.look(agents, &mut reactions)?;
        }
        Ok(reactions)
    }

    fn look(&mut self, agents: &mut Agents, reactions: &mut Vec<Reaction>) -> anyhow::Result<()> {
        let mut over = Vec::new();
        for (node, overload) in &mut self.running {
            if overload.full.is_none() && agents.average(node, WINDOW).is_some_and(|load| load.value() >= THRESHOLD) {
                overload.full = Some(Instant::now());
            }
            // A VM that came back to this node of all nodes begins its window anew: another case.
            let disturbed = agents.changed_since(node, overload.begun.checked_sub(DISTURBED).unwrap_or(overload.begun));
            let created = self.cluster.notices.first_of(&overload.vms, overload.begun);
            match (overload.full, created) {
                _ if disturbed => over.push((node.clone(), overload.vms.clone())),
                (Some(full), Some(created)) => {
                    reactions.push(created.saturating_duration_since(full));
                    over.push((node.clone(), overload.vms.clone()));
                }
                (None, Some(_)) => anyhow::bail!("{node} was relieved before its window was full"),
                _ => anyhow::ensure!(overload.begun.elapsed() < PATIENCE, "nobody relieves {node}"),
            }
        }
        for (node, vms) in over {
            self.running.remove(&node);
            vms.iter().for_each(|vm| agents.set(vm, QUIET));
        }
        Ok(())
    }
}
