//! Create, replace, patch, status, delete.

use super::{GROUP, JSON_PATCH, STRATEGIC_PATCH, Step};
use serde_json::{Value, json};

pub(super) fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

pub(super) fn steps(namespace: &str) -> Vec<Step> {
    let widgets = format!("/apis/{GROUP}/v1/namespaces/{namespace}/widgets");
    let gadgets = format!("/apis/{GROUP}/v1/namespaces/{namespace}/gadgets");
    let mut steps = creates(namespace, &widgets);
    steps.extend(replaces(&widgets));
    steps.extend(patches(&widgets));
    steps.extend(deletes(&widgets));
    steps.extend(without_status(&gadgets));
    steps
}

fn creates(namespace: &str, widgets: &str) -> Vec<Step> {
    let labelled = |labels: Value| {
        let mut object = widget("labelled", json!({"size": 1}));
        object["metadata"]["labels"] = labels;
        object
    };
    let with = |field: &str, value: &str| {
        let mut object = widget("odd", json!({"size": 1}));
        object["metadata"][field] = value.into();
        object
    };
    let mut typed = widget("typed", json!({"size": 1}));
    typed["kind"] = "Wodget".into();
    let mut versioned = widget("versioned", json!({"size": 1}));
    versioned["apiVersion"] = format!("{GROUP}/v2").into();
    let mut generated = widget("x", json!({"size": 1}));
    generated["metadata"] = json!({"generateName": "gen-"});
    let mut nameless = widget("x", json!({"size": 1}));
    nameless["metadata"] = json!({});
    let mut told =
        widget("told", json!({"size": 2, "junk": true, "parts": [{"name": "p", "junk": 1}], "free": {"a": {"b": 1}}}));
    told["status"] = json!({"phase": "Wishful"});
    told["junk"] = 1.into();
    vec![
        Step::get("get what is not there", format!("{widgets}/none")),
        Step::post(
            "create",
            format!("{widgets}?fieldManager=one"),
            widget("a", json!({"size": 7, "parts": [{"name": "p"}]})),
        ),
        Step::post("create what exists", widgets, widget("a", json!({"size": 7}))),
        Step::post("create prunes, defaults and ignores status", format!("{widgets}?fieldManager=one"), told),
        Step::post(
            "create strictly with unknown fields",
            format!("{widgets}?fieldValidation=Strict"),
            widget("strict", json!({"size": 1, "junk": true})),
        ),
        Step::post("create with a generated name", format!("{widgets}?fieldManager=one"), generated),
        Step::post("create without a name", widgets, nameless),
        Step::post("create with a bad name", widgets, widget("Bad_Name", json!({"size": 1}))),
        Step::post("create with a bad label value", widgets, labelled(json!({"ok": "not ok"}))),
        Step::post("create with a long label value", widgets, labelled(json!({"ok": "x".repeat(64)}))),
        Step::post("create with a bad label key", widgets, labelled(json!({"not ok": "x"}))),
        Step::post("create with another namespace", widgets, with("namespace", "elsewhere")),
        Step::post("create with a version", widgets, with("resourceVersion", "1")),
        Step::post("create another kind", widgets, typed),
        Step::post("create another version", widgets, versioned),
        Step::post(
            "create in a namespace that is not there",
            widgets.replace(namespace, "nowhere-at-all"),
            widget("a", json!({"size": 1})),
        ),
        Step::post("create too small", widgets, widget("bad", json!({"size": 0}))),
        Step::post("create too big", widgets, widget("bad", json!({"size": 101}))),
        Step::post("create exactly at an exclusive minimum", widgets, widget("bad", json!({"size": 1, "ratio": 0}))),
        Step::post("create outside an enum", widgets, widget("bad", json!({"size": 1, "colour": "green"}))),
        Step::post("create with a wrong type", widgets, widget("bad", json!({"size": "seven"}))),
        Step::post("create with a list for a map", widgets, widget("bad", json!({"size": 1, "labels": ["a"]}))),
        Step::post("create without a required field", widgets, widget("bad", json!({"colour": "red"}))),
        Step::post("create against a rule", widgets, widget("bad", json!({"size": 13}))),
        Step::post("create too long", widgets, widget("bad", json!({"size": 1, "serial": "abcdefghi"}))),
        Step::post("create against a pattern", widgets, widget("bad", json!({"size": 1, "serial": "A1"}))),
        Step::post(
            "create with too many items",
            widgets,
            widget("bad", json!({"size": 1, "notes": ["a", "b", "c", "d"]})),
        ),
        Step::post("create with two faults", widgets, widget("bad", json!({"size": 0, "colour": "green"}))),
        Step::post("create dry", format!("{widgets}?dryRun=All&fieldManager=one"), widget("dry", json!({"size": 1}))),
        Step::get("a dry create leaves nothing", format!("{widgets}/dry")),
    ]
}

