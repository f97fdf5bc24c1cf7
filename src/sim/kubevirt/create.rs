//! Makes VMs that already run, and the KubeVirt CR, for stands and tests.

use super::{Clients, launcher, names::NAMESPACE, time};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams},
};
use miyako_api::{
    kubevirt::{KubeVirt, VirtualMachine, VirtualMachineInstance},
    names::kubevirt::NODE_NAME,
};
use miyako_core::model::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The version of KubeVirt that is played.
pub const VERSION: &str = "v1.9.0";

/// Why something could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The API server refused or failed.
    #[error("the API server refused {what}: {source}")]
    Api {
        /// What was to be written.
        what: String,
        /// Its answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// The launcher can't be rendered.
    #[error("no launcher for {vm}: {source}")]
    Render {
        /// The VM.
        vm: String,
        /// Why.
        #[source]
        source: launcher::RenderError,
    },
}

fn refused(what: &str) -> impl FnOnce(kube::Error) -> CreateError + use<> {
    let what = what.to_owned();
    move |source| CreateError::Api { what, source: Box::new(source) }
}

/// A VM to be made.
#[derive(Debug, Clone)]
pub struct VmSpec {
    /// Its namespace, which must exist.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Guest memory.
    pub memory: Bytes,
    /// Labels of the VMI (and of its launchers).
    pub labels: BTreeMap<String, String>,
    /// Annotations of the VMI.
    pub annotations: BTreeMap<String, String>,
    /// Its CPU model; none is the node's own (`host-model`).
    pub cpu_model: Option<String>,
    /// Node labels it asks for.
    pub node_selector: BTreeMap<String, String>,
    /// What an eviction does; `LiveMigrate` unless changed.
    pub eviction_strategy: Option<String>,
    /// Whether KubeVirt calls it migratable; false shows as a disk on the node.
    pub migratable: bool,
    /// Whether a VirtualMachine owns it, which outlives it.
    pub owned: bool,
    /// Anything else, merged into the VMI's `spec`.
    pub more: Value,
}

impl VmSpec {
    /// A VM with nothing special about it.
    #[must_use]
    pub fn new(namespace: &str, name: &str, vcpus: u32, memory: Bytes) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            vcpus,
            memory,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            cpu_model: Some("Haswell".into()),
            node_selector: BTreeMap::new(),
            eviction_strategy: Some("LiveMigrate".into()),
            migratable: true,
            owned: false,
            more: json!({}),
        }
    }

    /// The VMI as a user would create it.
    #[must_use]
    pub fn vmi(&self) -> Value {
        let mut spec = json!({
            "domain": {
                "cpu": {
                    "cores": self.vcpus,
                    "model": self.cpu_model.as_deref().unwrap_or("host-model"),
                },
                "memory": {"guest": format!("{}Ki", self.memory.0 / 1024)},
                "devices": {},
                "resources": {},
            },
            "architecture": "amd64",
            "nodeSelector": self.node_selector,
        });
        if let Some(strategy) = &self.eviction_strategy {
            spec["evictionStrategy"] = json!(strategy);
        }
        merge(&mut spec, &self.more);
        json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {
                "namespace": self.namespace,
                "name": self.name,
                "labels": self.labels,
                "annotations": self.annotations,
            },
            "spec": spec,
        })
    }
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// The status of a VM that runs on a node, without its phase.
pub(super) fn running_status(node: &str, migratable: bool, now: Timestamp) -> Value {
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": time(now)});
    let live_migratable = if migratable {
        json!({"type": "LiveMigratable", "status": "True", "lastProbeTime": null, "lastTransitionTime": null})
    } else {
        json!({
            "type": "LiveMigratable", "status": "False", "reason": "DisksNotLiveMigratable",
            "message": "cannot migrate VMI: PVC disk is not shared, live migration requires that all PVCs must be shared (using ReadWriteMany access mode)",
        })
    };
    json!({
        "nodeName": node,
        "conditions": [condition("Ready"), live_migratable],
        "migrationMethod": "LiveMigration",
        "migrationTransport": "Unix",
        "selinuxContext": "none",
        "qosClass": "Burstable",
        "runtimeUser": 107,
        "launcherContainerImageVersion": format!("quay.io/kubevirt/virt-launcher:{VERSION}"),
    })
}

