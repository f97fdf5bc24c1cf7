//! The safety rules, judged by what really happened in a run: by somebody who asks neither the operator nor its check.

use super::energy::overlap;
use super::results::{MigrationRow, SecondRow, SleepRow};
use super::scenario::Scenario;
use std::collections::{BTreeMap, BTreeSet};

/// KubeVirt runs five migrations at once by default, of which the operator leaves two to others.
const AT_ONCE: u64 = 3;
/// The Reactive profile's moves of one VM within a day.
const MOVES: u64 = 10;
/// KubeVirt's times are whole seconds.
const INACCURACY: f64 = 1.0;

/// Every rule that was broken, in words; each once.
#[must_use]
pub fn broken_rules(
    scenario: &Scenario,
    migrations: &[MigrationRow],
    sleeps: &[SleepRow],
    seconds: &[SecondRow],
) -> Vec<String> {
    let mut broken = BTreeSet::new();
    crowded(seconds, &mut broken);
    sleepers_work(migrations, sleeps, seconds, &mut broken);
    let budgets = &scenario.policy["budgets"];
    let most = budgets["movesPerVMPerDay"].as_u64().unwrap_or(MOVES);
    let per_node = budgets["concurrentPerSharedNode"].as_u64().unwrap_or(1);
    let parallel = scenario.kubevirt["parallelMigrationsPerCluster"].as_u64();
    let at_once = parallel.map_or(AT_ONCE, |parallel| parallel.saturating_sub(2).max(1));
    let mut moves: BTreeMap<&str, (u64, Option<f64>)> = BTreeMap::new();
    for (index, row) in migrations.iter().enumerate() {
        let begun = begin(row);
        let (count, ended) = moves.entry(&row.vm).or_default();
        *count += 1;
        if *count > most {
            broken.insert(format!("budget: {} moved more than {most} times", row.vm));
        }
        if let Some(early) = ended.map(|ended| begun - ended).filter(|past| past + INACCURACY < scenario.settle()) {
            broken.insert(format!("settle: {} moved again after {early:.1} s", row.vm));
        }
        *ended = row.ended.or(*ended);
        if is_shared(&row.source) == is_shared(&row.target) {
            broken.insert(format!("role: {} went from {} to {}", row.vm, row.source, row.target));
        }
        if row.outcome == "lost: CancelledTooLate" {
            broken.insert(format!("post-copy: the migration of {} was cancelled after its switch", row.vm));
        }
        // Those that were under way when this one began.
        let others: Vec<&MigrationRow> =
            migrations[..index].iter().filter(|other| other.ended.is_none_or(|ended| ended > begun)).collect();
        if others.len() as u64 >= at_once {
            broken.insert(format!("budget: {} migrations at once at {begun:.0} s", others.len() + 1));
        }
        for node in [&row.source, &row.target].into_iter().filter(|node| is_shared(node)) {
            let busy = others.iter().filter(|other| [&other.source, &other.target].contains(&node)).count() as u64;
            if busy >= per_node {
                broken.insert(format!("budget: {} migrations at once from and to {node} at {begun:.0} s", busy + 1));
            }
        }
    }
    broken.into_iter().collect()
}

/// A dedicated node has one core: room for one VM.
fn crowded(seconds: &[SecondRow], broken: &mut BTreeSet<String>) {
    for row in seconds {
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for vm in row.vms.values().filter(|vm| vm.node.starts_with("dedicated")) {
            *counts.entry(&vm.node).or_default() += 1;
        }
        let crowded = counts.into_iter().filter(|(_, count)| *count > 1);
        broken.extend(crowded.map(|(node, count)| format!("dedicated: {count} VMs on {node}")));
    }
}

/// Nothing runs on a node that sleeps, and nothing is moved to or from it.
fn sleepers_work(
    migrations: &[MigrationRow],
    sleeps: &[SleepRow],
    seconds: &[SecondRow],
    broken: &mut BTreeSet<String>,
) {
    for sleep in sleeps {
        let (node, span) = (&sleep.node, (sleep.asleep, sleep.awake.unwrap_or(f64::INFINITY)));
        if sleep.programs > 0 || sleep.used > 0.0 {
            broken.insert(format!(
                "asleep: {} processes of VMs were on {node} while it slept, and used {:.3} s of CPU time",
                sleep.programs, sleep.used
            ));
        }
        for (second, row) in seconds.iter().enumerate() {
            // Whole seconds only: what it did before it fell asleep, or after, is its own business.
            let whole = overlap(span, (second as f64, second as f64 + 1.0)) >= 1.0;
            let guest = row.vms.iter().find(|(_, vm)| vm.node == *node).map(|(name, _)| name);
            if whole && (guest.is_some() || row.nodes.get(node).is_some_and(|used| *used > 0.0)) {
                let guest = guest.map_or("no VM", String::as_str);
                broken.insert(format!("asleep: {node} worked while it slept, with {guest} on it"));
            }
        }
        for row in migrations.iter().filter(|row| [&row.source, &row.target].contains(&node)) {
            if overlap(span, (row.handed_off, row.ended.unwrap_or(f64::INFINITY))) > 0.0 {
                let MigrationRow { vm, source, target, .. } = row;
                broken.insert(format!("asleep: {vm} went from {source} to {target} while {node} slept"));
            }
        }
    }
}

