//! A made-up node with its agent, its waker and its NodePower. Deliberately simple: one node, whole seconds.

use crate::model::{
    AgentWord, Desired, NodeCondition, NodeMarks, Order, Pace, PowerRecord, PowerState, Purpose, SleepMethod, Span,
    TaintEffect, Timestamp, Uid, WakerOutcome, WakerWord,
};
use crate::power::{Facts, Wish, Write, advance};

/// A lease lapses after this time.
const LEASE_SECONDS: i64 = 50;
/// An agent that acknowledged an order writes `mem` within this time, or never.
const MEM_WITHIN_SECONDS: i64 = 5;
/// An agent ignores an order that is older.
const ORDER_SECONDS: i64 = 10;

/// What the agent is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AgentAt {
    /// It looks for orders.
    Looking,
    /// It has read an order to suspend, given at this moment.
    Read { generation: i64, issued: Timestamp },
    /// It has acknowledged an order, at this moment, and is about to write `mem`.
    AboutTo { since: Timestamp },
}

#[derive(Debug, Clone)]
pub(super) struct Stand {
    pub(super) now: Timestamp,
    pub(super) record: PowerRecord,
    pub(super) marks: NodeMarks,
    pub(super) condition: Option<(NodeCondition, Timestamp)>,
    pub(super) up: bool,
    pub(super) up_since: Timestamp,
    pub(super) asleep_since: Timestamp,
    pub(super) boot: u32,
    pub(super) agent: AgentAt,
    pub(super) agent_runs: bool,
    pub(super) work: bool,
    /// The pod of a DaemonSet that the node needs to be usable is gone.
    pub(super) pod_gone: bool,
    pub(super) blocker: Option<String>,
    pub(super) wish: Wish,
    /// How its class has it sleep.
    pub(super) method: SleepMethod,
    /// Orders to suspend, by purpose, as they were given.
    pub(super) given: Vec<(Option<Purpose>, i64)>,
    /// What no rule allows.
    pub(super) broken: Vec<String>,
    version: u64,
}

impl Stand {
    pub(super) fn new() -> Self {
        let now = Timestamp::from_secs(1_000_000);
        Self {
            now,
            record: PowerRecord::default(),
            marks: NodeMarks::None,
            condition: None,
            up: true,
            up_since: now - Span::from_secs(600),
            asleep_since: now,
            boot: 1,
            agent: AgentAt::Looking,
            agent_runs: true,
            work: false,
            pod_gone: false,
            blocker: None,
            wish: Wish::None,
            method: SleepMethod::S3,
            given: Vec::new(),
            broken: Vec::new(),
            version: 0,
        }
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.now = self.now + Span::from_secs(seconds);
    }

    fn ready(&self) -> bool {
        let seconds = |since: Timestamp| self.now.second() - since.second();
        if self.up { seconds(self.up_since) >= 2 } else { seconds(self.asleep_since) < LEASE_SECONDS }
    }

    pub(super) fn facts(&self) -> Facts {
        Facts {
            ready: self.ready(),
            usable: self.ready() && !self.pod_gone,
            lacks_pod: self.ready() && self.pod_gone,
            boot_id: Some(self.boot.to_string()),
            marks: Some(self.marks),
            condition: self.condition,
            blocker: self.blocker.clone().or_else(|| self.work.then(|| "1 VMs run on it".to_owned())),
            work: self.work,
            method: self.method,
            ..Facts::calm()
        }
    }

    fn touch(&mut self) {
        self.version += 1;
        self.record.version = self.version.to_string();
    }

    /// One write of an operator that saw the stand as it was in `seen`: a write to a NodePower that has changed since
    /// is refused. Says whether there was anything to write.
    pub(super) fn write_as_of(&mut self, seen: &Self) -> bool {
        let (_, write) = advance(&seen.record, &seen.facts(), &seen.wish, Pace::default(), self.now);
        let Some(write) = write else { return false };
        let fresh = seen.record.version == self.record.version;
        match write {
            Write::Mark(marks) => self.marks = marks,
            Write::Condition(condition) => self.condition = condition.map(|condition| (condition, self.now)),
            Write::Create if self.record.uid.is_none() => {
                self.record.uid = Some(Uid::new("np"));
                self.order((Desired::Awake, SleepMethod::S3), 0, Span::ZERO, String::new());
            }
            Write::Phase(change) if fresh => self.note(*change),
            Write::Order { desired, method, generation, stands, reason } if fresh => {
                if desired == Desired::Suspended {
                    self.given.push((self.record.purpose.clone(), generation));
                    // The look at the API server itself just before the order sees what is there now.
                    if self.work || self.blocker.is_some() {
                        self.given.pop();
                        return true;
                    }
                    if seen.wish.is_awake() {
                        self.broken.push("ordered asleep against a wish to be awake".into());
                    }
                }
                if generation <= self.record.generation() {
                    self.broken.push(format!("generation {generation} is not new"));
                }
                self.order((desired, method), generation, stands, reason);
            }
            Write::Empty(since) if fresh => {
                self.record.empty_since = since;
                self.touch();
            }
            Write::Answer { .. } if fresh => {
                self.record.request = None;
                self.touch();
            }
            _ => {}
        }
        true
    }

    fn note(&mut self, change: crate::power::PhaseChange) {
        let record = &mut self.record;
        (record.phase, record.since, record.noted) = (change.phase, Some(change.since), true);
        (record.purpose, record.suspend_generation) = (change.purpose, change.suspend_generation);
        record.earlier = change.earlier;
        (record.asleep_since, record.boot_id) = (change.asleep_since, change.boot_id);
        (record.last_sleep, record.message) = (change.last_sleep, Some(change.message));
        (record.wakeable, record.restless) = (change.wakeable, change.restless);
        if let Some(woke) = change.woke {
            record.wake_tested = woke.then_some(self.now);
        }
        if change.phase == PowerState::Awake && !self.up && change.since == self.now {
            self.broken.push("called awake while it sleeps".into());
        }
        self.touch();
    }

