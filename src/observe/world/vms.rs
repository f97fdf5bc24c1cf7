//! VMs: a VMI joined with its launcher pods, its node, its VirtualMachine, its volumes and its namespace.

use super::storage::{Disks, Storage};
use crate::observe::convert::{
    migration_policy::{self, UserMigrationPolicy},
    pod::Launcher,
    target,
    vm::{self, ObservedVirtualMachine},
    vmi::{Asks, ObservedVmi},
};
use crate::observe::pool::Pool;
use miyako_core::model::{
    KubeVirt, Labels, Marks, MigrationName, Name, Namespace, Node, NodeName, Pod, PodKey, PodOwner, Span, Timestamp,
    Uid, Unsupported, Vm, VmActivity, VmKey,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The watches of VMIs and of migrations lag by different times. After this long both have caught up, and a migration
/// that the VMI alone tells of is none.
const CAUGHT_UP: Span = Span::from_secs(60);

/// What a VMI said itself, before anything was joined to it.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) asks: Asks,
    pub(super) node: Option<NodeName>,
    activity: Option<VmActivity>,
    marks: Marks,
    unsupported: Option<Unsupported>,
}

/// What VMs are joined from, besides the Snapshot itself.
#[derive(Debug, Default)]
pub(super) struct Vms {
    pub(super) own: BTreeMap<VmKey, Own>,
    /// VirtualMachines that say anything at all.
    pub(super) machines: BTreeMap<VmKey, ObservedVirtualMachine>,
    pub(super) launchers: BTreeMap<PodKey, Launcher>,
    launchers_of: BTreeMap<VmKey, BTreeSet<PodKey>>,
    pub(super) policies: BTreeMap<Name, UserMigrationPolicy>,
    /// Those that must be joined anew.
    dirty: BTreeSet<VmKey>,
    pub(super) backing_up: BTreeSet<VmKey>,
    /// Those whose VMI tells of a migration without an end that nothing else shows, and since when.
    vanished: BTreeMap<VmKey, (Uid, Timestamp)>,
    /// Those that KubeVirt wants off their node.
    pub(super) evacuating: BTreeSet<VmKey>,
}

/// The rest of the world, as far as a VM's join looks at it.
pub(super) struct Around<'a> {
    pub(super) nodes: &'a BTreeMap<NodeName, Node>,
    pub(super) pods: &'a BTreeMap<PodKey, Pod>,
    pub(super) namespaces: &'a BTreeMap<Name, Namespace>,
    pub(super) kubevirt: &'a KubeVirt,
    pub(super) storage: &'a Storage,
    /// Migrations that are not over, by VM.
    pub(super) unfinished: &'a BTreeMap<VmKey, BTreeSet<MigrationName>>,
}

impl Vms {
    /// Takes in a VMI and gives back the VM to be kept in the Snapshot.
    pub(super) fn put(&mut self, vmi: ObservedVmi, storage: &mut Storage) -> Vm {
        let ObservedVmi { vm, asks } = vmi;
        if let Some(before) = self.own.get(&vm.key) {
            storage.no_longer_used_by(&vm.key, &before.asks.claims);
        }
        storage.used_by(&vm.key, &asks.claims);
        let own = Own {
            asks,
            node: vm.node.clone(),
            activity: vm.activity,
            marks: vm.marks.clone(),
            unsupported: vm.unsupported.clone(),
        };
        if own.asks.evacuating_from.is_some() {
            self.evacuating.insert(vm.key.clone());
        } else {
            self.evacuating.remove(&vm.key);
        }
        self.own.insert(vm.key.clone(), own);
        self.dirty.insert(vm.key.clone());
        vm
    }

    pub(super) fn remove(&mut self, key: &VmKey, storage: &mut Storage) {
        if let Some(own) = self.own.remove(key) {
            storage.no_longer_used_by(key, &own.asks.claims);
        }
        self.backing_up.remove(key);
        self.vanished.remove(key);
        self.evacuating.remove(key);
        self.dirty.remove(key);
    }

