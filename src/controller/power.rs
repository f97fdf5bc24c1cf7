//! The power sequence, as far as it is acting: every node is led on, write by write, as far as it goes in this pass.

use super::Operator;
use super::deadline::{Deadline, side_by_side};
use super::tell_nodes;
use crate::act::{ActError, Class, EventKind, LastLook, SleepTerms};
use crate::observe::convert;
use k8s_openapi::api::core::v1::Node;
use miyako_api::NodePower;
use miyako_api::names::reason;
use miyako_core::check::{self, Rule};
use miyako_core::model::{
    Desired, NodeMarks, NodeName, Plan, Policies, PowerRecord, PowerState, Snapshot, Span, Step, SuspendReason,
    SuspendStep, Timestamp,
};
use miyako_core::plan::Report;
use miyako_core::power::{Seat, Wish, Write, advance, survey};
use std::sync::{Mutex, PoisonError};

/// No node needs more writes than this at a time: all the way down to the order there are six.
const MOST_WRITES: usize = 12;
/// A node's own clock is a dead man's switch: it leaves us this much time to wake the node first.
const CLOCK_WAITS: Span = Span::from_secs(3600);
/// So many nodes are written to in one pass; those that are wanted awake come first.
const MOST_NODES: usize = 100;
/// So many of them at a time.
const AT_ONCE: usize = 8;

/// Which nodes are led on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Those that are being woken, before anything is decided.
    ComingBack,
    /// All.
    All,
}

fn comes_back(power: PowerState) -> bool {
    matches!(power, PowerState::Waking | PowerState::Quarantined)
}

/// How far a node was led.
enum Came {
    AsFarAsItGoes,
    /// This order to sleep comes next.
    ToOrder(Write),
}

/// What was written, for the cache that does not show it yet.
enum Object {
    Node(Box<Node>),
    Power(Box<NodePower>),
}

/// What nodes that are led on side by side have written so far.
#[derive(Default)]
struct Seen(Mutex<Vec<Object>>);

impl Seen {
    fn note(&self, object: Object) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(object);
    }

    fn take(self) -> Vec<Object> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One node while it is led on.
struct Led {
    seat: Seat,
    record: PowerRecord,
    why_awake: Option<String>,
}

impl Operator {
    /// Leads nodes on. Stops at once when we no longer lead. Of the report only those parts are asked that speak of
    /// nodes on their way to sleep.
    pub(super) async fn lead_power(&mut self, report: &Report, now: Timestamp, part: Part) {
        if !self.observer.synced() {
            return;
        }
        let (snapshot, policies) = self.observer.snapshot();
        if part == Part::ComingBack && !snapshot.nodes.values().any(|node| comes_back(node.power)) {
            return;
        }
        let mut led: Vec<Led> = Vec::new();
        for seat in survey(snapshot, policies, report, now) {
            let record = snapshot.powers.get(&seat.node).cloned().unwrap_or_default();
            if part == Part::ComingBack && !comes_back(record.phase) {
                continue;
            }
            if advance(&record, &seat.facts, &seat.wish, seat.pace, now).1.is_none() {
                continue;
            }
            let node = report.nodes.get(&seat.node);
            let why_awake = seat.facts.blocker.clone().or_else(|| Some(node?.awake_because.as_ref()?.to_string()));
            led.push(Led { seat, record, why_awake });
        }
        self.hung.forget_old(now);
        led.retain(|led| self.hung.may_write(&led.seat.node, now));
        led.sort_by_key(|led| self.hung.contains(&led.seat.node));
        led.truncate(MOST_NODES);
        let deadline = Deadline::from_now();
        let seen = Seen::default();
        let lead = async |mut led: Led| {
            let came = self.lead_node(&mut led, (now, part), deadline, &seen).await;
            (led, came)
        };
        let writes = led.into_iter().map(lead).collect();
        let answers = side_by_side(AT_ONCE, writes).await;
        for object in seen.take() {
            self.expect_power(&object);
        }
        let mut to_sleep = Vec::new();
        for (led, answer) in answers {
            match answer {
                Ok(Came::ToOrder(write)) => to_sleep.push((led, write)),
                other => {
                    if !self.led_on(&led.seat.node, other.map(drop)) {
                        return;
                    }
                }
            }
        }
        // One after the other: each is judged by what the ones before it left awake.
        for (mut led, write) in to_sleep {
            if deadline.has_passed() {
                return;
            }
            let seen = Seen::default();
            let answer = deadline.within(self.order_to_sleep(&mut led, write, (now, part), deadline, &seen)).await;
            for object in seen.take() {
                self.expect_power(&object);
            }
            if !self.led_on(&led.seat.node, answer) {
                return;
            }
        }
    }

