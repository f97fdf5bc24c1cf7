//! Migrations: those under way, and ours that are over.

use crate::observe::convert::{migration::ObservedMigration, pod::Launcher};
use miyako_core::model::{Migration, MigrationName, Node, NodeName, PodKey, TargetTrouble, Uid, VmKey};
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

    /// Joins anew what changed.
    pub(super) fn refresh(
        &mut self,
        all: &mut BTreeMap<MigrationName, Migration>,
        launchers: &BTreeMap<PodKey, Launcher>,
        nodes: &BTreeMap<NodeName, Node>,
    ) {
        for name in std::mem::take(&mut self.dirty) {
            let Some(migration) = all.get_mut(&name) else { continue };
            if let Some(asking) = self.asking.get(&name) {
                migration.target = asking.to(nodes.values()).target;
            }
            let pod = self.targets.get(&migration.uid).and_then(|pod| launchers.get(pod));
            let nowhere = pod.and_then(|pod| pod.unschedulable.clone()).map(TargetTrouble::Unschedulable);
            migration.trouble = self.told.get(&name).cloned().or(nowhere);
        }
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