    fn order(&mut self, (desired, method): (Desired, SleepMethod), generation: i64, stands: Span, reason: String) {
        let (issued, expires) = (self.now, self.now + stands);
        self.record.order = Some(Order { desired, method, generation, issued, expires, reason });
        self.touch();
    }

    /// One write with everything seen as it is.
    pub(super) fn write(&mut self) -> bool {
        let seen = self.clone();
        self.write_as_of(&seen)
    }

    /// All writes that there are to make now; a machine that never stops writing is broken.
    pub(super) fn drive(&mut self) {
        for _ in 0..20 {
            if !self.write() {
                return;
            }
        }
        self.broken.push("writes without end".into());
    }

    /// The DaemonSet controller and a kubelet: a new pod comes to a node that runs and has no taint that keeps it away.
    pub(super) fn daemon_set_acts(&mut self) {
        let kept_away = self.marks.taint().is_some_and(|taint| taint.effect == TaintEffect::NoSchedule);
        self.pod_gone &= kept_away || !self.up || !self.ready();
    }

    /// The agent does the next thing it does. It may be slow between any two.
    pub(super) fn agent_acts(&mut self, sleeps: bool) {
        if !self.up || !self.agent_runs {
            return;
        }
        match (self.agent, self.record.order.clone()) {
            (AgentAt::Looking, Some(order)) if !self.record.acknowledged(order.generation) => match order.desired {
                Desired::Awake => {
                    self.record.agent.acknowledged = Some(order.generation);
                    self.touch();
                }
                Desired::Suspended => {
                    self.agent = AgentAt::Read { generation: order.generation, issued: order.issued };
                }
            },
            (AgentAt::Read { generation, issued }, _) => {
                self.agent = AgentAt::Looking;
                if self.now.second() - issued.second() < ORDER_SECONDS && !self.record.acknowledged(generation) {
                    let word = &mut self.record.agent;
                    word.acknowledged = Some(generation);
                    word.refusal = (self.work || !sleeps).then(|| "pre-flight".to_owned());
                    if word.refusal.is_none() {
                        self.agent = AgentAt::AboutTo { since: self.now };
                    }
                    self.touch();
                }
            }
            (AgentAt::AboutTo { since }, _) => {
                self.agent = AgentAt::Looking;
                if sleeps && !self.work && self.now.second() - since.second() <= MEM_WITHIN_SECONDS {
                    (self.up, self.asleep_since) = (false, self.now);
                    if self.record.phase == PowerState::Awake {
                        self.broken.push("fell asleep while it was called awake".into());
                    }
                }
            }
            _ => {}
        }
    }

    /// The node comes back: its agent says so. A cold boot knows nothing of having slept.
    pub(super) fn comes_back(&mut self, cold: bool) {
        if self.up {
            return;
        }
        (self.up, self.up_since, self.agent) = (true, self.now, AgentAt::Looking);
        let cold = cold || self.method == SleepMethod::PowerOff;
        self.boot += u32::from(cold);
        if !cold && self.agent_runs {
            self.record.agent.resumed = Some(self.now);
            let order = self.record.agent.acknowledged.zip(self.record.suspend_generation);
            let order = order.and_then(|(acknowledged, ordered)| (acknowledged >= ordered).then_some(ordered));
            self.record.agent.slept = order.map(|order| (order, Span::from_secs(1)));
            self.touch();
        }
    }

    /// The waker carries out an order to wake.
    pub(super) fn waker_acts(&mut self) {
        let ordered = self.record.order.as_ref().is_some_and(|order| order.desired == Desired::Awake);
        if ordered && self.record.agent != AgentWord::default() && self.record.phase != PowerState::Awake {
            self.comes_back(false);
        }
    }

    /// A waker writes of the order that stands.
    pub(super) fn waker_says(&mut self, outcome: Option<WakerOutcome>, message: &str) {
        let asked = |order: &&Order| order.desired == Desired::Awake || order.method == SleepMethod::PowerOff;
        let Some(order) = self.record.order.as_ref().filter(asked) else { return };
        self.record.waker = Some(WakerWord {
            generation: order.generation,
            by: "waker-0".into(),
            at: self.now,
            outcome,
            message: message.into(),
        });
        self.touch();
    }

    /// A waker asks the BMC whether the machine is off, if that is ordered and nobody has told yet.
    pub(super) fn waker_looks(&mut self) {
        let generation = self.record.generation();
        let ordered = self.record.is_ordered_asleep() && self.record.acknowledged(generation);
        let told = self.record.waker_word().is_some_and(|word| word.outcome.is_some());
        if ordered && self.method == SleepMethod::PowerOff && !self.up && !told {
            self.waker_says(Some(WakerOutcome::Off), "redfish: PowerState Off");
        }
    }

    pub(super) fn wish_asleep(&mut self, purpose: &str) {
        self.wish = Wish::Asleep { purpose: purpose.to_owned().into() };
    }

    pub(super) fn wish_awake(&mut self) {
        self.wish = Wish::Awake { reason: "a test wants it".to_owned() };
    }

    /// As it is to be in the end: awake, with nothing of ours on it.
    pub(super) fn is_clean(&self) -> bool {
        let (awake, unmarked) = (self.record.phase == PowerState::Awake, self.marks == NodeMarks::None);
        self.up && awake && unmarked && self.condition.is_none() && !self.pod_gone
    }
}