    /// Notes how it went with a node. Says whether we still lead.
    fn led_on(&mut self, node: &NodeName, answer: Result<(), ActError>) -> bool {
        match answer {
            Ok(()) => self.hung.answered(node),
            Err(ActError::NotLeading) => return false,
            Err(error) if error.is_unanswered() => {
                tracing::warn!(%node, "no answer to a write of the power sequence; other nodes go first now");
                self.hung.hung(node, self.clock.now());
                self.failed(&error);
            }
            // Somebody was faster, or an agent spoke: it is looked at anew in the next pass.
            Err(error) if error.class() == Class::Conflict => {
                tracing::debug!(%node, error = crate::error_chain(&error), "looked at something old");
            }
            Err(error) => self.failed(&error),
        }
        true
    }

    fn expect_power(&mut self, object: &Object) {
        match object {
            Object::Node(node) => self.observer.expect_written(&**node),
            Object::Power(power) => self.observer.expect_written(&**power),
        }
    }

    /// Leads a node on as far as it goes, but to an order to sleep at most: that needs a last look. What is written is
    /// noted in `seen`. When it is too late to begin a write, the next pass begins it.
    async fn lead_node(
        &self,
        led: &mut Led,
        (now, part): (Timestamp, Part),
        deadline: Deadline,
        seen: &Seen,
    ) -> Result<Came, ActError> {
        for _ in 0..MOST_WRITES {
            if deadline.has_passed() || (part == Part::ComingBack && !comes_back(led.record.phase)) {
                return Ok(Came::AsFarAsItGoes);
            }
            let Seat { facts, wish, pace, .. } = &led.seat;
            let Some(write) = advance(&led.record, facts, wish, *pace, now).1 else {
                return Ok(Came::AsFarAsItGoes);
            };
            if matches!(write, Write::Order { desired: Desired::Suspended, .. }) {
                return Ok(Came::ToOrder(write));
            }
            deadline.within(self.write_power(led, write, SleepTerms::default(), seen)).await?;
        }
        tracing::error!(node = %led.seat.node, "the power sequence never comes to rest; please report this");
        Ok(Came::AsFarAsItGoes)
    }

    /// Orders a node to sleep, unless something keeps it awake after all. No agent that obeyed can be told otherwise, so
    /// no such order is sent once it is too late to begin, however long the last look took.
    async fn order_to_sleep(
        &mut self,
        led: &mut Led,
        write: Write,
        (now, part): (Timestamp, Part),
        deadline: Deadline,
        seen: &Seen,
    ) -> Result<(), ActError> {
        let node = led.seat.node.clone();
        let ways = match self.keeps_awake_after_all(led).await? {
            LastLook::MaySleep(ways) => ways,
            LastLook::KeptAwake(blocker) => {
                led.seat.facts.blocker = Some(blocker);
                return self.lead_node(led, (now, part), deadline, seen).await.map(drop);
            }
        };
        let (wake_at, sample) = (self.wakes_by_itself_at(&node), self.load.lock().newest_sample(&node));
        if deadline.has_passed() {
            return Err(ActError::OutOfTime);
        }
        self.write_power(led, write, SleepTerms { wake_at, sample, ways }, seen).await
    }

