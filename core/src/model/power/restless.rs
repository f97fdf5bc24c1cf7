//! A node that will not stay asleep, as its NodePower records it.

use crate::model::Timestamp;

/// Attempts to sleep, one after the other, that did not come about or that the node ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restless {
    /// How many.
    pub times: u32,
    /// Until when it is left awake; none while it is still tried.
    pub until: Option<Timestamp>,
    /// What is known of the last one: the agent's words, or what woke the machine.
    pub why: String,
}
