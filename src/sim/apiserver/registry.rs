//! Which resources the server serves, and how each behaves.

use super::{error::ApiError, schema::Schema};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

/// How an object's `metadata.generation` follows its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// The type has none.
    None,
    /// It counts changes of `spec`.
    Spec,
    /// It counts changes of anything but `metadata` (and of `status`, where that is a subresource): custom resources.
    Custom,
}

/// One served resource.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The plural name, as in paths.
    pub plural: String,
    /// The singular name.
    pub singular: String,
    /// The kind.
    pub kind: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether `status` is a subresource.
    pub status: bool,
    /// Whether it comes from a CRD: then lists name each item's kind, and any field is free unless the schema says so.
    pub custom: bool,
    /// How `metadata.generation` counts.
    pub generation: Generation,
    /// Paths beyond `metadata.name` and `metadata.namespace` that a field selector may name.
    pub selectable_fields: Vec<String>,
    /// Short names, for discovery.
    pub short_names: Vec<String>,
    /// The structural schema of a CRD.
    pub schema: Option<Arc<Schema>>,
    /// The name under which the objects are stored: resources that share it show the same objects (Events).
    pub storage: String,
}

impl Resource {
    /// `group/version`, or just the version for the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `plural.group`, as error messages name it.
    #[must_use]
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }
}

/// A CRD that cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("CustomResourceDefinition {name}: {what}")]
pub struct RegistryError {
    /// The CRD's name.
    pub name: String,
    /// What is missing or wrong.
    pub what: String,
}

/// All served resources.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    resources: Vec<Arc<Resource>>,
    by_path: BTreeMap<(String, String, String), usize>,
}

impl Registry {
    /// The built-in resources that the operator, KubeVirt's stand-in and their tests touch.
    #[must_use]
    pub fn built_in() -> Self {
        let mut registry = Self::default();
        for &(group, version, plural, kind, namespaced, status, generation, short) in BUILT_IN {
            registry.add(Resource {
                group: group.into(),
                version: version.into(),
                plural: plural.into(),
                singular: kind.to_lowercase(),
                kind: kind.into(),
                namespaced,
                status,
                custom: false,
                generation,
                selectable_fields: selectable(plural).iter().map(|&field| field.to_owned()).collect(),
                short_names: if short.is_empty() { vec![] } else { vec![short.to_owned()] },
                schema: None,
                storage: if plural == "events" { "events".into() } else { format!("{plural}.{group}") },
            });
        }
        registry
    }

    /// Adds or replaces a resource.
    pub fn add(&mut self, resource: Resource) {
        let key = (resource.group.clone(), resource.version.clone(), resource.plural.clone());
        match self.by_path.get(&key) {
            Some(&at) => self.resources[at] = Arc::new(resource),
            None => {
                self.by_path.insert(key, self.resources.len());
                self.resources.push(Arc::new(resource));
            }
        }
    }

    /// Adds every served version of a CustomResourceDefinition.
    ///
    /// # Errors
    /// When the CRD lacks its group, names or versions, or a schema cannot be read.
    pub fn add_crd(&mut self, crd: &Value) -> Result<(), RegistryError> {
        let name = crd["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let wrong = |what: &str| RegistryError { name: name.clone(), what: what.to_owned() };
        let spec = &crd["spec"];
        let text = |value: &Value, what: &str| value.as_str().map(str::to_owned).ok_or_else(|| wrong(what));
        let group = text(&spec["group"], "spec.group is missing")?;
        let plural = text(&spec["names"]["plural"], "spec.names.plural is missing")?;
        let kind = text(&spec["names"]["kind"], "spec.names.kind is missing")?;
        let versions = spec["versions"].as_array().ok_or_else(|| wrong("spec.versions is missing"))?;
        for version in versions.iter().filter(|version| version["served"] == true) {
            let schema = &version["schema"]["openAPIV3Schema"];
            let schema = match schema {
                Value::Null => None,
                schema => Some(Arc::new(Schema::parse(schema).map_err(|what| wrong(&what))?)),
            };
            let fields = version["selectableFields"].as_array().map(Vec::as_slice).unwrap_or_default();
            let short = spec["names"]["shortNames"].as_array().map(Vec::as_slice).unwrap_or_default();
            self.add(Resource {
                group: group.clone(),
                version: text(&version["name"], "spec.versions[].name is missing")?,
                singular: spec["names"]["singular"].as_str().map_or_else(|| kind.to_lowercase(), str::to_owned),
                namespaced: spec["scope"] == "Namespaced",
                status: version["subresources"]["status"].is_object(),
                custom: true,
                generation: Generation::Custom,
                selectable_fields: fields
                    .iter()
                    .filter_map(|field| field["jsonPath"].as_str())
                    .map(|path| path.trim_start_matches('.').to_owned())
                    .collect(),
                short_names: short.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                schema,
                storage: format!("{plural}.{group}"),
                plural: plural.clone(),
                kind: kind.clone(),
            });
        }
        Ok(())
    }

    /// The resource at a path.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        let at = self.by_path.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))?;
        self.resources.get(*at)
    }

