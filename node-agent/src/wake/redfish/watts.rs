//! Where a Redfish service keeps what the machine draws. Pure.

use crate::wake::{DriverError, WattsReading, excerpt};
use serde_json::Value;

/// The resources of a chassis that may hold the figure, the newer schema first.
pub(super) const SOURCES: [&str; 2] = ["/EnvironmentMetrics", "/Power"];

/// No machine that answers draws more; what lies above is a broken sensor.
const MOST_WATTS: f64 = 100_000.0;

/// Of so many controls one is looked for that tells something.
const MOST_CONTROLS: usize = 64;

/// The watts of an EnvironmentMetrics or Power resource. A reading of null or zero is none: a machine whose BMC answers
/// draws something.
///
/// # Errors
///
/// Nothing but a figure that no machine draws.
pub(super) fn watts(resource: &Value) -> Result<Option<WattsReading>, DriverError> {
    let mut nonsense = None;
    let mut reading = |value: Option<&Value>, evidence: String| {
        let value = value.filter(|value| !value.is_null())?;
        match value.as_f64() {
            Some(0.0) => None,
            Some(watts) if watts > 0.0 && watts <= MOST_WATTS => Some(WattsReading { watts, evidence }),
            _ => {
                let said = excerpt(&value.to_string(), 40);
                nonsense
                    .get_or_insert(format!("{evidence} is {said}, which is no power in watts from 1 to {MOST_WATTS}"));
                None
            }
        }
    };
    let metrics = reading(resource.pointer("/PowerWatts/Reading"), "EnvironmentMetrics PowerWatts.Reading".to_owned());
    let found = metrics.or_else(|| {
        // The first is the whole chassis; further ones are parts of it, such as its processors.
        let controls = resource.get("PowerControl")?.as_array()?;
        controls.iter().take(MOST_CONTROLS).enumerate().find_map(|(index, control)| {
            reading(control.get("PowerConsumedWatts"), format!("Power PowerControl[{index}].PowerConsumedWatts"))
        })
    });
    match (found, nonsense) {
        (None, Some(nonsense)) => Err(DriverError::Garbled(nonsense)),
        (found, _) => Ok(found),
    }
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
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn both_schemas_are_read() {
        let evidence = |json| watts(&json).map(|read| read.map(|reading| (reading.watts, reading.evidence)));
        assert_eq!(
            evidence(json!({ "PowerWatts": { "Reading": 374.5 } })),
            Ok(Some((374.5, "EnvironmentMetrics PowerWatts.Reading".to_owned())))
        );
        assert_eq!(
            evidence(json!({ "PowerControl": [{ "PowerConsumedWatts": null }, { "PowerConsumedWatts": 344 }] })),
            Ok(Some((344.0, "Power PowerControl[1].PowerConsumedWatts".to_owned())))
        );
        assert_eq!(
            chassis(&json!({ "Links": { "Chassis": [{ "@odata.id": "/c/1" }, 7, { "@odata.id": "http://x" }] } })),
            ["/c/1"]
        );
    }

    #[test]
    fn a_missing_figure_is_none_and_one_that_cannot_be_is_named() {
        for none in [json!(null), json!(0), json!(0.0)] {
            assert_eq!(watts(&json!({ "PowerWatts": { "Reading": none } })), Ok(None));
        }
        for broken in [json!(-4), json!(1e9), json!("12"), json!("NaN"), json!([3]), json!(true)] {
            let error = watts(&json!({ "PowerWatts": { "Reading": broken } })).unwrap_err().to_string();
            assert!(error.contains("EnvironmentMetrics PowerWatts.Reading is "), "{error}");
        }
        // What makes sense elsewhere in the same resource counts.
        let mixed = json!({ "PowerControl": [{ "PowerConsumedWatts": -1 }, { "PowerConsumedWatts": 200 }] });
        assert_eq!(watts(&mixed).unwrap().unwrap().watts, 200.0);
    }

    fn any_figure() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            prop::collection::vec(any::<bool>().prop_map(Value::from), 0..3).prop_map(Value::from),
        ]
    }

    proptest! {
        #[test]
        fn whatever_stands_there_is_watts_or_none_or_an_error(
            reading in any_figure(),
            controls in prop::collection::vec(any_figure(), 0..5),
            bare in any_figure(),
        ) {
            let controls: Vec<_> = controls.into_iter().map(|watts| json!({ "PowerConsumedWatts": watts })).collect();
            for resource in [
                json!({ "PowerWatts": { "Reading": reading }, "PowerControl": controls }),
                json!({ "PowerWatts": bare, "PowerControl": bare }),
                bare,
            ] {
                let _ = chassis(&resource);
                if let Ok(Some(found)) = watts(&resource) {
                    prop_assert!(found.watts > 0.0 && found.watts <= MOST_WATTS);
                }
            }
        }
    }
}
