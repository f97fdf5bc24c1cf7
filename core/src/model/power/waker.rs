//! What wakers say of orders, and what is known of whether a node can be woken.

use crate::model::Timestamp;
use serde::{Deserialize, Serialize};

/// As many characters of a waker's words as are repeated.
const REPEATED: usize = 700;

/// How an order ended, as far as a waker can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WakerOutcome {
    /// A BMC says that the machine is on.
    Awake,
    /// The request went out, and nobody can tell what came of it.
    Sent,
    /// A BMC says that the machine is off, as it was ordered to be.
    Off,
    /// Every driver failed.
    Failed,
}

/// What a waker wrote of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WakerWord {
    /// Of which order.
    pub generation: i64,
    /// The replica.
    pub by: String,
    /// When it wrote last.
    pub at: Timestamp,
    /// How it ended; none while it goes on.
    pub outcome: Option<WakerOutcome>,
    /// What each driver said and what to check.
    pub message: String,
}

impl WakerWord {
    /// Its words, no longer than others can repeat them.
    pub(crate) fn words(&self) -> String {
        self.message.chars().take(REPEATED).collect()
    }
}

/// Whether a node can be woken, by what is known of its last wake: its NodePower's condition `Wakeable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Wakeable {
    /// It slept and came back when it was asked.
    Woke,
    /// No waker takes up the order to wake it.
    WakerSilent,
    /// Every driver of its class failed.
    DriversFailed,
    /// It was asked, and was not usable in time.
    NotInTime,
}

impl Wakeable {
    /// The condition's type.
    pub const TYPE: &'static str = "Wakeable";

    /// All of them.
    pub const ALL: [Self; 4] = [Self::Woke, Self::WakerSilent, Self::DriversFailed, Self::NotInTime];

    /// The condition's reason.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Woke => "Woke",
            Self::WakerSilent => "WakerSilent",
            Self::DriversFailed => "DriversFailed",
            Self::NotInTime => "NotInTime",
        }
    }

    /// Reads a reason.
    #[must_use]
    pub fn of_reason(reason: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|wakeable| wakeable.reason() == reason)
    }

    /// The condition's status is True.
    #[must_use]
    pub fn holds(self) -> bool {
        self == Self::Woke
    }
}
