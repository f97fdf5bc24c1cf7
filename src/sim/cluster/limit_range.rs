//! The API server's LimitRange admission, as far as it refuses: a pod, or one of its containers, that asks for too much
//! or too little. (It gives no defaults.)

use crate::{
    observe::convert::quantity::thousandths,
    sim::apiserver::{Admission, ApiError, Operation, Review},
};
use serde_json::Value;

/// Refuses pods that their namespace's LimitRanges do not allow.
#[derive(Debug, Default)]
pub struct LimitRangeAdmission;

/// What containers ask for of a resource, in thousandths; none if none of them names it.
fn asked(containers: &[&Value], side: &str, name: &str) -> Option<u128> {
    let amount = |container: &&Value| {
        let amount = container.pointer(&format!("/resources/{side}"))?.get(name)?.as_str()?;
        thousandths(amount).ok()
    };
    let amounts: Vec<u128> = containers.iter().filter_map(amount).collect();
    (!amounts.is_empty()).then(|| amounts.iter().sum())
}

/// What is wrong with these containers together, in the API server's words.
fn fault(kind: &str, limit: &Value, containers: &[&Value]) -> Option<String> {
    let bounds = |which: &str| limit.get(which).and_then(Value::as_object).cloned().unwrap_or_default();
    let whole = |amount: u128| amount.div_ceil(1000).to_string();
    for (name, bound) in bounds("max") {
        let (text, Some(most)) = (bound.as_str().unwrap_or_default(), amount(&bound)) else { continue };
        let head = format!("maximum {name} usage per {kind} is {text}");
        match asked(containers, "limits", &name) {
            None => return Some(format!("{head}.  No limit is specified")),
            Some(limit) if limit > most => return Some(format!("{head}, but limit is {}", whole(limit))),
            Some(_) => {}
        }
        if let Some(request) = asked(containers, "requests", &name).filter(|request| *request > most) {
            return Some(format!("{head}, but request is {}", whole(request)));
        }
    }
    for (name, bound) in bounds("min") {
        let (text, Some(least)) = (bound.as_str().unwrap_or_default(), amount(&bound)) else { continue };
        let head = format!("minimum {name} usage per {kind} is {text}");
        match asked(containers, "requests", &name) {
            None => return Some(format!("{head}.  No request is specified")),
            Some(request) if request < least => return Some(format!("{head}, but request is {}", whole(request))),
            Some(_) => {}
        }
    }
    None
}

fn amount(quantity: &Value) -> Option<u128> {
    thousandths(quantity.as_str()?).ok()
}

impl Admission for LimitRangeAdmission {
    fn handles(&self, review: &Review<'_>) -> bool {
        review.operation == Operation::Create && review.resource.plural == "pods" && review.subresource.is_empty()
    }

    fn validate(&self, review: &Review<'_>, object: Option<&Value>) -> Result<(), ApiError> {
        let Some(pod) = object else { return Ok(()) };
        let containers: Vec<&Value> =
            pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten().collect();
        for range in review.cluster.list("", "limitranges", review.namespace) {
            let limits = range.pointer("/spec/limits").and_then(Value::as_array).into_iter().flatten();
            for limit in limits {
                let fault = match limit["type"].as_str() {
                    Some("Pod") => fault("Pod", limit, &containers),
                    Some("Container") => containers.iter().find_map(|one| fault("Container", limit, &[*one])),
                    _ => None,
                };
                if let Some(fault) = fault {
                    return Err(ApiError::forbidden(review.resource, review.name, fault));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn words_are_the_api_servers() {
        let compute = json!({"resources": {"requests": {"memory": "780Mi"}}});
        let log = json!({"resources": {"requests": {"memory": "35M"}, "limits": {"memory": "60M"}}});
        let limit = json!({"max": {"memory": "256Mi"}});
        let told = fault("Pod", &limit, &[&compute, &log]).unwrap();
        assert_eq!(told, "maximum memory usage per Pod is 256Mi, but request is 852889280");
        let told = fault("Container", &limit, &[&compute]).unwrap();
        assert_eq!(told, "maximum memory usage per Container is 256Mi.  No limit is specified");
        let told = fault("Pod", &json!({"min": {"memory": "1Gi"}}), &[&compute]).unwrap();
        assert_eq!(told, "minimum memory usage per Pod is 1Gi, but request is 817889280");
        assert_eq!(fault("Pod", &json!({"max": {"memory": "1Gi"}}), &[&compute, &log]), None);
    }
}
