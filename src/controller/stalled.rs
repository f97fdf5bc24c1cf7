//! Migrations of ours that make no progress. A post-copy is never aborted, by KubeVirt or by us, so a person must hear of
//! one that hangs: its guest waits for memory that does not come.

use miyako_core::model::{
    Bytes, Migration, MigrationMode, MigrationPhase, NodeName, PolicyName, Snapshot, Span, Timestamp, Uid, VmKey,
};
use std::fmt;

/// KubeVirt gives a pre-copy so long per GiB of guest memory (`completionTimeoutPerGiB`, by default); who needs longer
/// hangs, whatever the mode.
const PER_GIB: Span = Span::from_secs(150);
/// A small VM is given this long all the same: KubeVirt's patience with a migration that makes no progress, twice.
const AT_LEAST: Span = Span::from_secs(300);
/// KubeVirt gives a target pod that does not come up 15 minutes. One that comes up and does not get ready it waits for
/// without end, and holds a slot for it, whether its VMIM is deleted or not.
const UNTIL_MEMORY_MOVES: Span = Span::from_secs(16 * 60);

/// A migration of ours that takes longer than any should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stalled {
    /// The VMIM's uid.
    pub(super) uid: Uid,
    /// The VM.
    pub(super) vm: VmKey,
    /// The VMI's uid.
    pub(super) vm_uid: Uid,
    /// The policy that asked for it.
    pub(super) policy: PolicyName,
    target: Option<NodeName>,
    mode: Option<MigrationMode>,
    moves_memory: bool,
    /// How often its time has doubled since it was over: people are told again then, less and less often.
    pub(super) doublings: u32,
    minutes: u64,
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vm, minutes, .. } = self;
        write!(f, "the migration of {vm}")?;
        if let Some(target) = &self.target {
            write!(f, " to {target}")?;
        }
        match (self.moves_memory, self.mode) {
            (false, _) => write!(
                f,
                " was asked for {minutes} minutes ago and moves no memory yet: see its target's launcher pod, whose \
                 deletion ends it, and virt-handler there"
            ),
            (true, Some(MigrationMode::PostCopy)) => write!(
                f,
                " by post-copy has been under way for {minutes} minutes; nobody aborts a post-copy: see virt-handler \
                 and virt-launcher on both nodes"
            ),
            (true, _) => write!(
                f,
                " has been under way for {minutes} minutes: see virt-handler and virt-launcher on both nodes; deleting \
                 its VirtualMachineInstanceMigration aborts it"
            ),
        }
    }
}

/// The migrations of ours that are stalled now, by name.
pub(super) fn find(snapshot: &Snapshot, now: Timestamp) -> Vec<Stalled> {
    let ours = snapshot.migrations.values().filter(|migration| migration.is_unfinished());
    ours.filter_map(|migration| judge(migration, snapshot, now)).collect()
}

fn judge(migration: &Migration, snapshot: &Snapshot, now: Timestamp) -> Option<Stalled> {
    let plan = snapshot.plans.get(migration.plan.as_ref()?)?;
    let vm = snapshot.vms.get(&migration.vm)?;
    let moves_memory = migration.phase == MigrationPhase::Running;
    let last = vm.last_migration.as_ref().filter(|last| last.uid == migration.uid);
    let began = last.and_then(|last| last.started).filter(|_| moves_memory).unwrap_or(migration.created);
    let patience = if moves_memory { patience(vm.memory) } else { UNTIL_MEMORY_MOVES };
    let taken = now.since(began);
    if taken < patience {
        return None;
    }
    Some(Stalled {
        uid: migration.uid.clone(),
        vm: vm.key.clone(),
        vm_uid: vm.uid.clone(),
        policy: plan.policy.clone(),
        target: migration.target.clone(),
        mode: last.and_then(|last| last.mode).or(migration.mode),
        moves_memory,
        doublings: (taken.as_secs() / patience.as_secs().max(1)).max(1).ilog2(),
        minutes: taken.as_secs() / 60,
    })
}

fn patience(memory: Bytes) -> Span {
    let gib = u32::try_from(memory.0.div_ceil(1 << 30)).unwrap_or(u32::MAX);
    PER_GIB.saturating_mul(gib).max(AT_LEAST)
}
