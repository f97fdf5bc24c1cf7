//! What carries a migration out. The stand-in decides like KubeVirt; hands move the guest's memory, be it by a clock
//! or by real QEMU processes.

use jiff::Timestamp;
use miyako_core::model::{Bytes, NodeName, Uid, VmKey};
use std::{collections::BTreeMap, time::Duration};

/// One migration, as virt-handlers know it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The VirtualMachineInstanceMigration's uid.
    pub uid: Uid,
    /// The VM.
    pub vm: VmKey,
    /// The VMI's uid.
    pub vmi_uid: Uid,
    /// Guest memory.
    pub memory: Bytes,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// From where.
    pub source: NodeName,
    /// To where.
    pub target: NodeName,
    /// The launcher pod it leaves.
    pub source_pod: String,
    /// The launcher pod it goes to.
    pub target_pod: String,
    /// Bytes per second at most; none is unlimited.
    pub bandwidth: Option<u64>,
    /// The longest downtime that pre-copy may end with.
    pub max_downtime: Duration,
    /// It may switch to post-copy, for which both ends have to be prepared.
    pub allow_post_copy: bool,
    /// The guest may be slowed down so that pre-copy converges.
    pub allow_auto_converge: bool,
    /// The VM has a CPU limit or dedicated CPUs: KubeVirt then uses one connection only.
    pub limited_cpu: bool,
}

/// How memory moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The guest runs at the source.
    PreCopy,
    /// The guest runs at the target and fetches what it misses.
    PostCopy,
    /// The guest stands still until the rest is over.
    Paused,
}

impl Mode {
    /// As in `status.migrationState.mode`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreCopy => "PreCopy",
            Self::PostCopy => "PostCopy",
            Self::Paused => "Paused",
        }
    }
}

/// Where a migration stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The hands know nothing of it.
    Unknown,
    /// The target is being made ready.
    Preparing,
    /// The target listens.
    Ready {
        /// The address of the target's virt-handler.
        address: String,
        /// Its ports: port to the port within the launcher.
        ports: BTreeMap<String, i64>,
    },
    /// Memory moves.
    Moving {
        /// How.
        mode: Mode,
        /// Bytes sent so far.
        sent: Bytes,
    },
    /// The guest runs at the target and the source needs it no more.
    Done {
        /// When it was over.
        at: Timestamp,
    },
    /// Over, and not well.
    Failed {
        /// When.
        at: Timestamp,
        /// Why.
        reason: String,
        /// Somebody asked to abort it, and the guest still runs at the source.
        aborted: bool,
        /// It failed after the switch to post-copy: the guest is lost.
        lost: bool,
    },
}

impl Stage {
    /// Nothing more will come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Failed { .. })
    }
}

/// Carries migrations out. Calls return at once; what comes of them shows in [`Hands::stage`].
pub trait Hands: Send {
    /// Makes the target ready.
    fn prepare_target(&mut self, job: &Job, now: Timestamp);
    /// Starts to move memory, by pre-copy.
    fn start(&mut self, job: &Job, now: Timestamp);
    /// Switches to post-copy.
    fn switch_to_post_copy(&mut self, migration: &Uid, now: Timestamp);
    /// Stops the guest until the rest is over.
    fn pause(&mut self, migration: &Uid, now: Timestamp);
    /// Gives it up, if it has not switched to post-copy yet; `reason` is told as the reason of its failure.
    fn abort(&mut self, migration: &Uid, reason: &str, now: Timestamp);
    /// How far it is.
    fn stage(&mut self, migration: &Uid, now: Timestamp) -> Stage;
    /// It is over and told; nothing more will be asked of it.
    fn forget(&mut self, migration: &Uid);
}
