//! One step of the machine: [`advance`].

use super::restless::{SOON, STOPPED_TRYING, again, is_the_machines, tried_again};
use super::state::{Given, State};
use super::times::{ASKED_AGAIN, ASKED_AT_LEAST_EVERY, ORDER_MARGIN, ORDER_STANDS, SETTLES, WAKE_ORDER_STANDS};
use super::{Facts, PhaseChange, Wish, Write};
use crate::model::{
    Ask, Desired, NodeCondition, NodeMarks, Pace, PowerRecord, PowerState, Purpose, SleepMethod, Span, Timestamp,
    Wakeable, WakerOutcome,
};

/// So many purposes are remembered besides the newest: a plan or request is over long before so many others came.
const EARLIER: usize = 8;

/// As many characters of a message as are kept: what is written must be what is read back.
const LONGEST_MESSAGE: usize = 1000;

/// A moment further ahead than this was not written by our clock.
const AHEAD: Span = Span::from_secs(60);

/// Whether a moment that some leader wrote lies so far ahead that its clock and ours differ.
fn is_ahead(moment: Timestamp, now: Timestamp) -> bool {
    moment.since(now) > AHEAD
}

/// Why a node that nobody woke is ordered to be awake.
const BY_ITSELF: &str = "it woke by itself";

/// Why a node that does not do as it is ordered to is ordered to be awake; what follows the first is its agent's.
const REFUSED: &str = "its agent refused: ";
const BACK_ALREADY: &str = "it is back already";
const STAYED_UP: &str = "its agent took the order and it did not fall asleep";

/// Everything one step looks at.
pub(super) struct Look<'a> {
    pub(super) record: &'a PowerRecord,
    pub(super) facts: &'a Facts,
    wish: &'a Wish,
    pace: Pace,
    pub(super) now: Timestamp,
}

/// Where a node is, and the one write that brings it on, if there is any to make now. After the write the answer is
/// looked at anew.
#[must_use]
pub fn advance(record: &PowerRecord, facts: &Facts, wish: &Wish, pace: Pace, now: Timestamp) -> (State, Option<Write>) {
    let state = State::of(record, facts, now);
    let look = Look { record, facts, wish, pace, now };
    if record.noted && record.since.is_some_and(|since| is_ahead(since, now)) {
        // A leader before us has a clock that is ahead of ours: the time of the phase begins anew by ours.
        let message = record.message.as_deref().unwrap_or_default();
        return (state, Some(Write::Phase(Box::new(look.change(record.phase, message)))));
    }
    let write = match &state {
        State::Awake => look.awake(),
        State::Emptying { since, purpose } => look.emptying(*since, purpose.as_ref()),
        State::Suspending { since, purpose, generation, given } => {
            look.suspending(*since, purpose.as_ref(), *generation, *given)
        }
        State::Suspended { .. } => look.suspended(),
        State::Waking { since, asleep_since } => look.waking(*since, *asleep_since),
        State::Quarantined { since } => look.quarantined(*since),
    };
    (state, write)
}

