//! When nodes sleep, as policies and classes say, and what was done about it lately.

use super::{NodeName, Pace, Profile, Span, Timestamp, Uid, WakeWay};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// When the empty nodes of a policy sleep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SleepRules {
    /// How long nothing must have kept a node awake.
    pub after: Span,
    /// How long a node stays awake after it woke.
    pub least_awake: Span,
    /// A node whose last sleep was shorter waits longer before the next.
    pub least_asleep: Span,
    /// Suspends begun within an hour, if limited.
    pub suspends_per_hour: Option<u32>,
    /// Nodes of one rack that are woken within a minute.
    pub wakes_per_rack_per_minute: u32,
    /// The node label whose value is the rack.
    pub rack: String,
    /// The most spare dedicated nodes, while nodes have to be woken often; none: twice the policy's spare ones.
    pub most_spare: Option<u32>,
}

impl SleepRules {
    /// The profile's values. Energy-efficient consolidation (§III-C) suspends an empty node at once; half a minute in
    /// `Reactive` is what its idle windows and settle times take to show that a node stays empty.
    #[must_use]
    pub fn of(profile: Profile) -> Self {
        let (after, least) = match profile {
            Profile::Reactive => (30, 60),
            Profile::Conservative => (10 * 60, 15 * 60),
        };
        Self {
            after: Span::from_secs(after),
            least_awake: Span::from_secs(least),
            least_asleep: Span::from_secs(least),
            suspends_per_hour: None,
            wakes_per_rack_per_minute: 10,
            rack: "topology.kubernetes.io/rack".to_owned(),
            most_spare: None,
        }
    }
}

/// How a node sleeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SleepMethod {
    /// Suspended to RAM, and back in seconds.
    #[default]
    S3,
    /// Shut down, and back in minutes by a boot.
    PowerOff,
}

/// When the nodes of a class show that they wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WakeTests {
    /// So old a proof may be: a suspend of a node whose proof is older is a test.
    pub every: Span,
    /// The policy tests by itself; else only people ask for tests.
    pub by_policy: bool,
}

impl Default for WakeTests {
    fn default() -> Self {
        Self { every: Span::from_secs(30 * 24 * 3600), by_policy: true }
    }
}

/// How the nodes of a class sleep and wake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassSleep {
    /// How they sleep.
    pub method: SleepMethod,
    /// How fast they are.
    pub pace: Pace,
    /// How many of them may sleep at once.
    pub max_nodes_asleep: Option<u32>,
    /// So long a node sleeps at most; then it is woken for what only an awake one gets: patches, the right time,
    /// certificates that do not run out.
    pub max_asleep: Span,
    /// The class names a way to wake them.
    pub can_be_woken: bool,
    /// What each of these ways takes from the node.
    pub ways: Vec<WakeWay>,
    /// When they show that they wake.
    pub wake_tests: WakeTests,
    /// Node conditions that must be True before a woken node counts.
    pub ready_conditions: BTreeSet<String>,
    /// DaemonSets (`namespace/name`) whose pod must be ready before a woken node counts.
    pub ready_daemon_sets: BTreeSet<String>,
}

impl Default for ClassSleep {
    fn default() -> Self {
        Self {
            method: SleepMethod::default(),
            pace: Pace::default(),
            max_nodes_asleep: None,
            max_asleep: Span::from_secs(7 * 24 * 3600),
            can_be_woken: false,
            ways: Vec::new(),
            wake_tests: WakeTests::default(),
            ready_conditions: BTreeSet::new(),
            ready_daemon_sets: BTreeSet::new(),
        }
    }
}

/// A wake that a plan began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastWake {
    /// When.
    pub at: Timestamp,
    /// Which node.
    pub node: NodeName,
    /// A VM or a pod waited for it.
    pub awaited: bool,
    /// The uid of the pending pod that waited for it.
    pub pod: Option<Uid>,
}

/// What plans did to the power of nodes lately, folded from ConsolidationPlans.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PowerHistory {
    /// Suspends begun, ascending.
    pub suspends: Vec<(Timestamp, NodeName)>,
    /// Wakes begun, ascending.
    pub wakes: Vec<PastWake>,
}

impl PowerHistory {
    /// Suspends of nodes like this begun within `span` before `now`, or seemingly ahead of it by less than that.
    pub fn suspends_within(&self, now: Timestamp, span: Span, of: impl Fn(&NodeName) -> bool) -> usize {
        let recent = |at: Timestamp| at > now - span && at < now + span;
        self.suspends.iter().filter(|(at, node)| recent(*at) && of(node)).count()
    }

    /// Wakes for this pod, ascending. It still waits, so it went to none of these nodes.
    pub fn in_vain_for<'a>(&'a self, pod: &Uid) -> impl DoubleEndedIterator<Item = &'a PastWake> + use<'a> {
        let pod = pod.clone();
        self.wakes.iter().filter(move |wake| wake.pod.as_ref() == Some(&pod))
    }

    /// Wakes of nodes like this that a VM or a pod waited for, within `span` before `now`.
    pub fn awaited_within(&self, now: Timestamp, span: Span, of: impl Fn(&NodeName) -> bool) -> usize {
        let recent = |at: Timestamp| at > now - span && at < now + span;
        self.wakes.iter().filter(|wake| wake.awaited && recent(wake.at) && of(&wake.node)).count()
    }
}
