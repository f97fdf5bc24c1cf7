//! What holds policies for as long as it lasts: evacuations, rollouts, upgrades, backups. Each is judged by whom it
//! concerns and by its age, because what never ends must not hold those whom it does not concern.

mod ledger;

use super::World;
use crate::observe::convert::kubevirt::Rollout;
use ledger::Key;
pub(super) use ledger::Ledger;
use miyako_core::model::{Concern, Hold, HoldKind, KubeVirt, Migration, NodeName, PowerState, Span, Timestamp, VmKey};
use std::collections::BTreeMap;

/// KubeVirt makes an evacuation's migration within seconds once a slot is free, and tries one that failed again within
/// minutes. One that has waited for longer while slots were free waits for something else.
const EVACUATION_WAITS: Span = Span::from_secs(15 * 60);
/// A rollout that has reached no further node for this long stands still: a pod is pulled and started within minutes.
const ROLLOUT_STANDS: Span = Span::from_secs(30 * 60);
/// An upgrade that has changed no kubelet for this long is over, or nobody is at it.
const UPGRADE_STANDS: Span = Span::from_secs(24 * 3600);
/// A snapshot, restore or memory dump fails or ends within minutes (VirtualMachineSnapshot: 5 by default) …
const SNAPSHOT_TAKES: Span = Span::from_secs(3600);
/// … and a backup copies whole disks.
const BACKUP_TAKES: Span = Span::from_secs(12 * 3600);
/// A node that has not been ready for this long, and that does not sleep, is dead: nobody updates it, and nothing runs there.
const DEAD_AFTER: Span = Span::from_secs(300);
/// KubeVirt's label on nodes that virt-handler runs, or ran, on.
const SCHEDULABLE: &str = "kubevirt.io/schedulable";

impl World {
    /// Judges all that holds anew. What policies hold for is theirs to say (`holdWhen`).
    pub(super) fn judge_holds(&mut self, now: Timestamp) {
        let mut ledger = std::mem::take(&mut self.ledger);
        let mut holds = self.evacuations(&mut ledger, now);
        let waiting = holds.iter().filter(|hold| hold.holds_all).count();
        self.snapshot.evacuations_waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        let rollout = self.rollout(&mut ledger, now);
        let asleep = rollout.as_ref().is_some_and(|found| found.only_asleep);
        self.snapshot.kubevirt.rolling_out = rollout.as_ref().is_some_and(|found| found.hold.holds_all) && !asleep;
        holds.extend(rollout.map(|found| found.hold));
        holds.extend(self.upgrade(&mut ledger, now));
        holds.extend(self.backups(&mut ledger, now));
        ledger.forget_the_rest();
        self.ledger = ledger;
        self.snapshot.holds = holds;
    }

    /// VMs that KubeVirt wants off their node and that hold none of its slots.
    fn evacuations(&self, ledger: &mut Ledger, now: Timestamp) -> Vec<Hold> {
        let all = &self.snapshot.migrations;
        let mut waiting: BTreeMap<&VmKey, Option<Timestamp>> = BTreeMap::new();
        for vm in self.vms.evacuating.iter().filter(|vm| !self.migrations.holds_slot(vm, all)) {
            waiting.insert(vm, None);
        }
        for migration in self.migrations.system_waiting(all) {
            waiting.insert(&migration.vm, Some(migration.created));
        }
        if waiting.is_empty() {
            return Vec::new();
        }
        // KubeVirt writes the source into a migration only at its end.
        let source = |one: &Migration| {
            let node = one.source.clone();
            node.or_else(|| self.snapshot.vms.get(&one.vm)?.node.clone())
        };
        let slots = Slots::of(all.values().filter(|one| one.holds_slot()).map(source));
        let judged = waiting.into_iter().map(|(key, asked)| {
            let own = self.vms.own.get(key);
            let found = self.snapshot.vms.get(key);
            let node = own.and_then(|own| own.node.as_ref());
            let since = ledger.since(&Key::new(HoldKind::Evacuation, key), asked, now);
            let external = own.is_some_and(|own| own.asks.eviction.as_deref() == Some("External"));
            let refusal = found.and_then(|vm| vm.not_migratable.as_deref());
            // Without a migration of its own it waits for no slot if KubeVirt will never make one.
            let elsewhere = own.is_some_and(|own| own.asks.evacuating_from.is_some() && own.asks.evacuating_from != own.node);
            let never = asked.is_none() && (external || elsewhere || refusal.is_some());
            let old = now.since(since) >= EVACUATION_WAITS;
            let stuck = old && !slots.are_spent(node, &self.snapshot.kubevirt);
            let from = node.map_or_else(|| "its node".to_owned(), ToString::to_string);
            let detail = match (asked.is_some(), external, refusal) {
                (true, ..) => format!("KubeVirt's migration of it from {from} waits and has no target pod"),
                (_, true, _) => format!(
                    "it is marked to leave {from} (status.evacuationNodeName), and its evictionStrategy External leaves \
                     that to another program"
                ),
                (_, _, Some(why)) => {
                    format!("it is marked to leave {from} (status.evacuationNodeName) and can't migrate: {why}")
                }
                _ => format!("it is marked to leave {from} (status.evacuationNodeName) and waits for a migration"),
            };
            Hold {
                kind: HoldKind::Evacuation,
                key: key.to_string(),
                concerns: Concern::Vm(key.clone()),
                since,
                holds_all: !never && !stuck,
                overdue: if never { old } else { stuck },
                detail,
                cure: format!(
                    "if its node is no longer drained, `virtctl evacuate-cancel vm {} -n {}` takes the mark away, and so \
                     does a restart of the VM; if it is, see the VM's Events for why it does not move",
                    key.name, key.namespace
                ),
            }
        });
        judged.collect()
    }

