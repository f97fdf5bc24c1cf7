//! What a NodePower records.

use super::{Restless, Wakeable, WakerWord};
use crate::model::{PlanName, PowerState, SleepMethod, Span, Timestamp, Uid};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a node is ordered to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Desired {
    /// Awake.
    Awake,
    /// Suspended.
    Suspended,
}

/// The order in a NodePower's spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What the node is to be.
    pub desired: Desired,
    /// How the node is to sleep; in an order to be awake, how it slept or would.
    pub method: SleepMethod,
    /// Grows with every order.
    pub generation: i64,
    /// When it was given.
    pub issued: Timestamp,
    /// When it is void unless acknowledged.
    pub expires: Timestamp,
    /// Why, for people.
    pub reason: String,
}

/// What the node's own agent wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentWord {
    /// The newest order it has seen and will not carry out again.
    pub acknowledged: Option<i64>,
    /// The kernel's boot id.
    pub boot_id: Option<String>,
    /// When it last came back from sleep.
    pub resumed: Option<Timestamp>,
    /// The order to sleep whose sleep the machine's own clock ended, if that was how it woke last.
    pub woken_by_clock: Option<i64>,
    /// How long it slept by the order of this generation, if that was its last sleep: by the machine's own clocks, so
    /// this is proven. Of a machine that was off nobody knows.
    pub slept: Option<(i64, Span)>,
    /// What ended its last sleep, by the order of this generation, as its kernel says: an interrupt with its device.
    pub wake_source: Option<(i64, String)>,
    /// Why it refused the order it acknowledged, if it did.
    pub refusal: Option<String>,
    /// What keeps its machine from sleeping whatever runs on it.
    pub obstacles: Vec<String>,
}

/// What a node is suspended for. Nothing is suspended twice for the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Purpose {
    /// A ConsolidationPlan.
    Plan {
        /// Which.
        plan: PlanName,
        /// The node sleeps only to show that it wakes.
        wake_test: bool,
    },
    /// A person's request.
    Request(Request),
    /// Something that this version does not know.
    Unknown(String),
}

/// What the texts of the purposes begin with.
const REQUEST: &str = "request ";
const TEST: &str = "wake-test ";
const PLAN: &str = "plan ";

impl Purpose {
    /// What the suspends of a plan are for.
    #[must_use]
    pub fn of_plan(plan: &PlanName, wake_test: bool) -> Self {
        Self::Plan { plan: plan.clone(), wake_test }
    }

    /// A person asked for it.
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self, Self::Request(_))
    }

    /// The node sleeps only to show that it wakes.
    #[must_use]
    pub fn is_wake_test(&self) -> bool {
        match self {
            Self::Plan { wake_test, .. } => *wake_test,
            Self::Request(request) => request.ask == Ask::WakeTest,
            Self::Unknown(_) => false,
        }
    }
}

impl From<String> for Purpose {
    fn from(text: String) -> Self {
        let (wake_test, rest) = text.strip_prefix(TEST).map_or((false, text.as_str()), |rest| (true, rest));
        let plan = rest.strip_prefix(PLAN).map(|plan| Self::Plan { plan: PlanName::new(plan), wake_test });
        let request = || text.strip_prefix(REQUEST).and_then(Request::read).map(Self::Request);
        // What a purpose is written as is what it was read from: else the same would be done twice.
        let read = plan.or_else(request).filter(|purpose| purpose.to_string() == text);
        read.unwrap_or(Self::Unknown(text))
    }
}

impl From<Purpose> for String {
    fn from(purpose: Purpose) -> Self {
        purpose.to_string()
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan { plan, wake_test } => write!(f, "{}{PLAN}{plan}", if *wake_test { TEST } else { "" }),
            Self::Request(request) => write!(f, "{REQUEST}{}", request.text),
            Self::Unknown(text) => f.write_str(text),
        }
    }
}

/// What a person asks of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ask {
    /// Wake it.
    Wake,
    /// Suspend it, as far as rule 3 allows.
    Suspend,
    /// Suspend it and wake it again, to see that it wakes.
    WakeTest,
}

impl Ask {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Wake, Self::Suspend, Self::WakeTest];

    /// The word that stands for it in the annotation.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Wake => "wake",
            Self::Suspend => "suspend",
            Self::WakeTest => "wake-test",
        }
    }
}

/// A person's request, from the annotation `miyako.dev/request` of the NodePower.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Request {
    /// What is asked for.
    pub ask: Ask,
    /// The annotation's whole value: who asked, and when. It makes requests differ.
    pub text: String,
}

impl Request {
    /// Reads `WORD WHO WHEN…`; none if the word is unknown.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let word = text.split_whitespace().next()?;
        let ask = Ask::ALL.into_iter().find(|ask| ask.word() == word)?;
        Some(Self { ask, text: text.trim().to_owned() })
    }

    /// What a suspend that it asks for is for.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        Purpose::Request(self.clone())
    }
}

