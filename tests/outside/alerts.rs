//! The alert rules that the chart brings, judged by Prometheus' own `promtool` (Debian's package `prometheus`;
//! `e2e/tools/apt` installs it), and held to what the operator really measures.

use miyako::controller::Metrics;
use miyako_core::plan::AwakeBecause;
use std::path::PathBuf;
use std::process::Command;

const RULES: &str = "charts/miyako/alerts/rules.yaml";

fn promtool(arguments: &[&str]) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("promtool").args(arguments).current_dir(root).output();
    let output = output.expect("promtool is installed: e2e/tools/apt does it");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_rules_are_rules() {
    promtool(&["check", "rules", RULES]);
}

#[test]
fn alerts_fire_when_they_should_and_not_before() {
    promtool(&["test", "rules", "tests/alerts/sleep.yaml"]);
}

#[test]
fn what_the_rules_ask_for_is_measured() {
    let metrics = Metrics::new().expect("metrics register");
    let by_people = AwakeBecause::TestedByPeople { tested: None };
    let failed = AwakeBecause::FailedToWake { at: Default::default(), until: Default::default() };
    let after = AwakeBecause::TestedAfter { other: "a".into() };
    let rules = std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(RULES)).expect("the rules");
    for because in [by_people, failed, after] {
        metrics.awake.with_label_values(&[because.name()]).set(1);
        assert!(rules.contains(because.name()), "no rule speaks of {}", because.name());
    }
    metrics.stuck.with_label_values(&["a", "BudgetSpent"]).set(1);
    for kind in miyako_core::model::HoldKind::ALL {
        metrics.overdue.with_label_values(&[kind.overdue_name()]).set(1);
    }
    let text = metrics.text();
    let words = rules.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let asked: Vec<_> = words.filter(|word| word.starts_with("miyako_")).collect();
    assert!(asked.len() >= 3, "{asked:?}");
    for name in asked {
        assert!(text.lines().any(|line| line.starts_with(name)), "nobody measures {name}");
    }
}
