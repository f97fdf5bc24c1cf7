//! Policies, and what decides from outside whether they may act: schedules, upgrades, backups, rivals.

use crate::observe::convert::{
    policy::Resolved,
    schedule::{self, InSchedule, Window},
};
use crate::observe::seen::Kind;
use miyako_core::model::{
    ClassName, Concern, Hold, HoldKind, Name, NodeName, Policies, PolicyName, Snapshot, Span, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

/// No proposal waits longer than the longest `planTTL`.
const OLDEST_PROPOSAL: Span = Span::from_secs(168 * 3600);

/// What a policy is judged by besides its values.
#[derive(Debug)]
struct Outside {
    windows: Vec<Window>,
    /// Why the spec itself is invalid.
    invalid: Option<String>,
    /// What the schedules said, and when they were asked.
    schedule: Option<(Timestamp, InSchedule)>,
}

/// All policies' outsides.
#[derive(Debug, Default)]
pub(super) struct Outsides {
    outside: BTreeMap<PolicyName, Outside>,
    /// Kubelets' versions by node.
    pub(super) kubelets: BTreeMap<NodeName, String>,
    /// Nodes that are not ready, since when.
    pub(super) down: BTreeMap<NodeName, Timestamp>,
    /// Policies and classes whose specs are not those that were known before, until the next refresh.
    fresh: BTreeSet<(Kind, Name)>,
    /// When their specs were last seen to change.
    changed: BTreeMap<(Kind, Name), Timestamp>,
}

impl Outsides {
    pub(super) fn put(&mut self, resolved: Resolved, policies: &mut Policies) {
        let Resolved { policy, windows, told: _ } = resolved;
        let outside = Outside { windows, invalid: policy.invalid.clone(), schedule: None };
        self.outside.insert(policy.name.clone(), outside);
        policies.policies.insert(policy.name.clone(), policy);
    }

    /// The spec of this policy or class is another one than before, or there is none any more.
    pub(super) fn note_change(&mut self, kind: Kind, name: &Name) {
        self.fresh.insert((kind, name.clone()));
    }

    pub(super) fn remove(&mut self, name: &PolicyName, policies: &mut Policies) {
        self.outside.remove(name);
        policies.policies.remove(name);
    }

    /// Judges every policy by the moment and the rest of the cluster.
    pub(super) fn refresh(
        &mut self,
        policies: &mut Policies,
        snapshot: &Snapshot,
        descheduler: Option<String>,
        now: Timestamp,
    ) {
        for one in std::mem::take(&mut self.fresh) {
            self.changed.insert(one, now);
        }
        self.changed.retain(|_, at| now.since(*at) < OLDEST_PROPOSAL);
        let rival = descheduler.map(|descheduler| {
            format!("the descheduler {descheduler} would spread what is packed; stop it, or leave the policy in mode Recommend")
        });
        for (name, policy) in &mut policies.policies {
            let Some(outside) = self.outside.get_mut(name) else { continue };
            let schedule = outside.in_schedule(now);
            policy.in_schedule = schedule.inside;
            policy.schedule_changes = schedule.changes;
            policy.rival.clone_from(&rival);
            let changed = |kind: Kind, name: &str| self.changed.get(&(kind, Name::from(name))).copied();
            let of_classes = policy.classes.iter().map(|class| changed(Kind::NodePowerClass, class.as_str()));
            let own = changed(Kind::ConsolidationPolicy, name.as_str());
            policy.changed = of_classes.chain([own]).flatten().max().unwrap_or_default();
            let unknown: Vec<&str> = policy
                .classes
                .iter()
                .filter(|class| !policies.classes.contains_key(*class))
                .map(ClassName::as_str)
                .collect();
            policy.invalid = outside.invalid.clone().or_else(|| {
                (!unknown.is_empty()).then(|| {
                    format!(
                        "spec.nodeClasses: there is no NodePowerClass {}; create it or leave it out",
                        unknown.join(", ")
                    )
                })
            });
            let waits_for = policy.waits_for.clone();
            let holding = |kind: HoldKind| {
                let waits = waits_for.contains(&kind);
                snapshot.holds.iter().filter(move |hold| waits && hold.kind == kind && hold.holds_all)
            };
            let upgrades =
                [(HoldKind::ClusterUpgrade, "ClusterUpgrade"), (HoldKind::KubeVirtRollout, "KubeVirtUpgrade")];
            policy.held = upgrades.into_iter().find_map(|(kind, word)| {
                let hold = holding(kind).next()?;
                Some(format!("{word}: {}, since {}", hold.detail, hold.since))
            });
            let of_its = |hold: &&Hold| {
                let Concern::Vm(key) = &hold.concerns else { return false };
                let (Some(vm), Some(namespace)) = (snapshot.vms.get(key), snapshot.namespaces.get(&key.namespace))
                else {
                    return false;
                };
                policy.vms.matches(&vm.labels, &namespace.labels)
            };
            let backup = holding(HoldKind::Backup).filter(of_its).min_by_key(|hold| hold.since);
            policy.backup = backup.map(|hold| format!("{} has been backed up since {}", hold.concerns, hold.since));
        }
    }
}

impl Outside {
    /// Asks the schedules only when their answer may have changed: when it said it would, or when the clock went back.
    fn in_schedule(&mut self, now: Timestamp) -> InSchedule {
        match self.schedule {
            Some((asked, answer)) if asked <= now && answer.changes.is_none_or(|changes| now < changes) => answer,
            _ => {
                let answer = schedule::evaluate(&self.windows, now);
                let invalid_schedules_never_open = self.windows.is_empty() && self.invalid.is_some();
                let answer = InSchedule { inside: answer.inside && !invalid_schedules_never_open, ..answer };
                self.schedule = Some((now, answer));
                answer
            }
        }
    }
}
