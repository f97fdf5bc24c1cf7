//! Statuses that must be written now: conditions at once, figures now and then, and what the API server refuses less and
//! less often.

use super::Operator;
use super::deadline::Deadline;
use super::stalled::Stalled;
use super::status::{self, LoadView, Trouble};
use super::stuck::StuckNode;
use crate::act::{ActError, Actor, Class, merge_conditions, same_but_for_times};
use crate::observe::Kind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use miyako_api::consolidation_policy::{ConsolidationPolicyStatus, Energy};
use miyako_api::names::reason;
use miyako_api::node_power_class::NodePowerClassStatus;
use miyako_core::model::{ClassName, Name, PolicyName, Snapshot, Span, Timestamp};
use miyako_core::plan::Report;
use std::collections::BTreeMap;
use std::fmt::Display;

/// Figures of energy grow all the time. Where nothing else is new they are written this seldom, and only while sleeping
/// saves something: a policy that never sleeps costs no write.
const ENERGY_EVERY: Span = Span::from_secs(300);

/// The reason of a move whose target pod was refused.
const NOT_CREATED: &str = reason::TARGET_NOT_CREATED;
/// A VM is tried again so soon after its back-off, if there is cause to move it at all.
const TRIED_AGAIN_WITHIN: Span = Span::from_secs(300);

/// What was last written about an object, so that only changes are written.
#[derive(Debug, Clone)]
pub(super) struct Said<S> {
    status: S,
    at: Timestamp,
}

impl<S> Said<S> {
    /// What was said.
    pub(super) fn status(&self) -> &S {
        &self.status
    }
}

impl Operator {
    /// Writes the status of every policy and class of which there is something new to say.
    pub(super) async fn write_statuses(
        &mut self,
        report: &Report,
        load: &LoadView,
        (stalled, stuck): (&[Stalled], &[StuckNode]),
        deadline: Deadline,
        now: Timestamp,
    ) {
        let mut policies = Vec::new();
        let mut classes = Vec::new();
        let declared = [Kind::ConsolidationPolicy, Kind::NodePowerClass].map(|kind| self.observer.declared(kind));
        let (snapshot, known) = self.observer.snapshot();
        for (name, policy) in &known.policies {
            let own = declared[0].get(&Name::from(name.as_str())).cloned().unwrap_or_default();
            let no_target = no_target(name, report, snapshot, now);
            let trouble = trouble(name, stalled, self.refusals.of_policy(name.as_str())).or(no_target);
            let mut status = status::of_policy(policy, report, snapshot, load, trouble.as_ref(), &own);
            status.conditions.push(status::nodes_stuck(stuck.iter().filter(|one| one.policy == *name), own.generation));
            status.energy = Some(status::energy(self.ledger.sum(|node| node.policy == *name)));
            policies.push((name.clone(), status));
        }
        for name in known.classes.keys() {
            let own = declared[1].get(&Name::from(name.as_str())).cloned().unwrap_or_default();
            let mut status = status::of_class(name, known, report, &own);
            status.energy = Some(status::energy(self.ledger.sum(|node| node.class == *name)));
            classes.push((name.clone(), status));
        }
        self.say(policies, deadline, now).await;
        self.say(classes, deadline, now).await;
    }

    /// Writes the statuses of all objects of one kind, those of which there is something new to say.
    async fn say<S: OwnStatus>(&mut self, statuses: Vec<(S::Name, S)>, deadline: Deadline, now: Timestamp) {
        S::said(self).retain(|name, _| statuses.iter().any(|(known, _)| known == name));
        self.refusals.retain(S::KIND, |name| statuses.iter().any(|(known, _)| known.to_string() == name));
        let every = self.options.status_interval;
        for (key, status) in statuses {
            let name = key.to_string();
            if !self.refusals.may_write(S::KIND, &name, now) {
                continue;
            }
            let Some(status) = due(S::said(self).get(&key), status, now, every) else { continue };
            match deadline.within(status.write(&self.actor, &name)).await {
                Ok(()) => {
                    self.refusals.accepted(S::KIND, &name);
                    S::said(self).insert(key, Said { status, at: now });
                }
                Err(error) => {
                    if let Some(condition) = self.status_refused(S::KIND, &name, &error, now)
                        && let Err(error) = status.only(condition).write(&self.actor, &name).await
                    {
                        let error = crate::error_chain(&error);
                        tracing::debug!(error, "a status with one condition is refused as well");
                    }
                }
            }
        }
    }

    /// Takes in that a status could not be written. If the API server refuses it, that is worth a condition: it may take
    /// a status with that alone, when it is the rest that it refuses.
    fn status_refused(
        &mut self,
        kind: &'static str,
        name: &str,
        error: &ActError,
        now: Timestamp,
    ) -> Option<Condition> {
        if error.class() != Class::Refused {
            self.failed(error);
            return None;
        }
        if self.refused(kind, name, None, error, now) {
            let message = format!("the API server refuses the full status: {}", error.answer());
            let mut condition = status::degraded_by(&Trouble { reason: reason::WRITE_REFUSED, message });
            condition.last_transition_time = crate::time::to_api(now);
            return Some(condition);
        }
        None
    }

