//! Applying and looking up objects of any kind.

use anyhow::{Context as _, bail};
use kube::api::{DynamicObject, ObjectMeta, Patch, PatchParams};
use kube::core::{GroupVersionKind, TypeMeta};
use kube::discovery::{ApiCapabilities, ApiResource, Scope, pinned_kind};
use kube::{Api, Client};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

use crate::wait::{Look, until};

/// The field manager of what the stand itself applies.
pub const MANAGER: &str = "miyako-e2e";

/// The documents of a YAML text; empty ones (comments only) are left out.
///
/// # Errors
/// When one of them is not YAML.
pub fn documents(text: &str) -> anyhow::Result<Vec<Value>> {
    let mut values = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value: Value = serde::Deserialize::deserialize(document)?;
        if !value.is_null() {
            values.push(value);
        }
    }
    Ok(values)
}

/// The documents of every `.yaml` file of a folder, in the order of the file names.
///
/// # Errors
/// When the folder can't be read or a file is not YAML.
pub fn documents_in(folder: &Path) -> anyhow::Result<Vec<Value>> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .with_context(|| format!("reading {}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let mut values = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        values.extend(documents(&text).with_context(|| file.display().to_string())?);
    }
    Ok(values)
}

/// The kind that an object says it is.
///
/// # Errors
/// When it does not say.
pub fn kind_of(object: &Value) -> anyhow::Result<GroupVersionKind> {
    let field = |name: &str| object[name].as_str().with_context(|| format!("an object without {name}: {object}"));
    let types = TypeMeta { api_version: field("apiVersion")?.to_owned(), kind: field("kind")?.to_owned() };
    GroupVersionKind::try_from(&types).with_context(|| format!("the kind of {object}"))
}

/// The API for objects of a kind, in the namespace where the kind has one (`default` where none is given).
///
/// # Errors
/// When the API server does not know the kind.
pub async fn api_of(
    client: &Client,
    kind: &GroupVersionKind,
    namespace: Option<&str>,
) -> anyhow::Result<Api<DynamicObject>> {
    let (resource, capabilities): (ApiResource, ApiCapabilities) = pinned_kind(client, kind)
        .await
        .with_context(|| format!("the API server does not know {}/{} {}", kind.group, kind.version, kind.kind))?;
    Ok(match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => Api::namespaced_with(client.clone(), namespace.unwrap_or("default"), &resource),
    })
}

/// Applies objects on the server, each as its own field manager's whole wish.
///
/// # Errors
/// The first refusal, with the object's name.
pub async fn apply(client: &Client, objects: &[Value]) -> anyhow::Result<Vec<DynamicObject>> {
    let mut applied = Vec::with_capacity(objects.len());
    for object in objects {
        let metadata: ObjectMeta = serde_json::from_value(object["metadata"].clone()).context("metadata")?;
        let name = metadata.name.with_context(|| format!("an object without a name: {object}"))?;
        let kind = kind_of(object)?;
        let api = api_of(client, &kind, metadata.namespace.as_deref()).await?;
        let answer = api
            .patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object))
            .await
            .with_context(|| format!("applying {} {name}", kind.kind))?;
        applied.push(answer);
    }
    Ok(applied)
}

/// The text of each document of a YAML text; those without an `apiVersion` (comments only) are left out.
pub fn texts(text: &str) -> Vec<&str> {
    text.split("\n---").filter(|document| document.contains("apiVersion:")).collect()
}

/// As much of an object as it takes to know where it belongs, whatever else is wrong with it.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Address {
    api_version: String,
    kind: String,
    #[serde(default)]
    metadata: AddressMetadata,
}

#[derive(Debug, Default, serde::Deserialize)]
struct AddressMetadata {
    namespace: Option<String>,
}

/// Asks what the API server would answer to the creation of one YAML document, without creating anything. The API
/// server reads the text itself, so that nothing of ours softens it.
///
/// # Errors
/// When it could not be asked, for example because the kind is unknown. The inner result is the verdict.
pub async fn try_create(client: &Client, document: &str) -> anyhow::Result<Result<DynamicObject, kube::Error>> {
    let address: Address = serde_yaml::from_str(document)?;
    let types = TypeMeta { api_version: address.api_version, kind: address.kind };
    let api = api_of(client, &GroupVersionKind::try_from(&types)?, address.metadata.namespace.as_deref()).await?;
    // Strict: a field that the schema does not know is a refusal, as `kubectl apply` has it.
    let path = format!("{}?dryRun=All&fieldValidation=Strict", api.resource_url());
    let request = http::Request::post(path)
        .header(http::header::CONTENT_TYPE, "application/yaml")
        .header(http::header::ACCEPT, "application/json")
        .body(document.as_bytes().to_vec())?;
    Ok(client.request::<DynamicObject>(request).await)
}

/// Waits until every CustomResourceDefinition among the objects is established.
///
/// # Errors
/// When one is refused (its conditions say why) or takes longer than a minute.
pub async fn wait_for_crds(client: &Client, objects: &[Value]) -> anyhow::Result<()> {
    let crds: Api<DynamicObject> =
        api_of(client, &GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition"), None).await?;
    for object in objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition") {
        let Some(name) = object["metadata"]["name"].as_str() else { bail!("a CRD without a name") };
        until(&format!("{name} is established"), Duration::from_mins(1), || async {
            let conditions = crds.get(name).await?.data["status"]["conditions"].clone();
            let established = conditions.as_array().is_some_and(|conditions| {
                conditions.iter().any(|condition| condition["type"] == "Established" && condition["status"] == "True")
            });
            Ok(Look::holds(established, conditions.to_string()))
        })
        .await?;
    }
    Ok(())
}
