//! Server-side apply and field ownership.

use super::{APPLY_PATCH, Step, write_steps::widget};
use serde_json::{Value, json};

fn apply(name: &'static str, path: &str, manager: &str, body: Value) -> Step {
    let sign = if path.contains('?') { '&' } else { '?' };
    Step::patch(name, format!("{path}{sign}fieldManager={manager}"), body).content_type(APPLY_PATCH)
}

pub(super) fn steps(namespace: &str) -> Vec<Step> {
    let widgets = format!("/apis/{}/v1/namespaces/{namespace}/widgets", super::GROUP);
    let mut steps = plain(&format!("{widgets}/s"));
    steps.extend(lists(&format!("{widgets}/l")));
    steps.extend(status(&widgets));
    steps.extend(refusals(&widgets));
    steps.extend(built_in(&format!("/api/v1/namespaces/{namespace}/configmaps")));
    steps
}

fn plain(s: &str) -> Vec<Step> {
    let object = |spec: Value| widget("s", spec);
    vec![
        apply("apply creates", s, "one", object(json!({"size": 1, "serial": "abc", "labels": {"a": "1", "b": "1"}}))),
        apply(
            "apply the same again",
            s,
            "one",
            object(json!({"size": 1, "serial": "abc", "labels": {"a": "1", "b": "1"}})),
        ),
        apply("apply less removes", s, "one", object(json!({"size": 1, "serial": "abc", "labels": {"a": "2"}}))),
        apply("apply what another has", s, "two", object(json!({"size": 2, "serial": "abc"}))),
        apply("apply two that another has", s, "two", object(json!({"size": 2, "labels": {"a": "3"}}))),
        apply("apply by force", &format!("{s}?force=true"), "two", object(json!({"size": 2, "serial": "abc"}))),
        apply("apply what is there shares it", s, "three", object(json!({"size": 2, "serial": "abc"}))),
        apply(
            "let go of what is shared",
            s,
            "two",
            object(json!({"size": 2, "serial": "abc", "whole": {"x": "1", "y": "1"}})),
        ),
        apply(
            "a whole map has one owner",
            s,
            "three",
            object(json!({"size": 2, "serial": "abc", "whole": {"z": "1"}})),
        ),
        Step::patch(
            "a plain patch takes over",
            format!("{s}?fieldManager=hand"),
            json!({"spec": {"size": 3, "labels": {"c": "1"}}}),
        ),
        apply("and is then in the way", s, "two", object(json!({"size": 2, "serial": "abc"}))),
        Step::patch(
            "managers can be wiped",
            format!("{s}?fieldManager=hand"),
            json!({"metadata": {"managedFields": [{}]}}),
        ),
        apply("the first apply after a wipe", s, "one", object(json!({"size": 3, "colour": "blue"}))),
        apply(
            "the first apply after a wipe, by force",
            &format!("{s}?force=true"),
            "one",
            object(json!({"size": 3, "colour": "blue"})),
        ),
        apply(
            "apply metadata",
            s,
            "meta",
            json!({
                "apiVersion": format!("{}/v1", super::GROUP), "kind": "Widget",
                "metadata": {
                    "name": "s", "labels": {"m": "1"}, "annotations": {"n": "1"},
                    "finalizers": ["conformance.miyako.dev/hold"],
                },
                "spec": {"size": 3},
            }),
        ),
        apply("apply metadata away", s, "meta", object(json!({"size": 3}))),
        apply("apply dry", &format!("{s}?dryRun=All"), "dry", object(json!({"size": 3, "notes": ["n"]}))),
    ]
}

