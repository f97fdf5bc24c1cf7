//! People's two switches, in the ConfigMap `miyako-switches`.

use super::{Converted, Problems};
use k8s_openapi::api::core::v1::ConfigMap;
use miyako_api::names::ours;
use miyako_core::model::Switches;

/// The key that pauses: no new move, no suspend. Its value says who and why.
pub const PAUSED: &str = "paused";
/// The key that holds everything awake. Its value says who and why.
pub const HELD: &str = "held";

/// The reason of the hold before an uninstall. It ends with the object that it was written into, because that goes with
/// the chart.
pub const UNINSTALL: &str = "Miyako is being uninstalled, and wakes all nodes";

/// As much of a reason as is shown.
const SHOWN: usize = 512;

/// Converts the switches. What can't be understood was still meant to stop us, so it pauses.
#[must_use]
pub fn convert(map: &ConfigMap) -> Converted<Switches> {
    let mut problems = Problems::default();
    let shown = |text: &String| match text.trim() {
        "" => None,
        text => Some(text.chars().take(SHOWN).collect::<String>()),
    };
    let mut switches = Switches::default();
    for (key, text) in map.data.iter().flatten() {
        match key.as_str() {
            PAUSED => switches.paused = shown(text).or(switches.paused),
            HELD => switches.held = shown(text),
            other => odd(&mut switches, &format!("data.{other}"), &mut problems),
        }
    }
    for key in map.binary_data.iter().flat_map(|data| data.keys()) {
        odd(&mut switches, &format!("binaryData.{key}"), &mut problems);
    }
    Converted::new(switches, problems)
}

/// What switches an unreadable ConfigMap stands for.
#[must_use]
pub fn unreadable(error: &str) -> Switches {
    Switches { paused: Some(format!("the switches can't be read: {error}")), held: None, of: None }
}

/// `miyako resume` wrote this object: it is off because somebody said so, and not because it is new.
#[must_use]
pub fn is_resumed(map: &ConfigMap) -> bool {
    map.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(ours::RESUMED))
}

fn odd(switches: &mut Switches, field: &str, problems: &mut Problems) {
    problems.note(field, format!("is no switch; write {PAUSED} or {HELD}. Paused until it is gone"));
    switches.paused.get_or_insert_with(|| format!("{field} of the switches is not understood"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn switches(map: Value) -> Switches {
        convert(&from_value(map).unwrap()).value
    }

    #[test]
    fn a_switch_is_on_while_it_has_a_reason() {
        assert_eq!(switches(json!({})), Switches::default());
        assert_eq!(
            switches(json!({"data": {"paused": " ", "held": "ana: upgrade"}})).held.as_deref(),
            Some("ana: upgrade")
        );
        assert_eq!(switches(json!({"data": {"paused": "ben: audit"}})).paused.as_deref(), Some("ben: audit"));
    }

    #[test]
    fn what_is_not_understood_pauses() {
        for map in [json!({"data": {"pause": "typo"}}), json!({"binaryData": {"paused": "AA=="}})] {
            assert!(switches(map).paused.is_some());
        }
        assert_eq!(switches(json!({"data": {"x": "", "paused": "why"}})).paused.as_deref(), Some("why"));
    }
}