    async fn write_power(
        &self,
        led: &mut Led,
        write: Write,
        terms: SleepTerms,
        written: &Seen,
    ) -> Result<(), ActError> {
        let node = led.seat.node.clone();
        let energy = self.ledger.note_of(&node);
        let power = match write {
            Write::Mark(_) | Write::Condition(_) => {
                let found = match write {
                    Write::Mark(marks) => self.actor.mark_node(&node, marks).await?,
                    Write::Condition(condition) => {
                        self.actor.note_condition(&node, condition, led.record.message.as_deref()).await?
                    }
                    _ => return Ok(()),
                };
                let seen = convert::node::convert(&found).value.node;
                (led.seat.facts.marks, led.seat.facts.condition) = (NodeMarks::of(&seen), seen.power_condition);
                written.note(Object::Node(Box::new(found)));
                return Ok(());
            }
            Write::Create => self.actor.create_node_power(&node).await?,
            Write::Empty(since) => {
                self.actor.note_empty(&node, &led.record, since, led.why_awake.as_deref(), energy.as_ref()).await?
            }
            Write::Answer { message } => {
                let power = self.actor.answer_request(&node, &led.record, &message).await?;
                written.note(Object::Power(Box::new(power.clone())));
                let asked = led.record.request.as_ref().map(|request| request.text.clone()).unwrap_or_default();
                let note = format!("asked to {asked}: {message}");
                self.tell(&tell_nodes::on_node(&node, EventKind::Normal, reason::REQUEST_ANSWERED, note, &asked))
                    .await?;
                power
            }
            Write::Order { desired, method, generation, stands, reason } => {
                tracing::info!(%node, ?desired, generation, reason, "order");
                let number = (generation, stands);
                self.actor.order(&node, &led.record, (desired, method), number, terms, &reason).await?
            }
            Write::Phase(change) => {
                let power = self.actor.note_phase(&node, &led.record, &change, energy.as_ref()).await?;
                tracing::info!(%node, phase = ?change.phase, detail = change.message, "power");
                written.note(Object::Power(Box::new(power.clone())));
                if let Some(event) = tell_nodes::power_changed(&node, &led.record, &change) {
                    self.tell(&event).await?;
                }
                power
            }
        };
        led.record = convert::node_power::convert(&power);
        written.note(Object::Power(Box::new(power)));
        Ok(())
    }

    /// When a node's own clock is to wake it: after the class's `maxAsleep`, and after us, if we are there.
    fn wakes_by_itself_at(&mut self, node: &NodeName) -> Option<Timestamp> {
        let now = self.clock.now();
        let (snapshot, policies) = self.observer.snapshot();
        let class = policies.class_of(snapshot.nodes.get(node)?).ok().flatten()?;
        Some(now + class.sleep.max_asleep + CLOCK_WAITS)
    }

    /// The last look before the order: the rules that speak of the whole cluster on what is known by now, and rule 3
    /// by the API server itself.
    async fn keeps_awake_after_all(&mut self, led: &Led) -> Result<LastLook, ActError> {
        let node = &led.seat.node;
        // The writes before this one may have taken long: what has come since counts, and so does the time.
        let unread = |source| ActError::Api { what: "read people's switches".to_owned(), source };
        self.observer.look_at_switches().await.map_err(unread)?;
        self.observer.drain();
        let now = self.clock.now();
        let (snapshot, policies) = self.observer.snapshot();
        let test = matches!(&led.seat.wish, Wish::Asleep { purpose } if purpose.is_wake_test());
        let reason = if test { SuspendReason::WakeTest } else { SuspendReason::Empty };
        let switches = &snapshot.switches;
        if let Some(by) = switches.held.as_ref().or(switches.paused.as_ref()) {
            return Ok(LastLook::KeptAwake(format!("held or paused meanwhile: {by}")));
        }
        let request = led.record.request.as_ref().map(miyako_core::model::Request::purpose);
        let asked = matches!(&led.seat.wish, Wish::Asleep { purpose } if request.as_ref() == Some(purpose));
        // A person may ask for it while the policy itself stands still, outside its schedules for one.
        let others = |rule| match rule {
            Rule::Reserve | Rule::Pending | Rule::Knowledge | Rule::PostCopy => true,
            Rule::Standstill => !asked,
            _ => false,
        };
        if let Some(broken) = breaks(snapshot, policies, node, (reason, now), others) {
            return Ok(LastLook::KeptAwake(broken));
        }
        let policies = policies.clone();
        self.actor.look_before_suspend(node, &led.record, &policies, test).await
    }
}

/// The rule that the suspend of this node would break now, besides rule 3, which is asked elsewhere.
fn breaks(
    snapshot: &Snapshot,
    policies: &Policies,
    node: &NodeName,
    (reason, now): (SuspendReason, Timestamp),
    others: impl Fn(Rule) -> bool,
) -> Option<String> {
    let found = snapshot.nodes.get(node)?;
    let class = policies.class_of(found).ok().flatten()?;
    let policy = policies.ruling(&class.name)?.name.clone();
    let plan = Plan { steps: vec![Step::Suspend(SuspendStep { policy, node: node.clone(), reason })] };
    let violations = check::check(snapshot, policies, &plan, now);
    violations.into_iter().find(|violation| others(violation.rule())).map(|violation| violation.to_string())
}
