//! What a suspend rests on: the facts of rules 3 and 4 as they were when it was decided, for people and the record.

use super::failover::FailoverProof;
use crate::model::{NodeName, Timestamp};
use serde::Serialize;
use std::fmt;

/// What one suspend rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SuspendProof {
    /// Since when nothing has needed the node.
    pub empty_since: Option<Timestamp>,
    /// When it last showed that it wakes; never, of a node that is to be tested.
    pub wake_tested: Option<Timestamp>,
    /// Usable nodes of its policy that stay awake.
    pub awake: u32,
    /// Of those, dedicated nodes without any VM.
    pub spare: u32,
    /// What happens when nodes fail; none where the policy asks for no such proof.
    pub failover: Option<FailoverProof>,
}

impl fmt::Display for SuspendProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (awake, spare) = (self.awake, self.spare);
        write!(f, "{awake} nodes stay awake, {spare} of them spare")?;
        let Some(failover) = &self.failover else { return Ok(()) };
        let worst: Vec<&str> = failover.worst.iter().map(NodeName::as_str).collect();
        if worst.is_empty() {
            return f.write_str("; no VM is on any of the policy's nodes");
        }
        let (tried, vms, worst) = (failover.tried, failover.vms, worst.join(" and "));
        write!(f, "; failures tried: {tried}, each leaves room for its VMs (at most {vms}, of {worst})")?;
        match failover.homeless {
            0 => Ok(()),
            homeless => write!(f, ", but for up to {homeless} that would fit nowhere now either"),
        }
    }
}
