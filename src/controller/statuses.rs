//! Statuses that must be written now: conditions at once, figures now and then, and what the API server refuses less and
//! less often.

use super::Operator;
use super::stalled::Stalled;
use super::status::{self, LoadView, Trouble};
use crate::act::{ActError, Class, merge_conditions, same_but_for_times};
use crate::observe::Kind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use miyako_api::consolidation_policy::ConsolidationPolicyStatus;
use miyako_api::names::reason;
use miyako_api::node_power_class::NodePowerClassStatus;
use miyako_core::model::{Name, PolicyName, Span, Timestamp};
use miyako_core::plan::Report;

/// The kinds as refusals name them.
const POLICY: &str = "ConsolidationPolicy";
const CLASS: &str = "NodePowerClass";

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
        stalled: &[Stalled],
        now: Timestamp,
    ) {
        let mut policies = Vec::new();
        let mut classes = Vec::new();
        let declared = [Kind::ConsolidationPolicy, Kind::NodePowerClass].map(|kind| self.observer.declared(kind));
        let (snapshot, known) = self.observer.snapshot();
        for (name, policy) in &known.policies {
            let own = declared[0].get(&Name::from(name.as_str())).cloned().unwrap_or_default();
            let trouble = trouble(name, stalled, self.refusals.of_policy(name.as_str()));
            policies.push((name.clone(), status::of_policy(policy, report, snapshot, load, trouble.as_ref(), &own)));
        }
        for name in known.classes.keys() {
            let own = declared[1].get(&Name::from(name.as_str())).cloned().unwrap_or_default();
            classes.push((name.clone(), status::of_class(name, known, report, &own)));
        }
        self.policies_said.retain(|name, _| policies.iter().any(|(known, _)| known == name));
        self.classes_said.retain(|name, _| classes.iter().any(|(known, _)| known == name));
        self.refusals.retain(POLICY, |name| policies.iter().any(|(known, _)| known.as_str() == name));
        self.refusals.retain(CLASS, |name| classes.iter().any(|(known, _)| known.as_str() == name));
        let every = self.options.status_interval;
        for (name, status) in policies {
            if !self.refusals.may_write(POLICY, name.as_str(), now) {
                continue;
            }
            let Some(status) = due(self.policies_said.get(&name), status, now, every) else { continue };
            match self.actor.write_policy_status(name.as_str(), &status).await {
                Ok(()) => {
                    self.refusals.accepted(POLICY, name.as_str());
                    self.policies_said.insert(name, Said { status, at: now });
                }
                Err(error) => {
                    if let Some(condition) = self.status_refused(POLICY, name.as_str(), &error, now) {
                        let (observed_generation, conditions) = (status.observed_generation, vec![condition]);
                        let least = ConsolidationPolicyStatus { observed_generation, conditions, ..Default::default() };
                        self.say_at_least(self.actor.write_policy_status(name.as_str(), &least).await);
                    }
                }
            }
        }
        for (name, status) in classes {
            if !self.refusals.may_write(CLASS, name.as_str(), now) {
                continue;
            }
            let Some(status) = due(self.classes_said.get(&name), status, now, every) else { continue };
            match self.actor.write_class_status(name.as_str(), &status).await {
                Ok(()) => {
                    self.refusals.accepted(CLASS, name.as_str());
                    self.classes_said.insert(name, Said { status, at: now });
                }
                Err(error) => {
                    if let Some(condition) = self.status_refused(CLASS, name.as_str(), &error, now) {
                        let (observed_generation, conditions) = (status.observed_generation, vec![condition]);
                        let least = NodePowerClassStatus { observed_generation, conditions, ..Default::default() };
                        self.say_at_least(self.actor.write_class_status(name.as_str(), &least).await);
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

    fn say_at_least(&self, written: Result<(), ActError>) {
        if let Err(error) = written {
            tracing::debug!(error = crate::error_chain(&error), "a status with one condition is refused as well");
        }
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

/// A status with conditions, which say since when they hold.
trait Conditioned: PartialEq {
    fn conditions(&mut self) -> &mut Vec<Condition>;
}

impl Conditioned for ConsolidationPolicyStatus {
    fn conditions(&mut self) -> &mut Vec<Condition> {
        &mut self.conditions
    }
}

impl Conditioned for NodePowerClassStatus {
    fn conditions(&mut self) -> &mut Vec<Condition> {
        &mut self.conditions
    }
}

/// The status to write, if it must be written now: conditions at once, figures now and then.
fn due<S: Conditioned + Clone>(said: Option<&Said<S>>, mut status: S, now: Timestamp, every: Span) -> Option<S> {
    let before = said.map(|said| said.status.clone().conditions().clone()).unwrap_or_default();
    let after = merge_conditions(&before, std::mem::take(status.conditions()), now);
    let changed = !same_but_for_times(&before, &after);
    *status.conditions() = after;
    match said {
        Some(said) if said.status == status => None,
        Some(said) if !changed && now.since(said.at) < every => None,
        _ => Some(status),
    }
}