    /// What is said of a path that leads to no resource of this group. Kubernetes' own groups are routed in every version,
    /// whether there is such a version or not.
    pub(crate) fn no_such_path(&self, group: &str) -> ApiError {
        let routed = |resource: &Arc<Resource>| !resource.custom && resource.group == group;
        if self.resources.iter().any(routed) { ApiError::unknown_path() } else { ApiError::page_not_found() }
    }

    /// The resource of a kind, for owner references.
    #[must_use]
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.resources.iter().find(|resource| resource.kind == kind && resource.api_version() == api_version)
    }

    /// All resources, in the order of their registration.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.iter()
    }
}

fn selectable(plural: &str) -> &'static [&'static str] {
    match plural {
        "pods" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "nodes" => &["spec.unschedulable"],
        "namespaces" => &["status.phase"],
        "secrets" => &["type"],
        "events" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        _ => &[],
    }
}

type Row = (&'static str, &'static str, &'static str, &'static str, bool, bool, Generation, &'static str);

/// group, version, plural, kind, namespaced, status subresource, generation, short name
const BUILT_IN: &[Row] = &[
    ("", "v1", "namespaces", "Namespace", false, true, Generation::None, "ns"),
    ("", "v1", "nodes", "Node", false, true, Generation::None, "no"),
    ("", "v1", "pods", "Pod", true, true, Generation::Spec, "po"),
    ("", "v1", "configmaps", "ConfigMap", true, false, Generation::None, "cm"),
    ("", "v1", "secrets", "Secret", true, false, Generation::None, ""),
    ("", "v1", "serviceaccounts", "ServiceAccount", true, false, Generation::None, "sa"),
    ("", "v1", "events", "Event", true, false, Generation::None, "ev"),
    ("", "v1", "persistentvolumes", "PersistentVolume", false, true, Generation::None, "pv"),
    ("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", true, true, Generation::None, "pvc"),
    ("", "v1", "limitranges", "LimitRange", true, false, Generation::None, "limits"),
    ("", "v1", "resourcequotas", "ResourceQuota", true, true, Generation::None, "quota"),
    ("", "v1", "services", "Service", true, true, Generation::None, "svc"),
    ("apps", "v1", "daemonsets", "DaemonSet", true, true, Generation::Spec, "ds"),
    ("apps", "v1", "deployments", "Deployment", true, true, Generation::Spec, "deploy"),
    ("apps", "v1", "controllerrevisions", "ControllerRevision", true, false, Generation::None, ""),
    ("batch", "v1", "cronjobs", "CronJob", true, true, Generation::Spec, "cj"),
    ("coordination.k8s.io", "v1", "leases", "Lease", true, false, Generation::None, ""),
    ("events.k8s.io", "v1", "events", "Event", true, false, Generation::None, "ev"),
    ("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", true, true, Generation::Spec, "pdb"),
    ("storage.k8s.io", "v1", "csinodes", "CSINode", false, false, Generation::None, ""),
    ("storage.k8s.io", "v1", "storageclasses", "StorageClass", false, false, Generation::None, "sc"),
    ("storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", false, true, Generation::None, ""),
    ("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", false, false, Generation::Spec, "pc"),
];

impl Registry {
    /// Adds KubeVirt's resources as its CRDs define them, without their schemas: any field is kept.
    pub fn add_kubevirt(&mut self) {
        for &(group, version, plural, kind, namespaced, status, short) in KUBEVIRT {
            self.add(Resource {
                group: group.into(),
                version: version.into(),
                plural: plural.into(),
                singular: kind.to_lowercase(),
                kind: kind.into(),
                namespaced,
                status,
                custom: true,
                generation: Generation::Custom,
                selectable_fields: vec![],
                short_names: if short.is_empty() { vec![] } else { vec![short.to_owned()] },
                schema: None,
                storage: format!("{plural}.{group}"),
            });
        }
    }
}

type KubeVirtRow = (&'static str, &'static str, &'static str, &'static str, bool, bool, &'static str);

/// group, version, plural, kind, namespaced, status subresource, short name (KubeVirt 1.9)
const KUBEVIRT: &[KubeVirtRow] = &[
    ("kubevirt.io", "v1", "virtualmachineinstances", "VirtualMachineInstance", true, false, "vmi"),
    ("kubevirt.io", "v1", "virtualmachineinstancemigrations", "VirtualMachineInstanceMigration", true, true, "vmim"),
    ("kubevirt.io", "v1", "virtualmachines", "VirtualMachine", true, true, "vm"),
    ("kubevirt.io", "v1", "kubevirts", "KubeVirt", true, true, "kv"),
    ("migrations.kubevirt.io", "v1alpha1", "migrationpolicies", "MigrationPolicy", false, true, ""),
];
