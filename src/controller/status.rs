//! Report → the status of policies and classes: pure, and compared before anything is written.

use super::stuck::StuckNode;
use crate::observe::Declared;
use crate::observe::convert::Problem;
use crate::observe::load::{LoadStore, Source};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use miyako_api::consolidation_policy::{
    Blocker, ConsolidationPolicyStatus, Energy, Hold, LoadSource, LoadStatus, NodeCounts, SwitchesOn, VmCounts,
};
use miyako_api::names::{condition, reason};
use miyako_api::node_power_class::{ClassConflict, NodePowerClassStatus};
use miyako_core::energy::Account;
use miyako_core::model::{ClassName, KubeVirtProblem, Policies, Policy, Snapshot, Switches, Timestamp};
use miyako_core::plan::{Gate, NodeVerdict, PolicyReport, Report, StayReason, VmVerdict};

/// A blocker's reason names a namespace or a DaemonSet, and the field takes no more; advice says the rest.
const LONGEST_REASON: usize = 64;
/// So many holds are listed, which a restarted operator knows the age of.
const MOST_HOLDS: usize = 32;
/// What a hold's key and message and the field `held` take.
const LONGEST_KEY: usize = 510;
const LONGEST_MESSAGE: usize = 1020;
const LONGEST_HELD: usize = 250;
/// So many blockers and conflicts are listed; the rest is in the metrics.
const LISTED: usize = 10;

/// What is known of where loads come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadView {
    /// The source.
    pub source: LoadSource,
    /// The shortest window it can answer for, in seconds.
    pub shortest_window: u64,
    /// What is wrong with it, for people.
    pub problem: Option<String>,
}

impl LoadView {
    /// What the store knows of its sources.
    #[must_use]
    pub fn of(store: &LoadStore, now: Timestamp) -> Self {
        let prometheus = store.prometheus();
        let measured = prometheus.filter(|report| report.measured > 0);
        let source = match measured {
            _ if store.agents_connected() > 0 => LoadSource::Agents,
            Some(_) => LoadSource::Prometheus,
            None => LoadSource::None,
        };
        let shortest_window = measured
            .and_then(|report| report.scrape_interval)
            .map_or(1, |interval| Source::Prometheus { interval }.shortest_window().as_secs());
        let problems = store.problems(now);
        let of_nodes = problems.iter().next().map(|(node, problem)| match problems.len() {
            1 => format!("{node}: {problem}"),
            more => format!("{node}: {problem}; {} other nodes have problems", more - 1),
        });
        let of_prometheus = prometheus.and_then(|report| report.problems.first()).map(ToString::to_string);
        Self { source, shortest_window, problem: of_prometheus.or(of_nodes) }
    }
}

/// One policy's status.
#[must_use]
pub(super) fn of_policy(
    policy: &Policy,
    report: &Report,
    snapshot: &Snapshot,
    load: &LoadView,
    trouble: Option<&Trouble>,
    own: &Declared,
) -> ConsolidationPolicyStatus {
    let blank = PolicyReport::default();
    let found = report.policies.get(&policy.name).unwrap_or(&blank);
    let mut conditions =
        vec![ready(found, &own.problems), degraded(found, load, trouble), conflict(found), load_known(found, load)];
    conditions.push(switch(condition::PAUSED, reason::PAUSED, snapshot.switches.paused.as_deref()));
    let held = snapshot.switches.held.as_ref().or(policy.held.as_ref()).or(policy.backup.as_ref());
    conditions.push(sleepers_counted(found));
    conditions.push(switch(condition::HELD, reason::HELD, held.map(String::as_str)));
    for condition in &mut conditions {
        condition.observed_generation = own.generation;
    }
    ConsolidationPolicyStatus {
        observed_generation: own.generation,
        conditions,
        nodes: Some(NodeCounts {
            awake: found.awake,
            asleep: found.asleep,
            can_sleep: found.can_sleep,
            shared: found.shared,
            dedicated: found.dedicated,
        }),
        vms: Some(vm_counts(policy, found, report)),
        blockers: found
            .blockers
            .iter()
            .take(LISTED)
            .map(|blocker| Blocker {
                reason: crate::shortened(&blocker.reason, LONGEST_REASON),
                nodes: blocker.nodes,
                example: blocker.examples.iter().map(ToString::to_string).collect(),
                message: blocker.advice.clone(),
            })
            .collect(),
        top_blocker: found.blockers.first().map(|blocker| format!("{}: {} nodes", blocker.reason, blocker.nodes)),
        load: Some(LoadStatus {
            source: load.source,
            overload_window_seconds: seconds(policy.thresholds.overload_window.as_secs().max(load.shortest_window)),
            idle_window_seconds: seconds(policy.thresholds.idle_window.as_secs().max(load.shortest_window)),
        }),
        last_decision: None,
        paused: snapshot.switches.paused.is_some(),
        held: held.cloned().map(|held| crate::shortened(&held, LONGEST_HELD)),
        switches: switches_on(&snapshot.switches),
        holds: holds(found),
        energy: None,
    }
}

