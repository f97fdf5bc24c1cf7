//! Migrations: those under way, and ours that are over.

use crate::observe::convert::{event::NotCreated, migration::ObservedMigration, pod::Launcher};
use crate::observe::seen::ObjectKey;
use miyako_core::model::{
    Migration, MigrationName, MigrationPhase, MoveHistory, Node, NodeName, PodKey, TargetTrouble, Uid, Vm, VmKey,
};
use std::collections::{BTreeMap, BTreeSet};

/// What migrations are joined from, besides the Snapshot itself.
#[derive(Debug, Default)]
pub(super) struct Migrations {
    /// Those not over, by VM.
    pub(super) unfinished: BTreeMap<VmKey, BTreeSet<MigrationName>>,
    by_uid: BTreeMap<Uid, MigrationName>,
    /// Those that ask for a host name, as they say it.
    asking: BTreeMap<MigrationName, ObservedMigration>,
    /// Trouble that the object itself tells.
    told: BTreeMap<MigrationName, TargetTrouble>,
    /// Target pods, by the uid of their migration.
    targets: BTreeMap<Uid, PodKey>,
    /// Events that tell that pods were refused, and of which VMs.
    refusals: BTreeMap<ObjectKey, NotCreated>,
    refused: BTreeMap<VmKey, BTreeSet<ObjectKey>>,
    dirty: BTreeSet<MigrationName>,
}

impl Migrations {
    /// Takes in a migration. Finished ones of others are of no interest, and a cluster keeps five for each VM.
    pub(super) fn put(&mut self, observed: ObservedMigration, all: &mut BTreeMap<MigrationName, Migration>) {
        let migration = observed.migration.clone();
        let name = migration.name.clone();
        self.remove(&name, all);
        if !migration.is_unfinished() && migration.plan.is_none() {
            return;
        }
        if migration.is_unfinished() {
            self.unfinished.entry(migration.vm.clone()).or_default().insert(name.clone());
            self.by_uid.insert(migration.uid.clone(), name.clone());
            if let Some(trouble) = &migration.trouble {
                self.told.insert(name.clone(), trouble.clone());
            }
            self.dirty.insert(name.clone());
        }
        if migration.target.is_none() && observed.hostname.is_some() {
            self.asking.insert(name.clone(), observed);
            self.dirty.insert(name.clone());
        }
        all.insert(name, migration);
    }

    /// Forgets a migration and gives back the VM that it moved.
    pub(super) fn remove(
        &mut self,
        name: &MigrationName,
        all: &mut BTreeMap<MigrationName, Migration>,
    ) -> Option<VmKey> {
        let before = all.remove(name)?;
        if let Some(names) = self.unfinished.get_mut(&before.vm) {
            names.remove(name);
            if names.is_empty() {
                self.unfinished.remove(&before.vm);
            }
        }
        self.by_uid.remove(&before.uid);
        self.told.remove(name);
        self.asking.remove(name);
        self.dirty.remove(name);
        Some(before.vm)
    }

    /// The target pod of a migration changed, or came, or went.
    pub(super) fn target(&mut self, migration: &Uid, pod: Option<&PodKey>) {
        match pod {
            Some(pod) => self.targets.insert(migration.clone(), pod.clone()),
            None => self.targets.remove(migration),
        };
        self.dirty.extend(self.by_uid.get(migration).cloned());
    }

    /// A node came or has other labels.
    pub(super) fn touch_asking(&mut self) {
        self.dirty.extend(self.asking.keys().cloned());
    }

    /// An Event about refused pods came, or went.
    pub(super) fn put_refusal(&mut self, key: &ObjectKey, refusal: Option<NotCreated>) {
        if let Some(before) = self.refusals.remove(key)
            && let Some(keys) = self.refused.get_mut(&before.vm)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.refused.remove(&before.vm);
            }
        }
        let Some(refusal) = refusal else { return };
        self.dirty.extend(self.unfinished.get(&refusal.vm).into_iter().flatten().cloned());
        self.refused.entry(refusal.vm.clone()).or_default().insert(key.clone());
        self.refusals.insert(key.clone(), refusal);
    }

    /// The Events about refused pods.
    pub(super) fn refusals(&self) -> impl Iterator<Item = &ObjectKey> {
        self.refusals.keys()
    }

    /// Joins anew what changed.
    pub(super) fn refresh(
        &mut self,
        all: &mut BTreeMap<MigrationName, Migration>,
        (vms, launchers): (&BTreeMap<VmKey, Vm>, &BTreeMap<PodKey, Launcher>),
        nodes: &BTreeMap<NodeName, Node>,
        history: &MoveHistory,
    ) {
        for name in std::mem::take(&mut self.dirty) {
            let Some(migration) = all.get_mut(&name) else { continue };
            if let Some(asking) = self.asking.get(&name) {
                migration.target = asking.to(nodes.values()).target;
            }
            let pod = self.targets.get(&migration.uid).and_then(|pod| launchers.get(pod));
            let nowhere = || pod.and_then(|pod| pod.unschedulable.clone()).map(TargetTrouble::Unschedulable);
            let refused = || match pod {
                None => self.words_of_refusal(migration, vms.get(&migration.vm)?, history),
                Some(_) => None,
            };
            migration.trouble = self.told.get(&name).cloned().or_else(nowhere).or_else(refused);
        }
    }

    /// The API server's words, if it refuses this migration's target pod. The Event tells of the VM alone, so it must be
    /// newer than the migration: an older one told of an earlier one, by us or by somebody else. Both are dated to the
    /// second; within the same one the Event is believed where the same was seen of this VM before.
    fn words_of_refusal(&self, migration: &Migration, vm: &Vm, history: &MoveHistory) -> Option<TargetTrouble> {
        if migration.phase != MigrationPhase::Pending {
            return None;
        }
        let failed = history.of(&vm.uid).and_then(|moves| moves.failure.as_ref());
        let known = failed.is_some_and(|failure| failure.reason == TargetTrouble::NotCreated(String::new()).name());
        let created = migration.created.second();
        let events = self.refused.get(&migration.vm).into_iter().flatten().filter_map(|key| self.refusals.get(key));
        let newer = |event: &&NotCreated| match event.at.second() {
            at if at > created => true,
            at => at == created && known,
        };
        let last = events.filter(|event| event.uid == vm.uid).filter(newer).max_by_key(|event| event.at)?;
        Some(TargetTrouble::NotCreated(last.words.clone()))
    }

    /// KubeVirt's own migrations that hold none of its slots yet.
    pub(super) fn system_waiting<'a>(
        &'a self,
        all: &'a BTreeMap<MigrationName, Migration>,
    ) -> impl Iterator<Item = &'a Migration> {
        let names = self.unfinished.values().flatten();
        names.filter_map(|name| all.get(name)).filter(|one| one.system && !one.holds_slot())
    }

    /// Whether a migration of this VM holds one of KubeVirt's slots.
    pub(super) fn holds_slot(&self, vm: &VmKey, all: &BTreeMap<MigrationName, Migration>) -> bool {
        let names = self.unfinished.get(vm).into_iter().flatten();
        names.filter_map(|name| all.get(name)).any(Migration::holds_slot)
    }
}
