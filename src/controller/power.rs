//! The power sequence, as far as it is acting: every node is led on, write by write, as far as it goes in this pass.

use super::Operator;
use crate::act::{ActError, Class, Event, EventKind, LastLook, SleepTerms, Subject};
use crate::observe::convert;
use miyako_api::names::reason;
use miyako_core::check::{self, Rule};
use miyako_core::model::{
    Desired, NodeMarks, NodeName, Plan, Policies, PowerRecord, PowerState, Purpose, Snapshot, Span, Step,
    SuspendReason, SuspendStep, Timestamp, Wakeable,
};
use miyako_core::plan::Report;
use miyako_core::power::{PhaseChange, Seat, Wish, Write, advance, survey};

/// No node needs more writes than this at a time: all the way down to the order there are six.
const MOST_WRITES: usize = 12;
/// A node's own clock is a dead man's switch: it leaves us this much time to wake the node first.
const CLOCK_WAITS: Span = Span::from_secs(3600);
/// So many nodes are written to in one pass; those that are wanted awake come first.
const MOST_NODES: usize = 100;

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
        led.truncate(MOST_NODES);
        for node in led {
            let name = node.seat.node.clone();
            match self.lead_node(node, now, part).await {
                Ok(()) => {}
                Err(ActError::NotLeading) => return,
                // Somebody was faster, or an agent spoke: it is looked at anew in the next pass.
                Err(error) if error.class() == Class::Conflict => {
                    tracing::debug!(node = %name, error = crate::error_chain(&error), "looked at something old");
                }
                Err(error) => self.failed(&error),
            }
        }
    }

    async fn lead_node(&mut self, mut led: Led, now: Timestamp, part: Part) -> Result<(), ActError> {
        for _ in 0..MOST_WRITES {
            if part == Part::ComingBack && !comes_back(led.record.phase) {
                return Ok(());
            }
            let Seat { facts, wish, pace, .. } = &led.seat;
            let Some(write) = advance(&led.record, facts, wish, *pace, now).1 else { return Ok(()) };
            self.write_power(&mut led, write).await?;
        }
        tracing::error!(node = %led.seat.node, "the power sequence never comes to rest; please report this");
        Ok(())
    }

    async fn write_power(&mut self, led: &mut Led, write: Write) -> Result<(), ActError> {
        let node = led.seat.node.clone();
        let energy = self.ledger.note_of(&node);
        let power = match write {
            Write::Mark(marks) => {
                let written = self.actor.mark_node(&node, marks).await?;
                self.observer.expect_written(&written);
                let seen = convert::node::convert(&written).value.node;
                (led.seat.facts.marks, led.seat.facts.condition) = (NodeMarks::of(&seen), seen.power_condition);
                return Ok(());
            }
            Write::Condition(condition) => {
                let written = self.actor.note_condition(&node, condition, led.record.message.as_deref()).await?;
                self.observer.expect_written(&written);
                let seen = convert::node::convert(&written).value.node;
                (led.seat.facts.marks, led.seat.facts.condition) = (NodeMarks::of(&seen), seen.power_condition);
                return Ok(());
            }
            Write::Create => self.actor.create_node_power(&node).await?,
            Write::Empty(since) => {
                self.actor.note_empty(&node, &led.record, since, led.why_awake.as_deref(), energy.as_ref()).await?
            }
            Write::Answer { message } => {
                let power = self.actor.answer_request(&node, &led.record, &message).await?;
                let asked = led.record.request.as_ref().map(|request| request.text.clone()).unwrap_or_default();
                let note = format!("asked to {asked}: {message}");
                self.tell(&on_node(&node, EventKind::Normal, reason::REQUEST_ANSWERED, note, &asked)).await?;
                power
            }
            Write::Order { desired, method, generation, stands, reason } => {
                let mut terms = SleepTerms::default();
                if desired == Desired::Suspended {
                    match self.keeps_awake_after_all(led).await? {
                        LastLook::KeptAwake(blocker) => {
                            led.seat.facts.blocker = Some(blocker);
                            return Ok(());
                        }
                        LastLook::MaySleep(ways) => terms.ways = ways,
                    }
                    terms.wake_at = self.wakes_by_itself_at(&node);
                    terms.sample = self.load.lock().newest_sample(&node);
                }
                tracing::info!(%node, ?desired, generation, reason, "order");
                let number = (generation, stands);
                self.actor.order(&node, &led.record, (desired, method), number, terms, &reason).await?
            }
            Write::Phase(change) => {
                let power = self.actor.note_phase(&node, &led.record, &change, energy.as_ref()).await?;
                tracing::info!(%node, phase = ?change.phase, detail = change.message, "power");
                if let Some(event) = transition(&node, &led.record, &change) {
                    self.tell(&event).await?;
                }
                power
            }
        };
        led.record = convert::node_power::convert(&power);
        self.observer.expect_written(&power);
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

/// Which Event a change of phase is worth.
fn transition(node: &NodeName, record: &PowerRecord, change: &PhaseChange) -> Option<Event> {
    let before = record.phase;
    let once = format!("{:?}/{}", change.phase, change.since.millis());
    if before == change.phase {
        let silent = |wakeable: Option<(Wakeable, Timestamp)>| wakeable.is_some_and(|it| it.0 == Wakeable::WakerSilent);
        let note = (silent(change.wakeable) && !silent(record.wakeable)).then(|| change.message.clone())?;
        return Some(on_node(node, EventKind::Warning, reason::WAKER_SILENT, note, &once));
    }
    let test = change.purpose.as_ref().is_some_and(Purpose::is_wake_test);
    let (kind, why) = match change.phase {
        PowerState::Awake if test && change.woke == Some(true) => (EventKind::Normal, reason::WAKE_TEST_PASSED),
        PowerState::Quarantined if test => (EventKind::Warning, reason::WAKE_TEST_FAILED),
        PowerState::Awake if before == PowerState::Emptying => return None,
        PowerState::Awake => (EventKind::Normal, reason::NODE_AWAKE),
        PowerState::Emptying => (EventKind::Normal, reason::NODE_EMPTYING),
        PowerState::Suspending => (EventKind::Normal, reason::NODE_SUSPENDING),
        PowerState::Suspended => (EventKind::Normal, reason::NODE_SUSPENDED),
        PowerState::Waking => (EventKind::Normal, reason::NODE_WAKING),
        PowerState::Quarantined => (EventKind::Warning, reason::NODE_WAKE_FAILED),
    };
    Some(on_node(node, kind, why, change.message.clone(), &once))
}

fn on_node(node: &NodeName, kind: EventKind, why: &'static str, note: String, once: &str) -> Event {
    Event {
        subject: Subject {
            api_version: "v1".into(),
            kind: "Node".into(),
            namespace: None,
            name: node.to_string(),
            uid: None,
        },
        kind,
        reason: why,
        action: "Power",
        note,
        once: once.to_owned(),
    }
}