impl Look<'_> {
    fn awake(&self) -> Option<Write> {
        if self.record.is_ordered_asleep() {
            // Nothing that this machine writes leads here. Nobody knows whether the order is obeyed, so it is a wake.
            return Some(self.wakes("it is ordered to sleep and nobody means it"));
        }
        if let Some(write) = self.carry(NodeMarks::None, None) {
            return Some(write);
        }
        if self.record.uid.is_none() {
            return (self.facts.managed || matches!(self.wish, Wish::Asleep { .. })).then_some(Write::Create);
        }
        if self.facts.managed && self.method() != self.facts.method {
            // The agent looks at what keeps its machine from sleeping in this way, and says so.
            return Some(self.order_awake_from(self.facts.method, "its class has it sleep in another way"));
        }
        if let Some(restless) =
            self.record.restless.as_ref().filter(|restless| restless.until.is_some_and(|until| self.now >= until))
        {
            let mut change = self.change(PowerState::Awake, &format!("to be tried again: {}", restless.why));
            change.since = self.record.since.unwrap_or(self.now);
            change.restless = Some(tried_again(restless));
            return Some(Write::Phase(Box::new(change)));
        }
        let empty = self.facts.usable && self.facts.blocker.is_none();
        if let Some(request) = &self.record.request {
            let spent = self.record.is_spent(&request.purpose());
            let answer = match (request.ask, &self.facts.blocker) {
                (Ask::Wake, _) => Some("it is awake".to_owned()),
                _ if spent => Some(self.record.message.clone().unwrap_or_else(|| "it is awake again".to_owned())),
                (_, Some(blocker)) => Some(format!("it can't sleep: {blocker}")),
                _ if !self.facts.usable => Some("it can't sleep: it is not usable itself".to_owned()),
                _ => None,
            };
            if let Some(message) = answer {
                return Some(Write::Answer { message });
            }
        }
        match self.wish {
            Wish::Asleep { purpose } if empty && !self.record.is_spent(purpose) => {
                let mut change = self.change(PowerState::Emptying, "nothing on it; seeing whether it stays so");
                change.earlier.splice(0..0, change.purpose.take());
                change.earlier.truncate(EARLIER);
                change.purpose = Some(purpose.clone());
                (change.suspend_generation, change.asleep_since) = (None, None);
                Some(Write::Phase(Box::new(change)))
            }
            _ if empty != self.record.empty_since.is_some() => Some(Write::Empty(empty.then_some(self.now))),
            _ => None,
        }
    }

    fn emptying(&self, since: Timestamp, purpose: Option<&Purpose>) -> Option<Write> {
        if self.record.is_ordered_asleep() {
            return Some(self.wakes("it is ordered to sleep too early"));
        }
        if let Some(why) = self.should_not_sleep(purpose) {
            return Some(self.aborts(&why));
        }
        if let Some(write) = self.carry(NodeMarks::Emptying, None) {
            return Some(write);
        }
        if self.now.since(since) < SETTLES {
            return None;
        }
        let mut change = self.change(PowerState::Suspending, "nothing came; no new pods from now on");
        change.suspend_generation = Some(self.record.generation() + 1);
        change.boot_id.clone_from(&self.facts.boot_id);
        Some(Write::Phase(Box::new(change)))
    }

    fn suspending(&self, since: Timestamp, purpose: Option<&Purpose>, generation: i64, given: Given) -> Option<Write> {
        match given {
            Given::NotYet => {
                if let Some(why) = self.should_not_sleep(purpose) {
                    return Some(self.aborts(&why));
                }
                if let Some(write) = self.carry(NodeMarks::Asleep, Some(NodeCondition::Suspending)) {
                    return Some(write);
                }
                let marked = self.facts.condition.map_or(self.now, |(_, since)| since);
                let reason = purpose.map_or_else(String::new, ToString::to_string);
                let (desired, method) = (Desired::Suspended, self.facts.method);
                let order = Write::Order { desired, method, generation, stands: ORDER_STANDS, reason };
                (self.now.since(marked) >= SETTLES).then_some(order)
            }
            Given::Ordered(issued) => {
                if let Some(why) = self.should_not_sleep(purpose) {
                    return Some(self.order_awake(&why));
                }
                self.is_over(issued, ORDER_STANDS + ORDER_MARGIN)
                    .then(|| self.order_awake("its agent did not answer the order in time"))
            }
            Given::Acknowledged => self.falling_asleep(since, generation),
            Given::TakenBack => Some(self.wakes(self.ordered_why())),
        }
    }

    /// The agent said that it is about to write `mem`.
    fn falling_asleep(&self, since: Timestamp, generation: i64) -> Option<Write> {
        let agent = &self.record.agent;
        if let Wish::Awake { reason } = self.wish {
            return Some(self.order_awake(reason));
        }
        if self.facts.work {
            return Some(self.order_awake("a pod or VM came to it"));
        }
        if let Some(refusal) = &agent.refusal {
            return Some(self.order_awake(&format!("{REFUSED}{refusal}")));
        }
        // When it resumed is told by its own clock, which no order's date may be compared with.
        if self.booted() || agent.slept.is_some_and(|(order, _)| order == generation) {
            return Some(self.order_awake(BACK_ALREADY));
        }
        let (off, word) = (self.method() == SleepMethod::PowerOff, self.record.waker_word());
        let seen = word.and_then(|word| word.outcome);
        if !self.facts.ready && (!off || seen == Some(WakerOutcome::Off)) {
            let mut change = self.change(PowerState::Suspended, if off { "off, as its BMC says" } else { "asleep" });
            change.asleep_since = Some(self.now);
            return Some(Write::Phase(Box::new(change)));
        }
        if let Some(word) = word.filter(|_| off && seen == Some(WakerOutcome::Failed)) {
            return Some(self.order_awake(&format!("nobody can say that it is off: {}", word.words())));
        }
        if self.now.since(since) < self.pace.sleeps_within() {
            return None;
        }
        Some(self.order_awake(&match word {
            _ if self.facts.ready => STAYED_UP.to_owned(),
            Some(word) => format!("it does not answer, and its BMC does not call it off: {}", word.words()),
            None => "it does not answer, and no waker asked its BMC whether it is off: see whether the Deployment miyako-waker runs".to_owned(),
        }))
    }

    fn suspended(&self) -> Option<Write> {
        if self.record.uid.is_none() {
            return Some(Write::Create);
        }
        if !self.record.noted {
            let mut change = self.change(PowerState::Suspended, "asleep, as its marks say; its NodePower was lost");
            change.asleep_since = Some(self.now);
            return Some(Write::Phase(Box::new(change)));
        }
        let why = match self.wish {
            Wish::Awake { reason } => Some(reason.as_str()),
            _ if self.facts.work => Some("a pod or VM is on it"),
            _ if self.facts.ready => Some(BY_ITSELF),
            _ => None,
        };
        if !self.record.is_ordered_asleep() {
            return Some(self.wakes(self.ordered_why()));
        }
        if let Some(why) = why {
            return Some(self.order_awake(why));
        }
        if let Some(write) = self.carry(NodeMarks::Asleep, Some(NodeCondition::Suspended)) {
            return Some(write);
        }
        let request = self.record.request.as_ref().filter(|request| request.ask == Ask::Suspend);
        request.map(|_| Write::Answer { message: "it is asleep".to_owned() })
    }

    fn waking(&self, since: Timestamp, asleep_since: Option<Timestamp>) -> Option<Write> {
        if self.record.is_ordered_asleep() {
            return Some(self.order_awake(self.record.message.as_deref().unwrap_or("it is to be awake")));
        }
        if asleep_since.is_none() && !self.facts.ready {
            // It fell asleep after all, or is falling: from now on being ready is a proof that it is back.
            let mut change = self.change(PowerState::Waking, self.record.message.as_deref().unwrap_or_default());
            (change.since, change.asleep_since) = (since, Some(self.now));
            return Some(Write::Phase(Box::new(change)));
        }
        if self.facts.usable && self.is_back(since, asleep_since) {
            return Some(self.carry(NodeMarks::None, None).unwrap_or_else(|| self.is_awake(since, asleep_since)));
        }
        if let Some(words) = self.drivers_failed() {
            return Some(self.gives_up(&words, Wakeable::DriversFailed));
        }
        if !self.facts.usable && self.now.since(since) >= self.pace.wakes_within() {
            let missing = self.facts.missing.as_deref().unwrap_or("it is not usable");
            let mut message = format!("it was asked to wake at {since} and did not come back: {missing}");
            if let Some(word) = self.record.waker_word().filter(|word| word.outcome.is_some()) {
                message = format!("{message} ({})", word.words());
            }
            return Some(self.gives_up(&message, Wakeable::NotInTime));
        }
        let issued = self.record.order.as_ref().map(|order| order.issued);
        if !self.facts.ready && issued.is_none_or(|issued| self.is_over(issued, WAKE_ORDER_STANDS)) {
            // An order of generation 0 was never meant: the phase says why there is to be one.
            let said = self.record.message.as_deref().filter(|_| self.record.generation() == 0);
            return Some(self.order_awake(said.unwrap_or_else(|| self.ordered_why())));
        }
        self.carry(self.marks_of_a_waking_node(since, asleep_since), Some(NodeCondition::Waking)).or_else(|| {
            let (message, wakeable) = self.how_it_goes()?;
            let mut change = self.change(PowerState::Waking, &message);
            (change.since, change.wakeable) = (since, wakeable);
            self.tells(change)
        })
    }

    /// A node that is back and lacks a DaemonSet's pod lets that one come. What was let in once is not kept out again.
    fn marks_of_a_waking_node(&self, since: Timestamp, asleep_since: Option<Timestamp>) -> NodeMarks {
        let lets_in = self.facts.ready && self.facts.lacks_pod && self.is_back(since, asleep_since);
        if lets_in || self.facts.marks == Some(NodeMarks::Waking) { NodeMarks::Waking } else { NodeMarks::Asleep }
    }

    /// Whether a node that answers is really back, and will not obey an old order any more.
    fn is_back(&self, since: Timestamp, asleep_since: Option<Timestamp>) -> bool {
        if asleep_since.is_some() {
            // It was not ready, and is.
            return true;
        }
        let Some(generation) = self.record.suspend_generation else { return true };
        if !self.record.acknowledged(generation) {
            return self.now.since(since) >= ORDER_STANDS + ORDER_MARGIN;
        }
        // It may be falling asleep while its lease still holds: it must say something, or hold the lease for long.
        self.record.acknowledged(self.record.generation())
            || self.booted()
            || self.now.since(since) >= self.pace.sleeps_within()
    }

    fn is_awake(&self, since: Timestamp, asleep_since: Option<Timestamp>) -> Write {
        let took = self.now.since(since).as_secs();
        let message = match asleep_since {
            Some(_) if self.booted() && self.method() == SleepMethod::S3 => {
                format!("awake by a cold boot, {took} s after it was asked")
            }
            Some(_) => format!("awake {took} s after it was asked"),
            None => self.record.message.clone().unwrap_or_else(|| "awake".to_owned()),
        };
        let mut change = self.change(PowerState::Awake, &message);
        // Only a node that went to sleep by an order of ours, and came back because it was asked to, has proved anything.
        let generation = self.record.suspend_generation;
        let by_itself = self.ordered_why() == BY_ITSELF || self.record.agent.woken_by_clock == generation;
        change.woke = asleep_since.filter(|_| generation.is_some() && !by_itself).map(|_| true);
        if change.woke.is_some() {
            change.wakeable = self.known(Wakeable::Woke);
            change.restless = None;
        }
        if let Some(why) = self.would_not_sleep(since, asleep_since) {
            change.restless = Some(again(self.record.restless.as_ref(), &why, self.now));
        }
        change.last_sleep = asleep_since.map(|asleep| since.since(asleep)).or(change.last_sleep);
        change.asleep_since = None;
        Write::Phase(Box::new(change))
    }

    /// Why the node itself is awake, if that is its own doing: it refused or did not fall asleep, or woke by itself soon.
    fn would_not_sleep(&self, since: Timestamp, asleep_since: Option<Timestamp>) -> Option<String> {
        let (ordered, agent) = (self.ordered_why(), &self.record.agent);
        let source =
            agent.wake_source.as_ref().filter(|(generation, _)| Some(*generation) == self.record.suspend_generation);
        let woken_by = || source.map_or_else(String::new, |(_, source)| format!(" ({source})"));
        if let Some(refusal) = ordered.strip_prefix(REFUSED).filter(|refusal| is_the_machines(refusal)) {
            // That an agent stopped trying says less than what came before.
            let before = self.record.restless.as_ref().filter(|_| refusal.contains(STOPPED_TRYING));
            return Some(before.map_or(refusal, |before| before.why.as_str()).to_owned());
        }
        if [BACK_ALREADY, STAYED_UP].contains(&ordered) {
            return Some(format!("{ordered}{}", woken_by()));
        }
        let by_clock = agent.woken_by_clock.is_some() && agent.woken_by_clock == self.record.suspend_generation;
        let slept = since.since(asleep_since?);
        (ordered == BY_ITSELF && !by_clock && slept < SOON)
            .then(|| format!("it woke by itself after {} s{}", slept.as_secs(), woken_by()))
    }

    fn quarantined(&self, since: Timestamp) -> Option<Write> {
        if self.record.is_ordered_asleep() {
            return Some(self.order_awake("it failed to wake"));
        }
        if self.facts.usable {
            return Some(self.carry(NodeMarks::None, None).unwrap_or_else(|| {
                let mut change = self.change(PowerState::Awake, "seen healthy again");
                change.asleep_since = None;
                Write::Phase(Box::new(change))
            }));
        }
        if let Some(write) = self.carry(NodeMarks::Quarantined, Some(NodeCondition::Quarantined)) {
            return Some(write);
        }
        if self.record.request.is_some() {
            let why = self.record.message.as_deref().unwrap_or("nobody knows why");
            return Some(Write::Answer { message: format!("it failed to wake, and is asked again and again: {why}") });
        }
        let told = match self.drivers_failed() {
            Some(words) => Some((words, self.known(Wakeable::DriversFailed))),
            None => self.how_it_goes().filter(|(_, known)| known.is_some_and(|(known, _)| !known.holds())),
        };
        if let Some((message, wakeable)) = told {
            let mut change = self.change(PowerState::Quarantined, &message);
            (change.since, change.wakeable) = (since, wakeable);
            if let Some(write) = self.tells(change) {
                return Some(write);
            }
        }
        let issued = self.record.order.as_ref().map_or(since, |order| order.issued);
        let patience = match self.wish {
            Wish::Awake { .. } => ASKED_AGAIN,
            // As long again as it has been asked in vain: the pauses double.
            _ => issued.since(since).clamp(ASKED_AGAIN, ASKED_AT_LEAST_EVERY),
        };
        self.is_over(issued, patience).then(|| self.order_awake("it failed to wake before"))
    }

    /// Whether so much time has passed since an order was given. One that lies ahead was given by another leader's clock, and
    /// nobody knows how long ago: its time is over.
    fn is_over(&self, issued: Timestamp, time: Span) -> bool {
        self.now.since(issued) >= time || is_ahead(issued, self.now)
    }

    /// Why the node must not be suspended for this purpose, if there is a reason.
    fn should_not_sleep(&self, purpose: Option<&Purpose>) -> Option<String> {
        match self.wish {
            Wish::Awake { reason } => return Some(reason.clone()),
            wish if !wish.is_asleep_for(purpose) => return Some("it is not to sleep any more".to_owned()),
            _ => {}
        }
        if let Some(blocker) = &self.facts.blocker {
            return Some(blocker.clone());
        }
        (!self.facts.ready).then(|| "it is not ready".to_owned())
    }

    /// Makes the Node carry these marks and this condition: the marks first when they are put on and taken off, so
    /// that the condition's time says since when the marks are there.
    fn carry(&self, marks: NodeMarks, condition: Option<NodeCondition>) -> Option<Write> {
        if self.facts.marks != Some(marks) {
            return Some(Write::Mark(marks));
        }
        (self.facts.condition.map(|(condition, _)| condition) != condition).then_some(Write::Condition(condition))
    }

    /// Why the order that stands was given.
    fn ordered_why(&self) -> &str {
        self.record.order.as_ref().map_or("it is to be awake", |order| order.reason.as_str())
    }

    /// Another boot than the one that was ordered to sleep.
    fn booted(&self) -> bool {
        self.record.boot_id.as_ref().zip(self.facts.boot_id.as_ref()).is_some_and(|(before, now)| before != now)
    }

    /// How it sleeps, slept, or would, as it was last ordered.
    fn method(&self) -> SleepMethod {
        self.record.order.as_ref().map_or(self.facts.method, |order| order.method)
    }

    fn order_awake(&self, why: &str) -> Write {
        self.order_awake_from(self.method(), why)
    }

    fn order_awake_from(&self, method: SleepMethod, why: &str) -> Write {
        Write::Order {
            desired: Desired::Awake,
            method,
            generation: self.record.generation() + 1,
            stands: WAKE_ORDER_STANDS,
            reason: why.to_owned(),
        }
    }

    fn aborts(&self, why: &str) -> Write {
        let mut change = self.change(PowerState::Awake, &format!("not suspended: {why}"));
        change.suspend_generation = None;
        Write::Phase(Box::new(change))
    }

    fn wakes(&self, why: &str) -> Write {
        let mut change = self.change(PowerState::Waking, why);
        if self.record.is_ordered_asleep() {
            change.suspend_generation = Some(self.record.generation());
        }
        Write::Phase(Box::new(change))
    }

    pub(super) fn change(&self, phase: PowerState, message: &str) -> PhaseChange {
        let record = self.record;
        let last_sleep: Option<Span> = record.last_sleep;
        PhaseChange {
            phase,
            since: self.now,
            purpose: record.purpose.clone(),
            earlier: record.earlier.clone(),
            suspend_generation: record.suspend_generation,
            asleep_since: record.asleep_since,
            boot_id: record.boot_id.clone(),
            last_sleep,
            woke: None,
            wakeable: record.wakeable,
            restless: record.restless.clone(),
            message: message.chars().take(LONGEST_MESSAGE).collect(),
        }
    }
}
