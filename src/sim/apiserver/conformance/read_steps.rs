//! Lists, selectors, pages and watches.

use super::{Step, write_steps::widget};
use serde_json::json;

const METADATA_ONE: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

pub(super) fn steps(namespace: &str) -> Vec<Step> {
    let widgets = format!("/apis/{}/v1/namespaces/{namespace}/widgets", super::GROUP);
    let mut steps =
        vec![Step::delete("clear the field", &widgets).body(json!({"kind": "DeleteOptions", "apiVersion": "v1"}))];
    for (name, made, colour) in [("n1", "make n1", "red"), ("n2", "make n2", "blue"), ("n3", "make n3", "red")] {
        let mut object = widget(name, json!({"size": 1, "colour": colour}));
        object["metadata"]["labels"] = json!({"colour": colour, name: "yes"});
        steps.push(Step::post(made, format!("{widgets}?fieldManager=one"), object));
    }
    steps.extend(lists(&widgets));
    steps.extend(unknown(namespace));
    steps.extend(watches(&widgets));
    steps
}

fn lists(widgets: &str) -> Vec<Step> {
    let by_label = |selector: &str| format!("{widgets}?labelSelector={selector}");
    vec![
        Step::get("list", by_label("colour")),
        Step::get("list from the cache", format!("{widgets}?resourceVersion=0&labelSelector=colour")),
        Step::get("list by equality", by_label("colour=red")),
        Step::get("list by inequality", by_label("colour!=red,colour")),
        Step::get("list by a set", by_label("colour in (red,green),n1")),
        Step::get("list by absence", by_label("colour,!n1")),
        Step::get("list by not in", by_label("colour notin (blue),n3==yes")),
        Step::get("list by nonsense", by_label("colour in red")),
        Step::get("list by a bad label value", by_label("colour=not ok")),
        Step::get("list by name", format!("{widgets}?fieldSelector=metadata.name=n2")),
        Step::get("list by another name", format!("{widgets}?fieldSelector=metadata.name!=n2&labelSelector=colour")),
        Step::get("list by an unknown field", format!("{widgets}?fieldSelector=spec.size=1")),
        Step::get("list a page", format!("{widgets}?limit=2&labelSelector=colour")),
        Step::get(
            "list the next page",
            format!("{widgets}?limit=2&labelSelector=colour&continue=$continue(list a page)"),
        ),
        Step::get("list with a bad token", format!("{widgets}?limit=2&continue=!!!")),
        Step::get("list with a bad version", format!("{widgets}?resourceVersion=x")),
        Step::get("list metadata", by_label("n1")).accept(METADATA_LIST),
        Step::get("get metadata", format!("{widgets}/n1")).accept(METADATA_ONE),
        Step::get("list a match without a version", format!("{widgets}?resourceVersionMatch=Exact")),
    ]
}

/// Paths that lead nowhere: some are refused by a Status, others in plain text.
fn unknown(namespace: &str) -> Vec<Step> {
    let group = super::GROUP;
    vec![
        Step::get("list a kind of no group", "/apis/nobody.miyako.dev/v1/things"),
        Step::get("list a kind of no group as metadata", "/apis/nobody.miyako.dev/v1/things").accept(METADATA_LIST),
        Step::get("get of a kind of no group", "/apis/nobody.miyako.dev/v1/namespaces/default/things/one"),
        Step::get("watch a kind of no group", "/apis/nobody.miyako.dev/v1/things?watch=true&timeoutSeconds=2"),
        Step::post("make one of no group", "/apis/nobody.miyako.dev/v1/things", json!({"metadata": {"name": "a"}})),
        Step::get("discover no group", "/apis/nobody.miyako.dev"),
        Step::get("discover no group's version", "/apis/nobody.miyako.dev/v1"),
        Step::get("list an unknown kind of a CRD's group", format!("/apis/{group}/v1/things")),
        Step::get("list a CRD's unknown version", format!("/apis/{group}/v9/widgets")),
        Step::get("list an unknown kind of the core group", "/api/v1/things"),
        Step::get("list an unknown kind of a built-in group", format!("/apis/apps/v1/namespaces/{namespace}/things")),
        Step::get("list an unknown version of the core group", "/api/v9/pods"),
        Step::get("list an unknown version of a built-in group", "/apis/apps/v9/deployments"),
        Step::get("no path at all", "/nothing/of/the/sort"),
    ]
}

fn watches(widgets: &str) -> Vec<Step> {
    let n1 = format!("{widgets}/n1?fieldManager=one");
    let from = "resourceVersion=$resourceVersion(mark)";
    let watch = |query: &str| format!("{widgets}?watch=true&timeoutSeconds=2&{query}");
    vec![
        Step::get("mark", format!("{widgets}?limit=500")),
        Step::patch("change n1", &n1, json!({"spec": {"size": 2}})),
        Step::patch("change nothing of n1", &n1, json!({"spec": {"size": 2}})),
        Step::patch("n1 turns blue", &n1, json!({"metadata": {"labels": {"colour": "blue"}}})),
        Step::patch("n1 turns red", &n1, json!({"metadata": {"labels": {"colour": "red"}}})),
        Step::delete("n1 goes", format!("{widgets}/n1")),
        Step::watch("watch everything since", watch(from)),
        Step::watch("watch what is red", watch(&format!("{from}&labelSelector=colour=red"))),
        Step::watch("watch what is blue", watch(&format!("{from}&labelSelector=colour=blue"))),
        Step::watch("watch another name", watch(&format!("{from}&fieldSelector=metadata.name=n2"))),
        Step::watch("watch from now", watch("labelSelector=colour")),
        Step::watch("watch from any version", watch("resourceVersion=0&labelSelector=colour")),
        Step::watch(
            "watch with a list",
            watch(
                "sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&labelSelector=colour",
            ),
        ),
        Step::watch("watch with a list but no match", watch("sendInitialEvents=true&allowWatchBookmarks=true")),
        Step::watch("watch from long ago", watch("resourceVersion=1")),
        Step::watch("watch from a bad version", watch("resourceVersion=x")),
        Step::watch("watch metadata", watch(&format!("{from}&labelSelector=colour=blue"))).accept(METADATA_ONE),
    ]
}