    pub(super) fn put_launcher(&mut self, vm: &VmKey, pod: &PodKey, launcher: Launcher) {
        self.launchers_of.entry(vm.clone()).or_default().insert(pod.clone());
        self.launchers.insert(pod.clone(), launcher);
        self.touch(vm);
    }

    pub(super) fn remove_launcher(&mut self, vm: &VmKey, pod: &PodKey) {
        self.launchers.remove(pod);
        if let Some(pods) = self.launchers_of.get_mut(vm) {
            pods.remove(pod);
            if pods.is_empty() {
                self.launchers_of.remove(vm);
            }
        }
        self.touch(vm);
    }

    /// Something around this VM changed.
    pub(super) fn touch(&mut self, vm: &VmKey) {
        if self.own.contains_key(vm) {
            self.dirty.insert(vm.clone());
        }
    }

    /// Something around all VMs for which this holds changed.
    pub(super) fn touch_all(&mut self, which: impl Fn(&VmKey, &Own) -> bool) {
        let touched = self.own.iter().filter(|(key, own)| which(key, own)).map(|(key, _)| key.clone());
        self.dirty.extend(touched);
    }

    /// Joins anew what changed.
    pub(super) fn refresh(
        &mut self,
        vms: &mut BTreeMap<VmKey, Vm>,
        around: &Around<'_>,
        pool: &mut Pool,
        now: Timestamp,
    ) {
        let busy = |key: &VmKey| vms.get(key).is_some_and(|vm| vm.activity == Some(VmActivity::MigrationVanished));
        let over = self.vanished.iter().filter(|(key, (_, since))| now.since(*since) >= CAUGHT_UP && busy(key));
        self.dirty.extend(over.map(|(key, _)| key.clone()));
        for key in std::mem::take(&mut self.dirty) {
            let (Some(vm), Some(own)) = (vms.get_mut(&key), self.own.get(&key)) else { continue };
            let vanished = self.vanished_migration(vm, own, around);
            let since = vanished.map(|uid| match self.vanished.get(&key) {
                Some((known, since)) if known == uid => *since,
                _ => now,
            });
            match vanished.zip(since) {
                Some((uid, since)) => self.vanished.insert(key.clone(), (uid.clone(), since)),
                None => self.vanished.remove(&key),
            };
            let vanished = since.map(|since| now.since(since) >= CAUGHT_UP);
            self.join(vm, own, vanished, around, pool);
            if vm.activity == Some(VmActivity::BackingUp) {
                self.backing_up.insert(key);
            } else {
                self.backing_up.remove(&key);
            }
        }
    }

    /// The migration that a VMI tells of without an end and that nothing else shows: its object is gone, and no second
    /// launcher is there. KubeVirt no longer takes it for one either.
    fn vanished_migration<'a>(&self, vm: &Vm, own: &'a Own, around: &Around<'_>) -> Option<&'a Uid> {
        let uid = own.asks.migrating.as_ref()?;
        let shows =
            around.unfinished.contains_key(&vm.key) || self.active_launchers(&vm.key, &vm.uid, around).len() > 1;
        (!shows).then_some(uid)
    }

