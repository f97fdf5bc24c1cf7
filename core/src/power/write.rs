//! What is to be written next.

use crate::model::{
    Desired, NodeCondition, NodeMarks, PowerState, Purpose, Restless, SleepMethod, Span, Timestamp, Wakeable,
};

/// A change of the recorded phase, with what else the status says from then on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseChange {
    /// The phase from now on.
    pub phase: PowerState,
    /// Since when.
    pub since: Timestamp,
    /// What the newest suspend is for.
    pub purpose: Option<Purpose>,
    /// What earlier suspends were for.
    pub earlier: Vec<Purpose>,
    /// The generation of the newest order to suspend.
    pub suspend_generation: Option<i64>,
    /// Since when it sleeps.
    pub asleep_since: Option<Timestamp>,
    /// The boot id when it was ordered to suspend.
    pub boot_id: Option<String>,
    /// How long it slept, once it is back.
    pub last_sleep: Option<Span>,
    /// Whether it woke when asked: the outcome of a wake after a sleep.
    pub woke: Option<bool>,
    /// Whether it can be woken, and since when that is known.
    pub wakeable: Option<(Wakeable, Timestamp)>,
    /// Attempts to sleep that failed, one after the other.
    pub restless: Option<Restless>,
    /// Why, for people.
    pub message: String,
}

/// One idempotent write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Create the NodePower, with an order to be awake and generation 0.
    Create,
    /// Note the phase in the NodePower's status.
    Phase(Box<PhaseChange>),
    /// Give an order, in the NodePower's spec. One to suspend follows a look at the API server itself (rule 3).
    Order {
        /// What the node is to be.
        desired: Desired,
        /// How it is to sleep; in an order to be awake, how it slept or would.
        method: SleepMethod,
        /// The order's generation.
        generation: i64,
        /// How long it stands.
        stands: Span,
        /// Why, for people.
        reason: String,
    },
    /// Write our taint and labels on the Node, or take them away.
    Mark(NodeMarks),
    /// Write our condition on the Node, or take it away.
    Condition(Option<NodeCondition>),
    /// Note since when nothing keeps the node awake, or that something does.
    Empty(Option<Timestamp>),
    /// Take a person's request away: it is fulfilled, or can't be.
    Answer {
        /// What became of it, for people.
        message: String,
    },
}
