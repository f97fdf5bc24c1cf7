//! The JSON merge patch (RFC 7386) between two values.

use serde_json::{Map, Value};

/// What turns `before` into `after`, neither of which holds a null. What is equal is left out, what is gone becomes
/// a null.
pub(super) fn merge_patch(before: &Value, after: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (before, after) else { return after.clone() };
    let mut patch = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        match old.get(key) {
            Some(same) if same == value => {}
            Some(other) => {
                patch.insert(key.clone(), merge_patch(other, value));
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use super::merge_patch;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// RFC 7386 §2, word for word.
    fn apply(target: &Value, patch: &Value) -> Value {
        let Value::Object(patch) = patch else { return patch.clone() };
        let mut target = target.as_object().cloned().unwrap_or_default();
        for (key, value) in patch {
            if value.is_null() {
                target.remove(key);
            } else {
                let merged = apply(target.get(key).unwrap_or(&Value::Null), value);
                target.insert(key.clone(), merged);
            }
        }
        Value::Object(target)
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<bool>().prop_map(Value::from), any::<i8>().prop_map(Value::from)];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::btree_map("[a-c]", inner.clone(), 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
                prop::collection::vec(inner, 0..3).prop_map(Value::from),
            ]
        })
    }

    #[test]
    fn what_is_gone_becomes_a_null() {
        let (before, after) = (json!({"a": 1, "b": {"c": 2, "d": 3}}), json!({"b": {"c": 2}, "e": 4}));
        assert_eq!(merge_patch(&before, &after), json!({"a": null, "b": {"d": null}, "e": 4}));
        assert_eq!(merge_patch(&Value::Null, &after), after);
    }

    proptest! {
        #[test]
        fn the_patch_leads_from_before_to_after(before in values(), after in values()) {
            prop_assert_eq!(apply(&before, &merge_patch(&before, &after)), after);
        }
    }
}
