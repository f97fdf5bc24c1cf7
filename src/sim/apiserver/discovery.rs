//! `/version`, `/api` and `/apis`.

use super::{
    error::ApiError,
    registry::{Registry, Resource},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// The Kubernetes version that the server calls itself.
pub const KUBERNETES_VERSION: (&str, &str, &str) = ("1", "36", "v1.36.3");

/// Answers a discovery path, given as its segments.
pub(crate) fn answer(registry: &Registry, segments: &[String]) -> Result<Value, ApiError> {
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["version"] => {
            let (major, minor, version) = KUBERNETES_VERSION;
            Ok(json!({
                "major": major, "minor": minor, "gitVersion": version, "gitCommit": "", "gitTreeState": "clean",
                "buildDate": "", "goVersion": "", "compiler": "gc", "platform": "linux/amd64",
            }))
        }
        ["api"] => Ok(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
        ["apis"] => {
            let groups: Vec<Value> =
                groups(registry).into_iter().map(|(group, versions)| group_of(group, &versions)).collect();
            Ok(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", group] => {
            let groups = groups(registry);
            let versions = groups.get(group).ok_or_else(ApiError::page_not_found)?;
            let mut document = group_of(group, versions);
            document["kind"] = "APIGroup".into();
            document["apiVersion"] = "v1".into();
            Ok(document)
        }
        ["api", version] => resources(registry, "", version),
        ["apis", group, version] => resources(registry, group, version),
        _ => Err(ApiError::page_not_found()),
    }
}

fn groups(registry: &Registry) -> BTreeMap<&str, Vec<&str>> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for resource in registry.iter().filter(|resource| !resource.group.is_empty()) {
        let versions = groups.entry(&resource.group).or_default();
        if !versions.contains(&resource.version.as_str()) {
            versions.push(&resource.version);
        }
    }
    groups
}

fn group_of(group: &str, versions: &[&str]) -> Value {
    let entry = |version: &&str| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    let versions: Vec<Value> = versions.iter().map(entry).collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}

fn resources(registry: &Registry, group: &str, version: &str) -> Result<Value, ApiError> {
    let served: Vec<&Arc<Resource>> =
        registry.iter().filter(|resource| resource.group == group && resource.version == version).collect();
    let first = served.first().ok_or_else(|| registry.no_such_path(group))?;
    let mut entries = vec![];
    for resource in &served {
        let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
        entries.push(json!({
            "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
            "kind": resource.kind, "shortNames": resource.short_names, "verbs": verbs,
        }));
        if resource.status {
            entries.push(json!({
                "name": format!("{}/status", resource.plural), "singularName": "", "namespaced": resource.namespaced,
                "kind": resource.kind, "verbs": ["get", "patch", "update"],
            }));
        }
    }
    Ok(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": first.api_version(), "resources": entries,
    }))
}