fn switches_on(switches: &Switches) -> Option<SwitchesOn> {
    let [paused, held] =
        [&switches.paused, &switches.held].map(|by| by.as_ref().map(|by| by.chars().take(1000).collect()));
    let config_map_uid = switches.of.as_ref().map(ToString::to_string);
    switches.is_on().then_some(SwitchesOn { paused, held, config_map_uid })
}

/// What is overdue comes first, so that it is told however many others there are; then the oldest.
fn holds(found: &PolicyReport) -> Vec<Hold> {
    let (overdue, young): (Vec<_>, Vec<_>) = found.holds.iter().partition(|hold| hold.overdue);
    let told = overdue.into_iter().chain(young).take(MOST_HOLDS).map(|hold| Hold {
        reason: hold.kind.name().to_owned(),
        key: crate::shortened(&hold.key, LONGEST_KEY),
        since: crate::time::to_api(hold.since),
        holds_all: hold.holds_all,
        overdue: hold.overdue,
        message: crate::shortened(&format!("{hold}. {}", hold.cure), LONGEST_MESSAGE),
    });
    told.collect()
}

/// The hold that has been overdue for longest, for people.
fn overdue(found: &PolicyReport) -> Option<Condition> {
    let mut overdue = found.holds.iter().filter(|hold| hold.overdue);
    let first = overdue.next()?;
    let more = match overdue.count() {
        0 => String::new(),
        more => format!("; and {more} more (status.holds)"),
    };
    let message = format!("{first}. It holds nothing else. {}{more}", first.cure);
    Some(said(condition::DEGRADED, true, first.kind.overdue_name(), message))
}

fn seconds(seconds: u64) -> Option<u32> {
    u32::try_from(seconds).ok()
}

fn vm_counts(policy: &Policy, found: &PolicyReport, report: &Report) -> VmCounts {
    let mut counts = VmCounts { ruled: found.vms, unsupported: found.unsupported, ..VmCounts::default() };
    for vm in report.vms.values().filter(|vm| vm.policy.as_ref() == Some(&policy.name)) {
        match &vm.verdict {
            VmVerdict::Moves { .. } | VmVerdict::Planned { .. } => counts.moving += 1,
            VmVerdict::Stays { reason } => match reason {
                StayReason::NotMigratable { .. } | StayReason::HostDevice => counts.not_migratable += 1,
                StayReason::OptedOut | StayReason::PrefersNoEviction => counts.opted_out += 1,
                StayReason::LoadUnknown { .. } => counts.load_unknown += 1,
                _ => {}
            },
        }
    }
    counts
}