    /// Takes in that a write was refused, and logs it if that is news. Whether it is.
    pub(super) fn refused(
        &mut self,
        kind: &'static str,
        name: &str,
        policy: Option<&str>,
        error: &ActError,
        now: Timestamp,
    ) -> bool {
        let is_news = self.refusals.refused(kind, name, policy, error.answer(), now);
        self.metrics.failed_writes.with_label_values(&[error.class().name()]).inc();
        if is_news {
            let error = crate::error_chain(error);
            tracing::warn!(error, kind, name, "the API server refuses a write; it is tried again less and less often");
        }
        is_news
    }
}

/// What goes badly for a policy, the worst first.
fn trouble(policy: &PolicyName, stalled: &[Stalled], refused: Option<String>) -> Option<Trouble> {
    let mut stalled = stalled.iter().filter(|stalled| stalled.policy == *policy);
    if let Some(first) = stalled.next() {
        let message = match stalled.count() {
            0 => first.to_string(),
            more => format!("{first}; and {more} more"),
        };
        return Some(Trouble { reason: reason::MIGRATION_STALLED, message });
    }
    refused.map(|message| Trouble { reason: reason::WRITE_REFUSED, message })
}

/// VMs that can't be moved because no target pod comes to be, with the words of whoever refuses it. It is said while they
/// back off, and while the next try may be under way.
fn no_target(policy: &PolicyName, report: &Report, snapshot: &Snapshot, now: Timestamp) -> Option<Trouble> {
    let ruled = report.vms.iter().filter(|(_, vm)| vm.policy.as_ref() == Some(policy));
    let mut failed = ruled.filter_map(|(key, _)| {
        let moves = snapshot.history.of(&snapshot.vms.get(key)?.uid)?;
        let failure = moves.failure.as_ref().filter(|failure| failure.reason == NOT_CREATED)?;
        (now < moves.back_off_until()? + TRIED_AGAIN_WITHIN).then_some((key, failure))
    });
    let (vm, failure) = failed.next()?;
    let message = match failed.count() {
        0 => format!("{vm} can't be moved: {}", failure.message),
        more => format!("{vm} and {more} more VMs can't be moved: {}", failure.message),
    };
    Some(Trouble { reason: reason::TARGET_NOT_CREATED, message })
}

/// A status that is ours as a whole. Its conditions say since when they hold.
trait OwnStatus: Clone + PartialEq {
    /// The object's kind, as refusals name it.
    const KIND: &'static str;
    /// What such objects are named by.
    type Name: Ord + Display;

    fn conditions(&mut self) -> &mut Vec<Condition>;

    fn energy(&mut self) -> &mut Option<Energy>;

    /// About the same generation, and with this one condition alone.
    fn only(&self, condition: Condition) -> Self;

    /// What was last written about such objects.
    fn said(operator: &mut Operator) -> &mut BTreeMap<Self::Name, Said<Self>>;

    async fn write(&self, actor: &Actor, name: &str) -> Result<(), ActError>;
}

impl OwnStatus for ConsolidationPolicyStatus {
    const KIND: &'static str = "ConsolidationPolicy";
    type Name = PolicyName;

    fn conditions(&mut self) -> &mut Vec<Condition> {
        &mut self.conditions
    }

    fn energy(&mut self) -> &mut Option<Energy> {
        &mut self.energy
    }

    fn only(&self, condition: Condition) -> Self {
        Self { observed_generation: self.observed_generation, conditions: vec![condition], ..Self::default() }
    }

    fn said(operator: &mut Operator) -> &mut BTreeMap<PolicyName, Said<Self>> {
        &mut operator.policies_said
    }

    async fn write(&self, actor: &Actor, name: &str) -> Result<(), ActError> {
        actor.write_policy_status(name, self).await
    }
}

impl OwnStatus for NodePowerClassStatus {
    const KIND: &'static str = "NodePowerClass";
    type Name = ClassName;

    fn conditions(&mut self) -> &mut Vec<Condition> {
        &mut self.conditions
    }

    fn energy(&mut self) -> &mut Option<Energy> {
        &mut self.energy
    }

    fn only(&self, condition: Condition) -> Self {
        Self { observed_generation: self.observed_generation, conditions: vec![condition], ..Self::default() }
    }

    fn said(operator: &mut Operator) -> &mut BTreeMap<ClassName, Said<Self>> {
        &mut operator.classes_said
    }

    async fn write(&self, actor: &Actor, name: &str) -> Result<(), ActError> {
        actor.write_class_status(name, self).await
    }
}

/// The status to write, if it must be written now: conditions at once, figures now and then.
fn due<S: OwnStatus>(said: Option<&Said<S>>, mut status: S, now: Timestamp, every: Span) -> Option<S> {
    let before = said.map(|said| said.status.clone().conditions().clone()).unwrap_or_default();
    let after = merge_conditions(&before, std::mem::take(status.conditions()), now);
    let changed = !same_but_for_times(&before, &after);
    *status.conditions() = after;
    let Some(said) = said else { return Some(status) };
    let energy = status.energy().clone();
    let mut before = said.status.clone();
    let saves = energy.as_ref().map(|energy| energy.saved_joules) != before.energy().as_ref().map(|it| it.saved_joules);
    before.energy().clone_from(&energy);
    let since = now.since(said.at);
    match before == status {
        _ if changed => Some(status),
        true => (saves && since >= ENERGY_EVERY).then_some(status),
        false => (since >= every).then_some(status),
    }
}
