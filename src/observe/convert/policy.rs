//! ConsolidationPolicies with every default filled in from their profile.

use super::{Converted, Problems, objects, schedule::Window, selector};
use miyako_api::{
    consolidation_policy::{self as api, ConsolidationPolicySpec, ConsolidationPolicyStatus, HoldReason},
    duration::Duration,
};
use miyako_core::model::{
    Budgets, ClassName, DestinationOrder, HoldKind, MigrationChoice, Percent, Policy, PolicyMode, PolicyName,
    PostCopyUse, Profile, Selector, SleepRules, Span, Switches, Thresholds, Timestamp, Uid, VmSelector,
};

/// A policy and what decides from outside whether it may act.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The policy. Its schedule, hold, rival and classes are judged where the rest of the cluster is known.
    pub policy: Policy,
    /// When it may act; always, if there is none.
    pub windows: Vec<Window>,
    /// What its status told before.
    pub told: Told,
}

/// What a status tells that nothing else does after a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Since when what holds lasts.
    pub holds: Vec<ToldHold>,
    /// People's switches, if one is on.
    pub switches: Option<Switches>,
}

/// A hold as a status tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldHold {
    /// What holds.
    pub reason: String,
    /// What tells it from others of its kind.
    pub key: String,
    /// Since when.
    pub since: Timestamp,
}

/// Reads what a status tells.
#[must_use]
pub fn told(status: &ConsolidationPolicyStatus) -> Told {
    let holds = status.holds.iter().map(|hold| ToldHold {
        reason: hold.reason.clone(),
        key: hold.key.clone(),
        since: objects::timestamp(&hold.since),
    });
    let switches = status.switches.as_ref().map(|told| Switches {
        paused: told.paused.clone(),
        held: told.held.clone(),
        of: told.config_map_uid.as_ref().map(Uid::new),
    });
    Told { holds: holds.collect(), switches }
}

/// Fills in what the spec leaves to its profile. Whatever contradicts itself makes the policy `invalid`, and the
/// problems name the fields as a person wrote, or could write, them.
#[must_use]
pub fn resolve(name: &str, spec: &ConsolidationPolicySpec) -> Converted<Resolved> {
    let mut problems = Problems::default();
    let profile = match spec.profile {
        api::Profile::Conservative => Profile::Conservative,
        api::Profile::Reactive => Profile::Reactive,
    };
    if spec.node_classes.is_empty() {
        problems.note("spec.nodeClasses", "is empty; name at least one NodePowerClass");
    }
    let mut windows = Vec::new();
    for (index, schedule) in spec.schedules.iter().enumerate() {
        match Window::read(schedule) {
            Ok(window) => windows.push(window),
            Err(error) => problems.note(format!("spec.schedules[{index}]"), error.to_string()),
        }
    }
    let mut stretch = |field: &str, text: &Duration, range: (u64, u64)| span(field, text, range, &mut problems);
    let plan_ttl = stretch("spec.planTTL", &spec.plan_ttl, (60, 168 * 3600)).unwrap_or(Span::from_secs(3600));
    let policy = Policy {
        name: PolicyName::new(name),
        priority: spec.priority,
        mode: match spec.mode {
            api::Mode::Off => PolicyMode::Off,
            api::Mode::Recommend => PolicyMode::Recommend,
            api::Mode::Automatic => PolicyMode::Automatic,
        },
        classes: spec.node_classes.iter().map(ClassName::new).collect(),
        vms: virtual_machines(&spec.virtual_machines, &mut problems),
        thresholds: thresholds(&spec.thresholds, profile, &mut problems),
        order: match spec.destination_order {
            api::DestinationOrder::MostDense => DestinationOrder::MostDense,
            api::DestinationOrder::LeastDense => DestinationOrder::LeastDense,
            api::DestinationOrder::Random => DestinationOrder::Random,
        },
        stay_within: spec.stay_within.clone(),
        migration: match spec.migration.mode {
            api::MigrationChoice::Auto => MigrationChoice::Auto,
            api::MigrationChoice::PostCopy => MigrationChoice::PostCopy,
            api::MigrationChoice::PreCopy => MigrationChoice::PreCopy,
        },
        post_copy: post_copy(&spec.migration, profile, &mut problems),
        budgets: budgets(&spec.budgets, profile, &mut problems),
        spare_dedicated: spec.spare.dedicated_nodes,
        sleep: SleepRules { most_spare: spec.spare.most_dedicated_nodes, ..sleep(&spec.sleep, profile, &mut problems) },
        keep_awake_failures: spec.keep_awake.failures,
        keep_awake_per: spec.keep_awake.per.clone(),
        min_awake: spec.min_awake,
        plan_ttl,
        in_schedule: spec.schedules.is_empty(),
        schedule_changes: None,
        waits_for: waits_for(&spec.hold_when),
        held: None,
        backup: None,
        invalid: None,
        rival: None,
        changed: Timestamp::default(),
    };
    let mut converted = Converted::new(Resolved { policy, windows, told: Told::default() }, problems);
    let said: Vec<_> = converted.problems.iter().map(ToString::to_string).collect();
    converted.value.policy.invalid = (!said.is_empty()).then(|| said.join("; "));
    converted
}