fn lists(l: &str) -> Vec<Step> {
    let object = |spec: Value| widget("l", spec);
    vec![
        apply(
            "apply a keyed list",
            l,
            "one",
            object(json!({"size": 1, "parts": [{"name": "x", "count": 2}, {"name": "y"}], "tags": ["m", "n"]})),
        ),
        apply(
            "apply another item",
            l,
            "two",
            object(json!({"size": 1, "parts": [{"name": "z", "kind": "k"}], "tags": ["k"]})),
        ),
        apply(
            "apply into another's item",
            l,
            "two",
            object(json!({"size": 1, "parts": [{"name": "x", "kind": "k"}], "tags": ["k", "m"]})),
        ),
        apply(
            "apply against another's item",
            l,
            "two",
            object(json!({"size": 1, "parts": [{"name": "x", "count": 3}]})),
        ),
        apply(
            "apply items away",
            l,
            "one",
            object(json!({"size": 1, "parts": [{"name": "y", "count": 5}], "tags": ["n"]})),
        ),
        apply(
            "apply in another order",
            l,
            "one",
            object(json!({"size": 1, "parts": [{"name": "w"}, {"name": "x"}, {"name": "y"}]})),
        ),
        apply("apply an item twice", l, "one", object(json!({"size": 1, "parts": [{"name": "y"}, {"name": "y"}]}))),
        apply("apply an item without its key", l, "one", object(json!({"size": 1, "parts": [{"count": 1}]}))),
        apply("apply a plain list", l, "one", object(json!({"size": 1, "notes": ["a", "b"]}))),
        apply("apply a plain list of another", l, "two", object(json!({"size": 1, "notes": ["b"]}))),
        apply(
            "apply empty lists and maps",
            l,
            "one",
            object(json!({"size": 1, "notes": [], "labels": {}, "nested": {}})),
        ),
    ]
}

fn status(widgets: &str) -> Vec<Step> {
    let told = |conditions: Value| {
        let mut object = widget("s", json!({}));
        object["status"] = json!({"phase": "Fine", "conditions": conditions});
        if let Value::Object(fields) = &mut object {
            fields.shift_remove("spec");
        }
        object
    };
    let path = format!("{widgets}/s/status");
    vec![
        apply("apply status", &path, "one", told(json!([{"type": "Ready", "status": "True"}]))),
        apply("apply another's condition", &path, "two", told(json!([{"type": "Held", "status": "False"}]))),
        apply("apply against another's condition", &path, "two", told(json!([{"type": "Ready", "status": "False"}]))),
        apply("apply status of what is not there", &format!("{widgets}/none/status"), "one", {
            let mut none = told(json!([]));
            none["metadata"]["name"] = "none".into();
            none
        }),
    ]
}

fn refusals(widgets: &str) -> Vec<Step> {
    let s = format!("{widgets}/s");
    let with = |field: &str, value: Value| {
        let mut object = widget("s", json!({"size": 1}));
        object["metadata"][field] = value;
        object
    };
    vec![
        Step::patch("apply without a manager", &s, widget("s", json!({"size": 1}))).content_type(APPLY_PATCH),
        apply("apply with another name", &s, "one", with("name", json!("t"))),
        apply("apply with managedFields", &s, "one", with("managedFields", json!([{"manager": "one"}]))),
        apply("apply with an old version", &format!("{s}?force=true"), "one", with("resourceVersion", json!("1"))),
        apply("apply with a null version", &format!("{s}?force=true"), "one", with("resourceVersion", Value::Null)),
        apply("apply with a null uid", &format!("{s}?force=true"), "one", with("uid", Value::Null)),
        apply("apply with a uid what is not there", &format!("{widgets}/none"), "one", {
            let mut object = with("uid", json!("11111111-2222-3333-4444-555555555555"));
            object["metadata"]["name"] = "none".into();
            object
        }),
        apply("apply a fault", &format!("{s}?force=true"), "one", widget("s", json!({"size": 0}))),
        apply("apply an unknown field", &format!("{s}?force=true"), "one", widget("s", json!({"size": 1, "junk": 1}))),
        apply("apply a wrong type", &format!("{s}?force=true"), "one", widget("s", json!({"size": "x"}))),
    ]
}

fn built_in(config_maps: &str) -> Vec<Step> {
    let c = format!("{config_maps}/applied");
    let object =
        |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": data});
    vec![
        apply("apply a ConfigMap", &c, "one", object(json!({"a": "1", "b": "1"}))),
        apply("apply against a ConfigMap's owner", &c, "two", object(json!({"a": "2"}))),
        apply("apply a ConfigMap by force", &format!("{c}?force=true"), "two", object(json!({"a": "2"}))),
        Step::patch(
            "patch a ConfigMap strategically",
            format!("{c}?fieldManager=three"),
            json!({"data": {"b": null, "d": "4"}, "metadata": {"labels": {"l": "1"}}}),
        )
        .content_type(super::STRATEGIC_PATCH),
        apply("apply a ConfigMap away", &c, "two", object(json!({}))),
    ]
}