fn replaces(widgets: &str) -> Vec<Step> {
    let a = format!("{widgets}/a");
    let full = |version: &str, spec: Value| {
        let mut object = widget("a", spec);
        object["metadata"]["resourceVersion"] = version.into();
        object
    };
    let mut other_uid = full("$resourceVersion(get)", json!({"size": 9}));
    other_uid["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555".into();
    let mut with_status = full("$resourceVersion(get)", json!({"size": 8, "parts": [{"name": "p", "count": 2}]}));
    with_status["status"] = json!({"phase": "Ignored"});
    let mut status_only =
        full("$resourceVersion(replace counts the generation and ignores status)", json!({"size": 50}));
    status_only["status"] = json!({"phase": "Told", "conditions": [{"type": "Ready", "status": "True"}]});
    status_only["metadata"]["labels"] = json!({"ignored": "yes"});
    vec![
        Step::get("get", &a),
        Step::put("replace without a version", &a, widget("a", json!({"size": 8}))),
        Step::put("replace with an old version", &a, full("1", json!({"size": 8}))),
        Step::put("replace with another name", &a, widget("b", json!({"size": 8}))),
        Step::put("replace with another uid", &a, other_uid),
        Step::put("replace what is not there", format!("{widgets}/none"), {
            let mut none = full("1", json!({"size": 8}));
            none["metadata"]["name"] = "none".into();
            none
        }),
        Step::put("replace counts the generation and ignores status", format!("{a}?fieldManager=two"), with_status),
        Step::put("replace status and nothing else", format!("{a}/status?fieldManager=three"), status_only),
        Step::get("get status", format!("{a}/status")),
        Step::put(
            "replace against a transition rule, first half",
            format!("{a}?fieldManager=two"),
            full("$resourceVersion(get status)", json!({"size": 8, "serial": "abc"})),
        ),
        Step::put(
            "replace against a transition rule",
            format!("{a}?fieldManager=two"),
            full(
                "$resourceVersion(replace against a transition rule, first half)",
                json!({"size": 8, "serial": "xyz"}),
            ),
        ),
    ]
}

fn patches(widgets: &str) -> Vec<Step> {
    let a = format!("{widgets}/a?fieldManager=four");
    vec![
        Step::patch("merge", &a, json!({"metadata": {"labels": {"x": "1", "y": "2"}}, "spec": {"size": 9}})),
        Step::patch("merge nothing", &a, json!({})),
        Step::patch("merge removes", &a, json!({"metadata": {"labels": {"y": null}}, "spec": {"colour": null}})),
        Step::patch(
            "merge with an old version",
            &a,
            json!({"metadata": {"resourceVersion": "1"}, "spec": {"size": 10}}),
        ),
        Step::patch("merge with another uid", &a, json!({"metadata": {"uid": "11111111-2222-3333-4444-555555555555"}})),
        Step::patch("merge with another name", &a, json!({"metadata": {"name": "b"}})),
        Step::patch("merge a fault", &a, json!({"spec": {"size": 0}})),
        Step::patch("merge what is not there", format!("{widgets}/none"), json!({})),
        Step::patch("merge by force", format!("{a}&force=true"), json!({})),
        Step::patch("merge dry", format!("{a}&dryRun=All"), json!({"spec": {"size": 11}})),
        Step::patch(
            "merge status",
            format!("{widgets}/a/status?fieldManager=four"),
            json!({"status": {"phase": "Merged"}, "spec": {"size": 12}}),
        ),
        Step::patch(
            "patch by JSON",
            &a,
            json!([
                {"op": "test", "path": "/spec/size", "value": 9},
                {"op": "replace", "path": "/spec/size", "value": 10},
                {"op": "add", "path": "/spec/tags", "value": ["t"]},
                {"op": "add", "path": "/spec/tags/-", "value": "u"},
            ]),
        )
        .content_type(JSON_PATCH),
        Step::patch("patch by JSON, test fails", &a, json!([{"op": "test", "path": "/spec/size", "value": 1}]))
            .content_type(JSON_PATCH),
        Step::patch("patch by JSON, no such path", &a, json!([{"op": "remove", "path": "/spec/nothing"}]))
            .content_type(JSON_PATCH),
        Step::patch("patch strategically what has no strategy", &a, json!({})).content_type(STRATEGIC_PATCH),
        Step::patch("patch by something unknown", &a, json!({})).content_type("application/x-unknown"),
    ]
}

fn deletes(widgets: &str) -> Vec<Step> {
    let held = format!("{widgets}/held");
    let mut object = widget("held", json!({"size": 1}));
    object["metadata"]["finalizers"] = json!(["conformance.miyako.dev/hold"]);
    let conditions = |field: &str, value: &str| json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {field: value}});
    vec![
        Step::delete("delete what is not there", format!("{widgets}/none")),
        Step::post("create with a finalizer", format!("{widgets}?fieldManager=one"), object),
        Step::delete("delete with another uid", &held).body(conditions("uid", "11111111-2222-3333-4444-555555555555")),
        Step::delete("delete with an old version", &held).body(conditions("resourceVersion", "1")),
        Step::delete("delete dry", format!("{held}?dryRun=All")),
        Step::delete("delete what a finalizer holds", &held).body(conditions("uid", "$uid(create with a finalizer)")),
        Step::delete("delete it again", &held),
        Step::patch(
            "a finalizer may not join",
            format!("{held}?fieldManager=one"),
            json!({"metadata": {"finalizers": ["conformance.miyako.dev/hold", "conformance.miyako.dev/more"]}}),
        ),
        Step::patch("a deleted object may change", format!("{held}?fieldManager=one"), json!({"spec": {"size": 2}})),
        Step::patch(
            "its deletion can't be taken back",
            format!("{held}?fieldManager=one"),
            json!({"metadata": {"deletionTimestamp": null}}),
        ),
        Step::patch(
            "the last finalizer goes",
            format!("{held}?fieldManager=one"),
            json!({"metadata": {"finalizers": null}}),
        ),
        Step::get("and the object with it", &held),
        Step::delete("delete", format!("{widgets}/told")),
        Step::get("deleted is gone", format!("{widgets}/told")),
    ]
}

fn without_status(gadgets: &str) -> Vec<Step> {
    let gadget = |spec: Value, status: Value| {
        json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "Gadget", "metadata": {"name": "g"}, "spec": spec, "status": status,
        })
    };
    let g = format!("{gadgets}/g");
    vec![
        Step::post(
            "create keeps a status that is no subresource",
            format!("{gadgets}?fieldManager=one"),
            gadget(json!({"a": 1}), json!({"phase": "Running"})),
        ),
        Step::patch(
            "its change counts the generation",
            format!("{g}?fieldManager=two"),
            json!({"status": {"phase": "Done"}}),
        ),
        Step::patch("a label does not", format!("{g}?fieldManager=two"), json!({"metadata": {"labels": {"l": "1"}}})),
        Step::patch("there is no status to patch", format!("{g}/status"), json!({"status": {}})),
        Step::get("nor to get", format!("{g}/status")),
    ]
}
