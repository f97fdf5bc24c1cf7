//! What is seen of a node, and what is wished for it.

use crate::model::{NodeCondition, NodeMarks, Purpose, SleepMethod, Timestamp};

/// What is seen of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its class names a way to wake it and a policy that acts rules it: it is to have a NodePower.
    pub managed: bool,
    /// Its condition Ready is True: its lease has not lapsed.
    pub ready: bool,
    /// It is ready, VMs may come to it, and all that its class asks for before it counts is there.
    pub usable: bool,
    /// What is missing until it is usable, for people.
    pub missing: Option<String>,
    /// It is ready, and the pod of a DaemonSet that it needs to be usable is not on it at all: one that our own taint
    /// may keep away.
    pub lacks_pod: bool,
    /// The kernel's boot id.
    pub boot_id: Option<String>,
    /// What we wrote on it, if that is one of the known sets.
    pub marks: Option<NodeMarks>,
    /// Our condition on it, with since when. It is written after the marks.
    pub condition: Option<(NodeCondition, Timestamp)>,
    /// What keeps it from sleeping (rule 3), for people; its own place in the power sequence left out.
    pub blocker: Option<String>,
    /// VMs or ordinary pods are on it.
    pub work: bool,
    /// How its class has it sleep.
    pub method: SleepMethod,
}

impl Facts {
    /// An awake, usable node with nothing on it.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            managed: true,
            ready: true,
            usable: true,
            missing: None,
            lacks_pod: false,
            boot_id: None,
            marks: Some(NodeMarks::None),
            condition: None,
            blocker: None,
            work: false,
            method: SleepMethod::S3,
        }
    }
}

/// What is wished for a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Wish {
    /// Nothing: a sleeper sleeps on, one that was to be suspended is not.
    #[default]
    None,
    /// To be awake.
    Awake {
        /// Why, for people.
        reason: String,
    },
    /// To sleep.
    Asleep {
        /// What for.
        purpose: Purpose,
    },
}

impl Wish {
    /// The node is to be awake.
    #[must_use]
    pub fn is_awake(&self) -> bool {
        matches!(self, Self::Awake { .. })
    }

    /// The node is to sleep for this purpose.
    #[must_use]
    pub fn is_asleep_for(&self, purpose: Option<&Purpose>) -> bool {
        matches!(self, Self::Asleep { purpose: wished } if Some(wished) == purpose)
    }
}