fn ready(found: &PolicyReport, problems: &[Problem]) -> Condition {
    let (why, message) = match &found.gate {
        Some(Gate::Off) => (reason::MODE_OFF, Gate::Off.to_string()),
        Some(gate @ Gate::Invalid { .. }) => (reason::INVALID_SPEC, gate.to_string()),
        Some(Gate::KubeVirt { problem }) => {
            let why = match problem {
                KubeVirtProblem::Missing => reason::KUBEVIRT_MISSING,
                KubeVirtProblem::TooOld { .. } => reason::KUBEVIRT_TOO_OLD,
                KubeVirtProblem::NotDeployed { .. } => reason::KUBEVIRT_NOT_DEPLOYED,
            };
            (why, problem.to_string())
        }
        _ if !problems.is_empty() => {
            let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
            (reason::INVALID_SPEC, said.join("; "))
        }
        _ if !found.unknown_classes.is_empty() => (
            reason::UNKNOWN_CLASS,
            format!(
                "there is no NodePowerClass {}; create it or correct spec.nodeClasses",
                list(&found.unknown_classes)
            ),
        ),
        _ if found.shared + found.dedicated == 0 => (
            reason::SELECTS_NOTHING,
            "its classes select no node; label nodes as the classes' nodeSelector says".to_owned(),
        ),
        _ => return said(condition::READY, true, reason::SERVED, "the policy is understood and served".to_owned()),
    };
    said(condition::READY, false, why, message)
}

/// Something that goes badly for a policy.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    /// What, as a name.
    pub(super) reason: &'static str,
    /// The same in a sentence.
    pub(super) message: String,
}

/// The condition that tells of a trouble.
pub(super) fn degraded_by(trouble: &Trouble) -> Condition {
    said(condition::DEGRADED, true, trouble.reason, trouble.message.clone())
}

fn degraded(found: &PolicyReport, load: &LoadView, trouble: Option<&Trouble>) -> Condition {
    if let Some(trouble) = trouble {
        return degraded_by(trouble);
    }
    let gate = found.gate.as_ref().filter(|gate| {
        !matches!(gate, Gate::Off | Gate::Invalid { .. } | Gate::Paused { .. } | Gate::OutsideSchedule { .. })
    });
    if let Some(gate) = gate {
        return said(condition::DEGRADED, true, gate.name(), gate.to_string());
    }
    if let Some(overdue) = overdue(found) {
        return overdue;
    }
    if let Some(problem) = &load.problem {
        return said(condition::DEGRADED, true, reason::NO_LOAD, problem.clone());
    }
    if found.unsupported > 0 {
        let message = format!(
            "{} VMs have a constraint that is not understood and are left alone; `miyako explain VM` names it",
            found.unsupported
        );
        return said(condition::DEGRADED, true, "UnsupportedConstraint", message);
    }
    said(condition::DEGRADED, false, reason::SERVED, String::new())
}

fn conflict(found: &PolicyReport) -> Condition {
    if found.lost_classes.is_empty() {
        return said(condition::CONFLICT, false, reason::NO_CONFLICT, String::new());
    }
    let lost: Vec<String> =
        found.lost_classes.iter().map(|(class, policy)| format!("{class} belongs to {policy}")).collect();
    let message = format!("{}: the higher priority, then the first name, wins", lost.join(", "));
    said(condition::CONFLICT, true, reason::CLASS_TAKEN, message)
}

fn sleepers_counted(found: &PolicyReport) -> Condition {
    let why = match (found.counted_by.is_empty(), found.replaced_by.is_empty()) {
        (true, true) => return said(condition::SLEEPERS_COUNTED, false, reason::NO_CONFLICT, String::new()),
        (false, _) => reason::NODE_HEALTH_CHECK,
        (true, false) => reason::MACHINE_HEALTH_CHECK,
    };
    let counted = found.counted_by.iter().map(ToString::to_string);
    let all: Vec<String> = counted.chain(found.replaced_by.iter().map(ToString::to_string)).collect();
    said(condition::SLEEPERS_COUNTED, true, why, all.join("; "))
}

/// Shared nodes that stay overloaded because no VM on them can be moved.
pub(super) fn nodes_stuck<'a>(stuck: impl Iterator<Item = &'a StuckNode>, generation: Option<i64>) -> Condition {
    let stuck: Vec<&StuckNode> = stuck.collect();
    let mut condition = match stuck.first() {
        None => said(condition::NODES_STUCK, false, reason::NONE_STUCK, String::new()),
        Some(first) => {
            let told: Vec<String> = stuck.iter().take(LISTED).map(ToString::to_string).collect();
            let message = format!("{}; `miyako explain node` tells more", told.join("; "));
            said(condition::NODES_STUCK, true, first.because, message)
        }
    };
    condition.observed_generation = generation;
    condition
}

