//! Where a Redfish service keeps what the machine draws. Pure.

use crate::wake::WattsReading;
use serde_json::Value;

/// The resources of a chassis that may hold the figure, the newer schema first.
pub(super) const SOURCES: [&str; 2] = ["/EnvironmentMetrics", "/Power"];

/// No machine that answers draws more; what lies above is a broken sensor.
const MOST_WATTS: f64 = 100_000.0;

/// The watts of an EnvironmentMetrics or Power resource. A reading of null or zero is none: a machine whose BMC answers
/// draws something.
pub(super) fn watts(resource: &Value) -> Option<WattsReading> {
    let reading = |value: Option<&Value>, evidence: String| {
        let watts = value?.as_f64()?;
        (watts > 0.0 && watts <= MOST_WATTS).then_some(WattsReading { watts, evidence })
    };
    let metrics = reading(resource.pointer("/PowerWatts/Reading"), "EnvironmentMetrics PowerWatts.Reading".to_owned());
    metrics.or_else(|| {
        // The first is the whole chassis; further ones are parts of it, such as its processors.
        let controls = resource.get("PowerControl")?.as_array()?;
        controls.iter().enumerate().find_map(|(index, control)| {
            reading(control.get("PowerConsumedWatts"), format!("Power PowerControl[{index}].PowerConsumedWatts"))
        })
    })
}

/// The links to a system's chassis.
pub(super) fn chassis(system: &Value) -> Vec<String> {
    let links = system.pointer("/Links/Chassis").and_then(Value::as_array);
    let members = links.into_iter().flatten();
    members.filter_map(|member| super::answers::link(&serde_json::json!({ "c": member }), "/c").ok()).take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_schemas_are_read_and_broken_figures_are_none() {
        let evidence = |json| watts(&json).map(|reading| (reading.watts, reading.evidence));
        assert_eq!(
            evidence(json!({ "PowerWatts": { "Reading": 374.5 } })),
            Some((374.5, "EnvironmentMetrics PowerWatts.Reading".to_owned()))
        );
        assert_eq!(
            evidence(json!({ "PowerControl": [{ "PowerConsumedWatts": null }, { "PowerConsumedWatts": 344 }] })),
            Some((344.0, "Power PowerControl[1].PowerConsumedWatts".to_owned()))
        );
        for broken in [json!(null), json!(0), json!(-4), json!(1e9), json!("12")] {
            assert_eq!(evidence(json!({ "PowerWatts": { "Reading": broken } })), None);
        }
        assert_eq!(
            chassis(&json!({ "Links": { "Chassis": [{ "@odata.id": "/c/1" }, 7, { "@odata.id": "http://x" }] } })),
            ["/c/1"]
        );
    }
}