    /// `vanished`: the migration that the VMI tells of shows nowhere else, and has for long enough or not.
    fn join(&self, vm: &mut Vm, own: &Own, vanished: Option<bool>, around: &Around<'_>, pool: &mut Pool) {
        let nothing = ObservedVirtualMachine::default();
        let machine = self.machines.get(&vm.key).unwrap_or(&nothing);
        vm.marks = vm::together(&own.marks, &machine.marks);
        vm.node = own.node.clone().filter(|node| around.nodes.contains_key(node));
        let launchers = self.active_launchers(&vm.key, &vm.uid, around);
        vm.activity = activity(own, machine, launchers.len(), around.unfinished.contains_key(&vm.key), vanished);
        if let (Some(last), Some(uid)) = (&mut vm.last_migration, &own.asks.migrating)
            && last.uid == *uid
        {
            let is_over = vanished == Some(true);
            last.failed = is_over;
            last.failure =
                is_over.then(|| "its VirtualMachineInstanceMigration is gone, and nothing tells how it ended".into());
        }
        let none = Labels::new();
        let namespace = around.namespaces.get(&vm.key.namespace);
        let of_namespace = namespace.map_or(&none, |namespace| &namespace.labels);
        let policy = migration_policy::matching(self.policies.values(), &vm.labels, of_namespace);
        let equals =
            |best| migration_policy::equals(best, self.policies.values(), &vm.labels, of_namespace).into_iter();
        let equals = policy.map(|best| equals(best).map(|policy| policy.name.clone()).collect()).unwrap_or_default();
        vm.user_migration_policy = policy.map(|policy| policy.name.clone());
        vm.equal_migration_policies = equals;
        let Some((pod, launcher)) = the_one_that_runs(&launchers, own.node.as_ref(), around, &vm.key) else {
            vm.target = Arc::default();
            vm.launcher_labels = Labels::new();
            vm.unsupported = Some(Unsupported { field: "its launcher pod (not found)".into() });
            return;
        };
        vm.launcher_labels = target::labels(&vm.labels, &pod.labels);
        let claims = own.asks.claims.union(&launcher.claims).cloned().collect();
        let (disks, unknown_place) = match around.storage.places(&vm.key.namespace, &claims) {
            Ok(disks) => (disks, None),
            Err(unknown) => (Disks::default(), Some(unknown)),
        };
        let source = vm.node.as_ref().and_then(|node| around.nodes.get(node)).map(|node| &node.labels);
        let from = target::Sources { launcher, source, volumes: disks.places, namespace, kubevirt: around.kubevirt };
        let (mut next, unknown_cpu) = target::next(&own.asks, from);
        next.csi_volumes = disks.by_driver;
        vm.target = pool.share(Arc::new(next));
        let not_understood = own.unsupported.clone().or_else(|| launcher.unsupported.clone());
        vm.unsupported = not_understood.or(unknown_cpu).or(unknown_place);
    }

    /// The launchers of this very VMI that have not finished. One whose VMI has been replaced is nobody's.
    fn active_launchers<'a>(&'a self, vm: &VmKey, uid: &Uid, around: &Around<'a>) -> Vec<(&'a Pod, &'a Launcher)> {
        let pods = self.launchers_of.get(vm).into_iter().flatten();
        pods.filter_map(|key| around.pods.get(key).zip(self.launchers.get(key)))
            .filter(|(pod, _)| pod.is_active() && matches!(&pod.owner, PodOwner::Vm { uid: of, .. } if of == uid))
            .collect()
    }
}

/// What keeps the VM from moving: what the VMI says, but a migration that was asked for counts before KubeVirt has
/// taken note of it.
fn activity(
    own: &Own,
    machine: &ObservedVirtualMachine,
    launchers: usize,
    migrating: bool,
    vanished: Option<bool>,
) -> Option<VmActivity> {
    let own = match vanished {
        Some(true) => own.asks.besides,
        Some(false) if own.activity == Some(VmActivity::Migrating) => Some(VmActivity::MigrationVanished),
        _ => own.activity,
    };
    match own {
        Some(VmActivity::Stopping) => own,
        _ if migrating => Some(VmActivity::Migrating),
        Some(activity) => Some(activity),
        None => machine.activity.or_else(|| (launchers > 1).then_some(VmActivity::OldLauncherLeaving)),
    }
}

/// Of a VM's launchers the one it runs in: on its node, else the newest that is no target of a migration under way.
fn the_one_that_runs<'a>(
    launchers: &[(&'a Pod, &'a Launcher)],
    node: Option<&NodeName>,
    around: &Around<'_>,
    vm: &VmKey,
) -> Option<(&'a Pod, &'a Launcher)> {
    let migrating = around.unfinished.contains_key(vm);
    let rank = |(pod, launcher): &&(&Pod, &Launcher)| {
        let here = node.is_some() && pod.node.as_ref() == node;
        let is_target = migrating && matches!(&pod.owner, PodOwner::Vm { target_of: Some(_), .. });
        (here, !is_target, launcher.created, pod.key.clone())
    };
    launchers.iter().max_by_key(rank).copied()
}