fn begin(row: &MigrationRow) -> f64 {
    row.requested.unwrap_or(row.handed_off)
}

fn is_shared(node: &str) -> bool {
    node.starts_with("shared")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::results::VmRow;

    fn scenario() -> Scenario {
        serde_yaml::from_str(
            "{name: a, about: b, seconds: 60, core: 0.5, fullLoad: 0.9, linkMbit: 100, nodes: {shared: 1, dedicated: 2}, \
             vms: [], policy: {budgets: {movesPerVMPerDay: 2}}}",
        )
        .unwrap()
    }

    fn row(vm: &str, source: &str, target: &str, from: f64, to: f64) -> MigrationRow {
        MigrationRow {
            vm: vm.into(),
            source: source.into(),
            target: target.into(),
            outcome: "PostCopy".into(),
            requested: Some(from),
            ended: Some(to),
            ..MigrationRow::default()
        }
    }

    #[test]
    fn a_good_run_breaks_none() {
        let rows = [row("a", "shared-0", "dedicated-0", 0.0, 5.0), row("a", "dedicated-0", "shared-0", 25.5, 30.0)];
        assert_eq!(broken_rules(&scenario(), &rows, &[], &[]), Vec::<String>::new());
    }

    #[test]
    fn each_broken_rule_is_named() {
        let rows = [
            row("a", "shared-0", "dedicated-0", 0.0, 5.0),
            row("b", "shared-0", "dedicated-1", 4.0, 9.0),
            row("a", "dedicated-0", "dedicated-1", 10.0, 15.0),
            row("a", "dedicated-1", "shared-0", 40.0, 45.0),
            MigrationRow {
                outcome: "lost: CancelledTooLate".into(),
                ..row("b", "dedicated-1", "shared-0", 60.0, 61.0)
            },
        ];
        let vm = || VmRow { node: "dedicated-0".into(), achieved: 0.0, target: 0.0 };
        let second =
            SecondRow { nodes: BTreeMap::new(), vms: BTreeMap::from([("a".into(), vm()), ("b".into(), vm())]) };
        assert_eq!(
            broken_rules(&scenario(), &rows, &[], &[second]),
            [
                "budget: 2 migrations at once from and to shared-0 at 4 s",
                "budget: a moved more than 2 times",
                "dedicated: 2 VMs on dedicated-0",
                "post-copy: the migration of b was cancelled after its switch",
                "role: a went from dedicated-0 to dedicated-1",
                "settle: a moved again after 5.0 s",
            ]
        );
    }

    #[test]
    fn a_sleeper_that_works_is_named() {
        let sleep = SleepRow { node: "dedicated-0".into(), asleep: 1.5, awake: Some(4.0), ..SleepRow::default() };
        let second = |used| {
            let vm = VmRow { node: "shared-0".into(), achieved: 0.0, target: 0.0 };
            SecondRow { nodes: BTreeMap::from([("dedicated-0".into(), used)]), vms: BTreeMap::from([("a".into(), vm)]) }
        };
        let broken = |rows: &[MigrationRow], sleep: &SleepRow, used: [f64; 5]| {
            broken_rules(&scenario(), rows, std::slice::from_ref(sleep), &used.map(second))
        };
        let before = [row("a", "dedicated-0", "shared-0", 0.0, 1.2)];
        assert_eq!(broken(&before, &sleep, [0.3, 0.1, 0.0, 0.0, 0.2]), Vec::<String>::new(), "before and after");
        let worked = "asleep: dedicated-0 worked while it slept, with no VM on it";
        assert_eq!(broken(&[], &sleep, [0.0, 0.0, 0.0, 0.1, 0.0]), [worked]);
        let late = MigrationRow { handed_off: 0.0, ..row("a", "dedicated-0", "shared-0", 0.0, 1.7) };
        assert_eq!(
            broken(&[late], &sleep, [0.0; 5]),
            ["asleep: a went from dedicated-0 to shared-0 while dedicated-0 slept"]
        );
        let busy = SleepRow { programs: 2, used: 0.25, ..sleep };
        assert_eq!(
            broken(&[], &busy, [0.0; 5]),
            ["asleep: 2 processes of VMs were on dedicated-0 while it slept, and used 0.250 s of CPU time"]
        );
    }
}
