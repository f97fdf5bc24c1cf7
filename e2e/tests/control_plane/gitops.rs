//! What a GitOps tool or a person applies a second time is "unchanged": nothing of ours writes into what people own, and
//! defaults do not look like somebody's changes.

use anyhow::{Context as _, ensure};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use miyako_e2e::control_plane::objects::{self, MANAGER, api_of, kind_of};
use miyako_e2e::scene::Scene;
use miyako_e2e::tools::workspace_root;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Where kubectl keeps what was applied last by the client.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Every good fixture and every example, by server-side apply and as kubectl applies by default, there also with nulls
/// written where nothing is said.
pub(crate) async fn applying_again_changes_nothing(scene: Arc<Scene>) -> anyhow::Result<()> {
    scene.install_our_crds().await?;
    let mut wanted = objects::documents_in(&workspace_root().join("e2e/fixtures/crs/good"))?;
    wanted.extend(objects::documents_in(&workspace_root().join("docs/examples"))?);
    wanted.retain(|object| object["apiVersion"].as_str().is_some_and(|version| version.starts_with("miyako.dev/")));
    ensure!(wanted.len() > 10, "only {} objects of ours", wanted.len());
    // Nobody keeps a status in a file; some fixtures carry an odd one, which must not matter elsewhere.
    wanted.iter_mut().filter_map(Value::as_object_mut).for_each(|object| drop(object.remove("status")));
    wanted.iter_mut().for_each(write_as_kubectl);
    let with_nulls: Vec<Value> = wanted.iter().map(with_nulls).collect();
    let mut changed = Vec::new();
    for object in wanted.iter().chain(&with_nulls) {
        let name = object["metadata"]["name"].as_str().context("an object without a name")?;
        let api = api_of(&scene.admin(), &kind_of(object)?, None).await?;
        for how in [How::ServerSide, How::ClientSide] {
            let skipped = match how {
                // A server-side apply takes a written null for a value, which the schemas refuse the first time.
                How::ServerSide => holds_null(object),
                // Plans are the operator's own: nobody keeps them in files.
                How::ClientSide => object["kind"] == "ConsolidationPlan",
            };
            if skipped {
                continue;
            }
            let first = apply(&api, name, object, how).await.with_context(|| format!("{how:?}: {object}"))?;
            match apply(&api, name, object, how).await {
                Ok(again) if again == first => {}
                Ok(_) => changed.push(format!("{how:?} of {} {name}: {object}", object["kind"])),
                Err(error) => changed.push(format!("{how:?} of {} {name}: {error:#}", object["kind"])),
            }
            api.delete(name, &DeleteParams::default()).await?;
        }
    }
    ensure!(changed.is_empty(), "applied a second time and changed:\n{}", changed.join("\n"));
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum How {
    /// `kubectl apply --server-side`, Argo CD's and Flux's ServerSideApply.
    ServerSide,
    /// `kubectl apply`: a three-way merge by the client.
    ClientSide,
}

/// Applies an object and returns its resourceVersion.
async fn apply(api: &Api<DynamicObject>, name: &str, object: &Value, how: How) -> anyhow::Result<Option<String>> {
    let applied = match how {
        How::ServerSide => api.patch(name, &PatchParams::apply(MANAGER), &Patch::Apply(object)).await?,
        How::ClientSide => {
            let mut modified = object.clone();
            modified["metadata"]["annotations"][LAST_APPLIED] = json!(format!("{object}\n"));
            match api.get_opt(name).await? {
                None => api.create(&PostParams::default(), &serde_json::from_value(modified)?).await?,
                Some(there) => {
                    let original = there.metadata.annotations.as_ref().and_then(|all| all.get(LAST_APPLIED));
                    let original: Value = serde_json::from_str(original.context("never applied")?)?;
                    let patch = three_way(&original, &modified, &serde_json::to_value(&there)?);
                    ensure!(patch == json!({}), "kubectl would say `configured` and send {patch}");
                    // Sent as a whole it changes nothing either.
                    api.patch(name, &PatchParams::default(), &Patch::Merge(&modified)).await?
                }
            }
        }
    };
    Ok(applied.metadata.resource_version)
}

/// The JSON merge patch that kubectl sends for custom resources (`jsonmergepatch.CreateThreeWayJSONMergePatch`): what
/// `modified` adds to or changes of `current`, and nulls for what it no longer says of `original`.
fn three_way(original: &Value, modified: &Value, current: &Value) -> Value {
    let mut patch = differences(current, modified, false);
    json_patch::merge(&mut patch, &differences(original, modified, true));
    patch
}

/// The merge patch from one object to another, either its deletions alone or all but these.
fn differences(from: &Value, to: &Value, deletions: bool) -> Value {
    let empty = Map::new();
    let (from, to) = (from.as_object().unwrap_or(&empty), to.as_object().unwrap_or(&empty));
    let mut patch = Map::new();
    for (key, wanted) in to {
        match from.get(key) {
            Some(there) if there.is_object() && wanted.is_object() => {
                let inner = differences(there, wanted, deletions);
                if inner != json!({}) {
                    patch.insert(key.clone(), inner);
                }
            }
            Some(there) if there == wanted => {}
            _ if !deletions && !wanted.is_null() => {
                patch.insert(key.clone(), wanted.clone());
            }
            _ => {}
        }
    }
    if deletions {
        patch.extend(from.keys().filter(|key| !to.contains_key(*key)).map(|key| (key.clone(), Value::Null)));
    }
    Value::Object(patch)
}

/// kubectl makes JSON of YAML before it does anything else, and writes 5.0 as 5.
fn write_as_kubectl(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let whole =
                number.as_f64().filter(|_| number.is_f64()).and_then(|value| format!("{value}").parse::<i64>().ok());
            if let Some(whole) = whole {
                *value = whole.into();
            }
        }
        Value::Object(fields) => fields.values_mut().for_each(write_as_kubectl),
        Value::Array(items) => items.iter_mut().for_each(write_as_kubectl),
        _ => {}
    }
}

fn holds_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().any(holds_null),
        Value::Array(items) => items.iter().any(holds_null),
        _ => false,
    }
}

/// The same object with nulls for optional fields that it does not set: templates write such.
fn with_nulls(object: &Value) -> Value {
    let fields: &[&str] = match object["kind"].as_str() {
        Some("ConsolidationPolicy") => &["virtualMachines", "schedules", "holdWhen", "budgets", "stayWithin"],
        Some("NodePowerClass") => &["maxVMs", "suspend", "power", "readyWhen"],
        Some("NodePower") => &["wakeBy"],
        Some("ConsolidationPlan") => &["approvedBy"],
        _ => &[],
    };
    let mut object = object.clone();
    for field in fields {
        if object["spec"].get(field).is_none() {
            object["spec"][field] = Value::Null;
        }
    }
    object["metadata"]["labels"] = object["metadata"].get("labels").cloned().unwrap_or(Value::Null);
    object
}