    /// The rollout of KubeVirt or virt-handler, if one runs or stands still.
    fn rollout(&self, ledger: &mut Ledger, now: Timestamp) -> Option<RolloutFound> {
        let upgrading = self.kubevirts.values().any(|kubevirt| kubevirt.rolling_out);
        let sum = |part: fn(&Rollout) -> u32| self.rollouts.values().map(part).fold(0, u32::saturating_add);
        let (desired, updated) = (sum(|one| one.desired), sum(|one| one.updated));
        let unseen = self.rollouts.values().any(|one| one.unseen);
        let short = usize::try_from(desired.saturating_sub(updated)).unwrap_or(usize::MAX);
        if !upgrading && !unseen && short == 0 {
            return None;
        }
        let nodes = self.snapshot.nodes.values().filter(|node| node.labels.contains_key(SCHEDULABLE));
        let (mut dead, mut asleep, mut unready) = (0, 0, Vec::new());
        for node in nodes {
            if self.is_dead(&node.name, now) {
                dead += 1;
            } else if !node.ready && node.power != PowerState::Awake {
                asleep += 1;
            }
            if !node.virt_handler_ready && node.power == PowerState::Awake {
                unready.push(node.name.clone());
            }
        }
        if !upgrading && !unseen && short <= dead {
            // Only dead nodes lack it: nothing is rolled out any more.
            return None;
        }
        let what = match (upgrading, short) {
            (true, 0) => "KubeVirt is being upgraded".to_owned(),
            (true, _) => format!("KubeVirt is being upgraded, and virt-handler is new on {updated} of {desired} nodes"),
            (false, _) => format!("virt-handler is being rolled out: it is new on {updated} of {desired} nodes"),
        };
        let key = format!("{upgrading} {updated} of {desired}");
        let since = ledger.since(&Key::new(HoldKind::KubeVirtRollout, &key), None, now);
        // Nodes that sleep get the new pod when they wake.
        let only_asleep = !upgrading && !unseen && short <= dead + asleep;
        let overdue = !only_asleep && now.since(since) >= ROLLOUT_STANDS;
        let hold = Hold {
            kind: HoldKind::KubeVirtRollout,
            key,
            since,
            holds_all: !overdue,
            overdue,
            detail: match (overdue, unready.len()) {
                (false, _) => what,
                (true, 0) => format!("{what}; it has made no progress since"),
                (true, nodes) => {
                    format!("{what}; it has made no progress since, and on {nodes} nodes virt-handler is not ready")
                }
            },
            concerns: Concern::Nodes(unready),
            cure: "see the KubeVirt CR's conditions, the DaemonSet virt-handler and its pods on the nodes where it is not \
                   ready; a node that never comes back is to be deleted"
                .to_owned(),
        };
        Some(RolloutFound { hold, only_asleep })
    }