/// What is left of a policy whose object can't be read at all: it does nothing and says why.
#[must_use]
pub fn unreadable(name: &str, error: &str) -> Resolved {
    let spec = ConsolidationPolicySpec { mode: api::Mode::Off, ..ConsolidationPolicySpec::over(Vec::<String>::new()) };
    let mut resolved = resolve(name, &spec).value;
    resolved.policy.invalid = Some(format!("the object can't be read: {error}"));
    resolved
}

fn waits_for(hold_when: &[HoldReason]) -> Vec<HoldKind> {
    let kind = |reason: &HoldReason| match reason {
        HoldReason::ClusterUpgrade => HoldKind::ClusterUpgrade,
        HoldReason::KubeVirtUpgrade => HoldKind::KubeVirtRollout,
        HoldReason::Backup => HoldKind::Backup,
    };
    hold_when.iter().map(kind).collect()
}

fn virtual_machines(wanted: &api::VirtualMachines, problems: &mut Problems) -> VmSelector {
    let mut read = |labels: &Option<_>, field: &str| match labels {
        None => Selector::default(),
        given => selector::labels(given.as_ref(), field, problems),
    };
    VmSelector {
        vms: read(&wanted.selector, "spec.virtualMachines.selector"),
        namespaces: read(&wanted.namespace_selector, "spec.virtualMachines.namespaceSelector"),
    }
}

/// The range is that of the CRD's schema; an object may be older than the schema.
fn span(field: &str, text: &Duration, (least, most): (u64, u64), problems: &mut Problems) -> Option<Span> {
    let (least, most) = (Span::from_secs(least), Span::from_secs(most));
    match text.get() {
        Ok(span) if (least..=most).contains(&span) => Some(span),
        Ok(_) => {
            let [least, most] = [least, most].map(|span| Duration::from_secs(span.as_secs()));
            problems.note(field, format!("{text} is out of range; write a duration between {least} and {most}"));
            None
        }
        Err(error) => {
            problems.note(field, error.to_string());
            None
        }
    }
}

fn thresholds(wanted: &api::Thresholds, profile: Profile, problems: &mut Problems) -> Thresholds {
    let mut thresholds = Thresholds::of(profile);
    let percents = [
        ("overloadPercent", wanted.overload_percent, &mut thresholds.overload),
        ("idlePercent", wanted.idle_percent, &mut thresholds.idle),
        ("admissionPercent", wanted.admission_percent, &mut thresholds.admission),
    ];
    for (field, percent, threshold) in percents {
        match percent.map(|percent| (percent, Percent::threshold(f64::from(percent)))) {
            None => {}
            Some((1.., Ok(percent))) => *threshold = percent,
            Some((percent, _)) => {
                problems.note(format!("spec.thresholds.{field}"), format!("{percent} is no share; write 1 to 100"));
            }
        }
    }
    let windows = [
        ("admissionWindow", &wanted.admission_window, &mut thresholds.admission_window),
        ("overloadWindow", &wanted.overload_window, &mut thresholds.overload_window),
        ("idleWindow", &wanted.idle_window, &mut thresholds.idle_window),
        ("settle", &wanted.settle, &mut thresholds.settle),
    ];
    for (field, text, window) in windows {
        if let Some(text) = text
            && let Some(span) = span(&format!("spec.thresholds.{field}"), text, (1, 2 * 3600), problems)
        {
            *window = span;
        }
    }
    // The schema can only compare what is written; here the profile's values count too.
    let Thresholds { idle, admission, overload, .. } = thresholds;
    if idle >= admission {
        problems.note(
            "spec.thresholds.idlePercent",
            format!("{idle} is not below admissionPercent, {admission}: an idle VM would find no shared node that takes it; write less"),
        );
    }
    if admission >= overload {
        problems.note(
            "spec.thresholds.admissionPercent",
            format!("{admission} is not below overloadPercent, {overload}: the VM that came would be the one that must leave again; write less"),
        );
    }
    thresholds
}

fn post_copy(wanted: &api::Migration, profile: Profile, problems: &mut Problems) -> PostCopyUse {
    let post_copy = match (wanted.post_copy, profile) {
        (Some(api::PostCopyUse::Never), _) => PostCopyUse::Never,
        (Some(api::PostCopyUse::OptIn), _) | (None, Profile::Conservative) => PostCopyUse::OptIn,
        (Some(api::PostCopyUse::Allow), _) | (None, Profile::Reactive) => PostCopyUse::Allow,
    };
    if wanted.mode == api::MigrationChoice::PostCopy && post_copy == PostCopyUse::Never {
        problems
            .note("spec.migration.postCopy", "is Never, but mode is PostCopy; write OptIn or Allow, or mode PreCopy");
    }
    post_copy
}