/// A NodePower, as far as the state machine looks at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PowerRecord {
    /// Its uid; none if there is no NodePower.
    pub uid: Option<Uid>,
    /// Its resource version: writes are made for exactly this one.
    pub version: String,
    /// The order in its spec.
    pub order: Option<Order>,
    /// What the node's agent says.
    pub agent: AgentWord,
    /// What a waker says of the newest order that one took up.
    pub waker: Option<WakerWord>,
    /// Whether it can be woken, and since when that is known.
    pub wakeable: Option<(Wakeable, Timestamp)>,
    /// The recorded phase; Awake if none is.
    pub phase: PowerState,
    /// A phase is recorded.
    pub noted: bool,
    /// Since when.
    pub since: Option<Timestamp>,
    /// What the newest suspend is, or was, for.
    pub purpose: Option<Purpose>,
    /// What earlier suspends were for, the newest first.
    pub earlier: Vec<Purpose>,
    /// The generation of the newest order to suspend: noted before it is given.
    pub suspend_generation: Option<i64>,
    /// Since when it sleeps, or slept before the wake that is under way.
    pub asleep_since: Option<Timestamp>,
    /// Since when nothing keeps it awake but rule 4 and time.
    pub empty_since: Option<Timestamp>,
    /// The boot id when it was last ordered to suspend.
    pub boot_id: Option<String>,
    /// How long it last slept.
    pub last_sleep: Option<Span>,
    /// When it last proved that it can be woken.
    pub wake_tested: Option<Timestamp>,
    /// When it last failed to wake; none once it has proved that it can.
    pub wake_failed: Option<Timestamp>,
    /// Attempts to sleep that failed, one after the other.
    pub restless: Option<Restless>,
    /// What a person asks for.
    pub request: Option<Request>,
    /// What the phase is about, for people.
    pub message: Option<String>,
    /// What it drew and saved, as far as that was written down.
    pub energy: Option<RecordedEnergy>,
}

/// What a node drew and what its sleep saved, in whole joules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedEnergy {
    /// What was drawn.
    pub used: u64,
    /// What sleeping saved; negative where a node draws more asleep than its class says it does idle.
    pub saved: i64,
}

/// Why nobody on the node would obey an order to sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NoAgent {
    /// No agent has ever said anything from it.
    NeverHeard,
    /// The last order to sleep was acknowledged by nobody, and nothing was since.
    Unanswered,
}

impl fmt::Display for NoAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NeverHeard => "no agent has said anything from it",
            Self::Unanswered => "no agent answered its last order to sleep",
        })
    }
}

impl AgentWord {
    /// An agent has written this: each begins with the boot id of its machine.
    fn is_heard(&self) -> bool {
        self.boot_id.is_some() || self.acknowledged.is_some()
    }
}

impl PowerRecord {
    /// Why an order to sleep would be obeyed by nobody. An agent acknowledges orders to be awake too, so one that comes
    /// back ends this.
    #[must_use]
    pub fn no_agent(&self) -> Option<NoAgent> {
        let unanswered = |generation| generation <= self.generation() && !self.acknowledged(generation);
        match self.suspend_generation {
            _ if !self.agent.is_heard() => Some(NoAgent::NeverHeard),
            Some(generation) if unanswered(generation) => Some(NoAgent::Unanswered),
            _ => None,
        }
    }

    /// The generation of the newest order, 0 if there was none.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.order.as_ref().map_or(0, |order| order.generation)
    }

    /// A suspend for this was taken up before: there is no second one.
    #[must_use]
    pub fn is_spent(&self, purpose: &Purpose) -> bool {
        self.purpose.as_ref() == Some(purpose) || self.earlier.contains(purpose)
    }

    /// The agent has acknowledged an order of this generation, or a later one.
    #[must_use]
    pub fn acknowledged(&self, generation: i64) -> bool {
        self.agent.acknowledged.is_some_and(|newest| newest >= generation)
    }

    /// What a waker says of the order that stands.
    #[must_use]
    pub fn waker_word(&self) -> Option<&WakerWord> {
        self.waker.as_ref().filter(|word| word.generation == self.generation())
    }

    /// The node is ordered to be suspended.
    #[must_use]
    pub fn is_ordered_asleep(&self) -> bool {
        self.order.as_ref().is_some_and(|order| order.desired == Desired::Suspended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_are_written_as_they_were_read() {
        let cases = [
            ("plan p-1", false, false),
            ("wake-test plan p-1", true, false),
            ("request suspend ana 2026-01-01", false, true),
            ("request wake-test ana 2026-01-01", true, true),
            ("request dance ana", false, false),
            ("request suspend  ", false, false),
            ("wake-test something else", false, false),
            ("", false, false),
        ];
        for (text, test, request) in cases {
            let purpose = Purpose::from(text.to_owned());
            assert_eq!(purpose.to_string(), text);
            assert_eq!((purpose.is_wake_test(), purpose.is_request()), (test, request), "{text:?}");
        }
        assert_eq!(Purpose::from("wake-test plan p-1".to_owned()), Purpose::of_plan(&"p-1".into(), true));
    }
}
