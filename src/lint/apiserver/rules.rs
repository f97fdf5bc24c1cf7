//! The CEL rules of a schema, evaluated by `kube-cel`.

use super::FieldError;
use kube_cel::Validator;
use serde_json::Value;

/// Whether a schema has any rule.
pub(super) fn any(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => fields.contains_key("x-kubernetes-validations") || fields.values().any(any),
        Value::Array(items) => items.iter().any(any),
        _ => false,
    }
}

pub(super) fn check(
    validator: &Validator,
    object: &Value,
    old: Option<&Value>,
    schema: &Value,
    errors: &mut Vec<FieldError>,
) {
    let Err(failures) = validator.validate(schema, object, old) else { return };
    for failure in failures {
        let value = at(object, &failure.field_path);
        errors.push(match value {
            Some(value) if !value.is_object() && !value.is_array() => {
                FieldError::invalid(&failure.field_path, value, &failure.message)
            }
            _ => FieldError::invalid_without_value(&failure.field_path, &failure.message),
        });
    }
}

/// The value of a path such as `spec.wake[0].driver`. None of our rules is below a map whose keys could hold dots.
fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split(['.', '[']).filter(|part| !part.is_empty()).try_fold(object, |value, part| {
        match part.strip_suffix(']') {
            Some(index) => value.get(index.parse::<usize>().ok()?),
            None => value.get(part),
        }
    })
}