fn load_known(found: &PolicyReport, load: &LoadView) -> Condition {
    let source = match load.source {
        LoadSource::Agents => reason::AGENTS,
        LoadSource::Prometheus => reason::PROMETHEUS,
        LoadSource::None => {
            let message = load.problem.clone().unwrap_or_else(|| {
                "no agent reports and no Prometheus is configured: install the agents or set --prometheus-url".into()
            });
            return said(condition::LOAD_KNOWN, false, reason::NO_LOAD, message);
        }
    };
    if found.load_unknown > 0 {
        let mut message = format!("the load of {} shared nodes is not known well enough to act", found.load_unknown);
        if let Some(problem) = &load.problem {
            message = format!("{message}: {problem}");
        }
        return said(condition::LOAD_KNOWN, false, reason::STALE_LOAD, message);
    }
    let message = match load.shortest_window {
        0..=1 => String::new(),
        seconds => format!("windows are {seconds} s at least: four scrape intervals of Prometheus"),
    };
    said(condition::LOAD_KNOWN, true, source, message)
}

fn switch(kind: &str, why: &str, by: Option<&str>) -> Condition {
    match by {
        Some(by) => said(kind, true, why, by.to_owned()),
        None => said(kind, false, reason::RESUMED, String::new()),
    }
}

/// One class's status.
#[must_use]
pub(super) fn of_class(
    class: &ClassName,
    policies: &Policies,
    report: &Report,
    own: &Declared,
) -> NodePowerClassStatus {
    let (problems, generation) = (&own.problems, own.generation);
    let nodes = report.nodes.values().filter(|node| node.class.as_ref() == Some(class)).count();
    let mut conflicts: Vec<ClassConflict> = Vec::new();
    for (node, found) in &report.nodes {
        let NodeVerdict::Ambiguous { classes } = &found.verdict else { continue };
        if classes.contains(class) {
            conflicts.push(ClassConflict {
                node: node.to_string(),
                classes: classes.iter().map(ToString::to_string).collect(),
            });
        }
    }
    let ruling = policies.ruling(class);
    let mut condition = if !problems.is_empty() {
        let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
        said(condition::READY, false, reason::INVALID_SPEC, text.join("; "))
    } else if let Some(first) = conflicts.first() {
        let message = format!(
            "{} nodes are selected by several classes and so ruled by none, {} by {}: make the selectors exclude each other",
            conflicts.len(),
            first.node,
            first.classes.join(" and ")
        );
        said(condition::READY, false, reason::NODE_IN_TWO_CLASSES, message)
    } else if nodes == 0 {
        let message = "its nodeSelector selects no node; label some, or correct it".to_owned();
        said(condition::READY, false, reason::SELECTS_NOTHING, message)
    } else if ruling.is_none() {
        let message = "no ConsolidationPolicy names it in spec.nodeClasses".to_owned();
        said(condition::READY, false, reason::UNUSED, message)
    } else {
        said(condition::READY, true, reason::SERVED, String::new())
    };
    condition.observed_generation = generation;
    conflicts.truncate(LISTED);
    NodePowerClassStatus {
        observed_generation: generation,
        conditions: vec![condition],
        nodes: u32::try_from(nodes).ok(),
        policy: ruling.map(|policy| policy.name.to_string()),
        conflicts,
        energy: None,
    }
}

/// What nodes drew and saved, for a status.
#[must_use]
pub(super) fn energy(account: Account) -> Energy {
    let recorded = account.recorded();
    let kilowatt_hours = account.saved() / 3.6e6;
    let share = 100.0 * account.saved() / account.never_sleeping.value().max(1.0);
    Energy {
        used_joules: i64::try_from(recorded.used).unwrap_or(i64::MAX),
        saved_joules: recorded.saved,
        saved: format!("{kilowatt_hours:.1} kWh ({share:.0} %)"),
    }
}

fn said(kind: &str, holds: bool, why: &str, message: String) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: why.to_owned(),
        message: message.chars().take(2000).collect(),
        last_transition_time: Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH),
        observed_generation: None,
    }
}

fn list(names: &[ClassName]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