fn sleep(wanted: &api::Sleep, profile: Profile, problems: &mut Problems) -> SleepRules {
    let mut rules = SleepRules {
        suspends_per_hour: wanted.suspends_per_hour,
        wakes_per_rack_per_minute: wanted.wakes_per_rack_per_minute,
        rack: wanted.rack.clone(),
        ..SleepRules::of(profile)
    };
    let spans = [
        ("after", &wanted.after, &mut rules.after),
        ("leastAwake", &wanted.least_awake, &mut rules.least_awake),
        ("leastAsleep", &wanted.least_asleep, &mut rules.least_asleep),
    ];
    for (field, text, rule) in spans {
        if let Some(text) = text
            && let Some(span) = span(&format!("spec.sleep.{field}"), text, (1, 2 * 3600), problems)
        {
            *rule = span;
        }
    }
    rules
}

fn budgets(wanted: &api::Budgets, profile: Profile, problems: &mut Problems) -> Budgets {
    let per_day = wanted.moves_per_vm_per_day.unwrap_or(match profile {
        Profile::Conservative => 3,
        Profile::Reactive => 10,
    });
    let alert = miyako_api::names::kubevirt::EXCESSIVE_MIGRATIONS_PER_DAY;
    if per_day >= alert {
        problems.note(
            "spec.budgets.movesPerVMPerDay",
            format!("{per_day} would set off KubeVirt's alert at {alert}; write 0 to {}", alert - 1),
        );
    }
    Budgets {
        moves_per_vm_per_day: per_day.min(alert - 1),
        concurrent: wanted.concurrent_migrations,
        concurrent_per_shared_node: wanted.concurrent_per_shared_node,
        reserved_migrations: wanted.reserved_migrations,
        moves_per_hour: wanted.moves_per_hour,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn resolved(extra: Value) -> Converted<Resolved> {
        let mut spec = json!({"nodeClasses": ["shared"]});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        resolve("p", &from_value(spec).unwrap())
    }

    #[test]
    fn the_profile_fills_in_what_is_unset() {
        let conservative = resolved(json!({})).value.policy;
        assert_eq!(conservative.thresholds, Thresholds::of(Profile::Conservative));
        assert_eq!((conservative.budgets.moves_per_vm_per_day, conservative.post_copy), (3, PostCopyUse::OptIn));
        assert_eq!((conservative.mode, conservative.in_schedule), (PolicyMode::Recommend, true));
        let reactive =
            resolved(json!({"profile": "Reactive", "mode": "Automatic", "thresholds": {"settle": "1m"}})).value.policy;
        assert_eq!(reactive.thresholds.overload_window, Span::from_secs(5));
        assert_eq!(reactive.thresholds.settle, Span::from_secs(60));
        assert_eq!(reactive.thresholds.admission_window, Span::from_secs(30 * 60));
        assert_eq!((reactive.budgets.moves_per_vm_per_day, reactive.post_copy), (10, PostCopyUse::Allow));
        assert_eq!((conservative.invalid, reactive.invalid), (None, None));
    }

    #[test]
    fn contradictions_make_it_invalid_and_name_the_field() {
        let cases = [
            (json!({"nodeClasses": []}), "spec.nodeClasses"),
            // Written alone each is fine; against the profile's 75 and 90 they are not.
            (json!({"thresholds": {"idlePercent": 80}}), "spec.thresholds.idlePercent"),
            (json!({"thresholds": {"overloadPercent": 70}}), "spec.thresholds.admissionPercent"),
            (json!({"thresholds": {"overloadPercent": 101}}), "spec.thresholds.overloadPercent"),
            (json!({"thresholds": {"settle": "3 days"}}), "spec.thresholds.settle"),
            (json!({"thresholds": {"idleWindow": "9h"}}), "spec.thresholds.idleWindow"),
            (json!({"thresholds": {"admissionWindow": "0s"}}), "spec.thresholds.admissionWindow"),
            (json!({"planTTL": "1s"}), "spec.planTTL"),
            (json!({"budgets": {"movesPerVMPerDay": 12}}), "spec.budgets.movesPerVMPerDay"),
            (json!({"migration": {"mode": "PostCopy", "postCopy": "Never"}}), "spec.migration.postCopy"),
            (json!({"schedules": [{"name": "n", "cron": "x", "duration": "1h"}]}), "spec.schedules[0]"),
            (
                json!({"virtualMachines": {"selector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}}),
                "spec.virtualMachines.selector.matchExpressions[0].operator",
            ),
        ];
        for (spec, field) in cases {
            let converted = resolved(spec.clone());
            assert_eq!(converted.problems[0].field, field, "{spec}");
            assert!(converted.value.policy.invalid.is_some_and(|message| message.contains(field)), "{spec}");
        }
    }

    #[test]
    fn an_unreadable_policy_does_nothing() {
        let policy = unreadable("p", "spec: invalid type").policy;
        assert_eq!(policy.mode, PolicyMode::Off);
        assert!(policy.invalid.is_some());
    }
}