/// Makes a VM that runs on a node: the VMI by `user`, everything else by KubeVirt's accounts and the node's kubelet.
///
/// # Errors
/// When the API server refuses any of it.
pub async fn running_vm(
    clients: &Clients,
    user: &Client,
    spec: &VmSpec,
    node: &str,
    now: Timestamp,
) -> Result<VirtualMachineInstance, CreateError> {
    let vm = format!("{}/{}", spec.namespace, spec.name);
    let mut wanted = spec.vmi();
    // A VMI that names its node is not started anew by virt-controller.
    wanted["status"] = running_status(node, spec.migratable, now);
    if spec.owned {
        let owner = virtual_machine(user, spec, &vm).await?;
        wanted["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": spec.name, "uid": owner.uid(),
            "controller": true, "blockOwnerDeletion": true,
        }]);
    }
    let wanted: VirtualMachineInstance = parsed(wanted, &vm)?;
    let vmis: Api<VirtualMachineInstance> = Api::namespaced(user.clone(), &spec.namespace);
    let vmi = vmis.create(&PostParams::default(), &wanted).await.map_err(refused(&vm))?;

    let mut pod = launcher::launcher(&vmi).map_err(|source| CreateError::Render { vm: vm.clone(), source })?;
    if let Some(spec) = &mut pod.spec {
        spec.node_name = Some(node.into());
    }
    pod.metadata.labels.get_or_insert_default().insert(NODE_NAME.into(), node.into());
    let pods: Api<Pod> = Api::namespaced(clients.virt_controller.clone(), &spec.namespace);
    let pod = pods.create(&PostParams::default(), &pod).await.map_err(refused(&vm))?;
    let kubelet: Api<Pod> = Api::namespaced(clients.kubelet.clone(), &spec.namespace);
    let patch = Patch::Merge(json!({"status": running_pod_status(now)}));
    kubelet.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await.map_err(refused(&vm))?;

    let mut status = running_status(node, spec.migratable, now);
    status["phase"] = json!("Running");
    status["activePods"] = json!({pod.uid().unwrap_or_default(): node});
    let patch = Patch::Merge(json!({"metadata": {"labels": {NODE_NAME: node}}, "status": status}));
    let vmis: Api<VirtualMachineInstance> = Api::namespaced(clients.virt_handler.clone(), &spec.namespace);
    vmis.patch(&spec.name, &PatchParams::default(), &patch).await.map_err(refused(&vm))
}

async fn virtual_machine(user: &Client, spec: &VmSpec, vm: &str) -> Result<VirtualMachine, CreateError> {
    let vmi = spec.vmi();
    let wanted = json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"namespace": spec.namespace, "name": spec.name},
        "spec": {
            "runStrategy": "Always",
            "template": {"metadata": {"labels": vmi["metadata"]["labels"]}, "spec": vmi["spec"]},
        },
    });
    // The type leaves most of the template out, so it is sent as it is.
    let resource = ApiResource::erase::<VirtualMachine>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(user.clone(), &spec.namespace, &resource);
    let made = api.create(&PostParams::default(), &parsed(wanted, vm)?).await.map_err(refused(vm))?;
    let made =
        serde_json::to_value(made).map_err(|source| CreateError::Render { vm: vm.into(), source: source.into() });
    parsed(made?, vm)
}

fn parsed<T: serde::de::DeserializeOwned>(value: Value, vm: &str) -> Result<T, CreateError> {
    serde_json::from_value(value).map_err(|source| CreateError::Render { vm: vm.into(), source: source.into() })
}

/// The status of a pod that runs and is ready.
#[must_use]
pub fn running_pod_status(now: Timestamp) -> Value {
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": time(now)});
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    json!({"phase": "Running", "startTime": time(now), "conditions": conditions})
}

/// Makes the namespace and the KubeVirt CR of an installation that is deployed. `migrations` becomes
/// `spec.configuration.migrations`.
///
/// # Errors
/// When the API server refuses any of it.
pub async fn installation(user: &Client, migrations: Value) -> Result<KubeVirt, CreateError> {
    let namespace = Namespace {
        metadata: ObjectMeta { name: Some(NAMESPACE.into()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    let made = Api::all(user.clone()).create(&PostParams::default(), &namespace).await;
    match made {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        made => drop(made.map_err(refused("the namespace kubevirt"))?),
    }
    let what = "the KubeVirt CR";
    let wanted = json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "KubeVirt",
        "metadata": {"namespace": NAMESPACE, "name": "kubevirt"},
        "spec": {"configuration": {"migrations": migrations}},
    });
    let installations: Api<KubeVirt> = Api::namespaced(user.clone(), NAMESPACE);
    installations.create(&PostParams::default(), &parsed(wanted, what)?).await.map_err(refused(what))?;
    let status = json!({"status": {
        "phase": "Deployed",
        "observedKubeVirtVersion": VERSION,
        "targetKubeVirtVersion": VERSION,
        "conditions": [{"type": "Available", "status": "True", "reason": "AllComponentsReady", "message": "All components are ready."}],
    }});
    let patch = Patch::Merge(status);
    installations.patch_status("kubevirt", &PatchParams::default(), &patch).await.map_err(refused(what))
}