    /// Kubelets of several versions, those of dead nodes left out.
    fn upgrade(&self, ledger: &mut Ledger, now: Timestamp) -> Option<Hold> {
        let mut known = self.outsides.kubelets.values().filter(|version| !version.is_empty());
        let first = known.next()?;
        if known.all(|version| version == first) {
            return None;
        }
        let mut versions: BTreeMap<&str, Vec<&NodeName>> = BTreeMap::new();
        for (node, version) in self.outsides.kubelets.iter().filter(|(_, version)| !version.is_empty()) {
            versions.entry(version).or_default().push(node);
        }
        for nodes in versions.values_mut() {
            nodes.retain(|node| !self.is_dead(node, now));
        }
        versions.retain(|_, nodes| !nodes.is_empty());
        if versions.len() < 2 {
            return None;
        }
        let counts = versions.iter().map(|(version, nodes)| format!("{version} on {} nodes", nodes.len()));
        let key = counts.collect::<Vec<_>>().join(", ");
        let fewest = versions.values().min_by_key(|nodes| nodes.len()).cloned().unwrap_or_default();
        let since = ledger.since(&Key::new(HoldKind::ClusterUpgrade, &key), None, now);
        let overdue = now.since(since) >= UPGRADE_STANDS;
        Some(Hold {
            kind: HoldKind::ClusterUpgrade,
            concerns: Concern::Nodes(fewest.into_iter().cloned().collect()),
            since,
            holds_all: !overdue,
            overdue,
            detail: format!("kubelets of several versions: {key}"),
            key,
            cure: "bring all nodes to one version, or take ClusterUpgrade out of spec.holdWhen where several are meant to \
                   stay"
                .to_owned(),
        })
    }

    fn backups(&self, ledger: &mut Ledger, now: Timestamp) -> Vec<Hold> {
        let judged = self.vms.backing_up.iter().map(|key| {
            let began = self.vms.own.get(key).and_then(|own| own.asks.backup_began);
            let since = ledger.since(&Key::new(HoldKind::Backup, key), began, now);
            let patience = if began.is_some() { BACKUP_TAKES } else { SNAPSHOT_TAKES };
            let overdue = now.since(since) >= patience;
            Hold {
                kind: HoldKind::Backup,
                key: key.to_string(),
                concerns: Concern::Vm(key.clone()),
                since,
                holds_all: !overdue,
                overdue,
                detail: "a backup, snapshot, restore or memory dump of it runs".to_owned(),
                cure: format!(
                    "see status.snapshotInProgress, restoreInProgress and memoryDumpRequest of VirtualMachine {key} and \
                     fsFreezeStatus of its VMI: end or delete what they name (`virtctl unfreeze {} -n {}` for a frozen \
                     guest)",
                    key.name, key.namespace
                ),
            }
        });
        judged.collect()
    }

    /// The node has been down for so long that nobody updates it, and it does not sleep.
    fn is_dead(&self, node: &NodeName, now: Timestamp) -> bool {
        let Some(found) = self.snapshot.nodes.get(node) else { return false };
        let meant = !matches!(found.power, PowerState::Awake | PowerState::Quarantined);
        let down = self.outsides.down.get(node);
        !meant && down.is_some_and(|since| now.since(*since) >= DEAD_AFTER)
    }
}

/// A rollout, and whether only sleeping nodes (and dead ones) lack it.
struct RolloutFound {
    hold: Hold,
    only_asleep: bool,
}

/// KubeVirt's slots that are taken.
struct Slots {
    taken: u32,
    from: BTreeMap<NodeName, u32>,
}

impl Slots {
    fn of(sources: impl Iterator<Item = Option<NodeName>>) -> Self {
        let mut slots = Self { taken: 0, from: BTreeMap::new() };
        for source in sources {
            slots.taken += 1;
            if let Some(source) = source {
                *slots.from.entry(source).or_default() += 1;
            }
        }
        slots
    }

    /// No further migration from this node could begin.
    fn are_spent(&self, node: Option<&NodeName>, kubevirt: &KubeVirt) -> bool {
        let outbound = node.and_then(|node| self.from.get(node)).copied().unwrap_or_default();
        self.taken >= kubevirt.parallel_per_cluster || outbound >= kubevirt.outbound_per_node
    }
}
