//! One scenario's part of the stand: a namespace, nodes, programs; and how it is tidied up.

use crate::child::{Child, Program};
use crate::control_plane::Stand;
use crate::control_plane::nodes::{self, NewNode, SCENARIO};
use crate::control_plane::objects;
use crate::tools::shared;
use crate::wait::{Look, until};
use anyhow::Context as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use miyako_api::kubevirt::fields::{self, Kind};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// What scenarios leave in the cluster, in the order in which it is deleted: group, version, kind. Nothing of these
/// kinds belongs to the control plane itself.
const SWEPT: &[(&str, &str, &str)] = &[
    ("miyako.dev", "v1alpha1", "ConsolidationPolicy"),
    ("miyako.dev", "v1alpha1", "NodePowerClass"),
    ("miyako.dev", "v1alpha1", "NodePower"),
    ("miyako.dev", "v1alpha1", "ConsolidationPlan"),
    ("kubevirt.io", "v1", "VirtualMachineInstanceMigration"),
    ("kubevirt.io", "v1", "VirtualMachine"),
    ("kubevirt.io", "v1", "VirtualMachineInstance"),
    ("kubevirt.io", "v1", "KubeVirt"),
    ("migrations.kubevirt.io", "v1alpha1", "MigrationPolicy"),
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "DaemonSet"),
    ("", "v1", "Pod"),
    ("", "v1", "PersistentVolumeClaim"),
    ("", "v1", "PersistentVolume"),
    ("", "v1", "Node"),
];

/// Who judges requests; deleted before anything else.
const ADMISSION: &[(&str, &str, &str)] = &[
    ("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy"),
];

/// What the chart installs outside its namespace.
const CHART: &[(&str, &str, &str)] =
    &[("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding"), ("rbac.authorization.k8s.io", "v1", "ClusterRole")];

/// What a failure shows of the cluster, besides what is [swept](SWEPT).
const SHOWN: &[(&str, &str, &str)] = &[("coordination.k8s.io", "v1", "Lease"), ("events.k8s.io", "v1", "Event")];

/// A running scenario.
pub struct Scene {
    stand: Arc<Stand>,
    name: &'static str,
    namespace: String,
    children: Mutex<Vec<Arc<Child>>>,
    tasks: Mutex<JoinSet<()>>,
    pages: Mutex<Vec<String>>,
}

impl Scene {
    /// Makes the scenario's namespace.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn begin(stand: Arc<Stand>, name: &'static str) -> anyhow::Result<Arc<Self>> {
        let namespace = name.replace("::", "-").replace('_', "-");
        let scene = Self {
            stand,
            name,
            namespace,
            children: Mutex::default(),
            tasks: Mutex::default(),
            pages: Mutex::default(),
        };
        scene.create_namespace(&scene.namespace).await?;
        Ok(Arc::new(scene))
    }

    /// The control plane.
    #[must_use]
    pub fn stand(&self) -> &Stand {
        &self.stand
    }

    /// The admin's client.
    #[must_use]
    pub fn admin(&self) -> Client {
        self.stand.client_as_admin()
    }

    /// The scenario's own namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// One more namespace of the scenario.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn create_namespace(&self, name: &str) -> anyhow::Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.admin());
        let namespace: Namespace = serde_json::from_value(json!({
            "metadata": { "name": name, "labels": { SCENARIO: self.namespace } },
        }))?;
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .with_context(|| format!("creating the namespace {name}"))?;
        Ok(())
    }

    /// Waits until pods can be created in the scenario's namespace: they need its `default` ServiceAccount, which the
    /// controller manager makes.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn wait_for_default_account(&self) -> anyhow::Result<()> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin(), &self.namespace);
        until("the default ServiceAccount exists", Duration::from_mins(1), || async {
            Ok(Look::some(accounts.get_opt("default").await?.map(drop), "not there yet"))
        })
        .await
    }

    /// Installs KubeVirt's own CRDs where they are at hand, else CRDs made from what is known of them, and waits until
    /// they are served. Asking twice changes nothing.
    ///
    /// # Errors
    /// When they can't be read, or are refused.
    pub async fn install_kubevirt_crds(&self) -> anyhow::Result<Vec<Value>> {
        let own = shared("kubevirt-crds");
        let crds =
            if own.is_dir() { objects::documents_in(&own)? } else { fields::kinds().iter().map(Kind::crd).collect() };
        self.install_crds(&crds).await?;
        Ok(crds)
    }

    /// Installs our CRDs and waits until they are served. Asking twice changes nothing.
    ///
    /// # Errors
    /// When they are refused.
    pub async fn install_our_crds(&self) -> anyhow::Result<Vec<Value>> {
        let crds: Vec<Value> = miyako_api::crds().into_iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
        self.install_crds(&crds).await?;
        Ok(crds)
    }

    async fn install_crds(&self, crds: &[Value]) -> anyhow::Result<()> {
        objects::apply(&self.admin(), crds).await?;
        objects::wait_for_crds(&self.admin(), crds).await
    }

    /// Adds nodes that are Ready and gone after the scenario.
    ///
    /// # Errors
    /// When one does not become Ready.
    pub async fn add_nodes(&self, nodes: &[NewNode]) -> anyhow::Result<()> {
        nodes::add(&self.admin(), &self.namespace, nodes).await
    }

    /// Starts a program that ends with the scenario.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(&self, program: &Program) -> anyhow::Result<Arc<Child>> {
        let child = Arc::new(program.start(self.stand.folder())?);
        self.children.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&child));
        Ok(child)
    }

    /// Runs a program to its end and returns what it printed.
    ///
    /// # Errors
    /// When it fails or takes longer than `at_most`; the message has what it printed.
    pub async fn run(&self, program: &Program, at_most: Duration) -> anyhow::Result<String> {
        let child = program.start(self.stand.folder())?;
        let status = until(&format!("{} ends", child.name()), at_most, || async {
            Ok(Look::some(child.ended()?, child.tail(3)))
        })
        .await?;
        let output = child.output()?;
        anyhow::ensure!(status.success(), "{} failed ({status}):\n{output}", child.name());
        Ok(output)
    }

    /// Plays a part in this process until the scenario ends.
    pub fn play(&self, part: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(part);
    }

    /// A failure shows what this address answers, such as a program's metrics.
    pub fn show_on_failure(&self, url: String) {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).push(url);
    }

    /// Kills the scenario's programs and deletes everything that it may have left in the cluster.
    ///
    /// # Errors
    /// When something can't be deleted.
    pub async fn end(&self) -> anyhow::Result<()> {
        for child in self.children.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            child.kill()?;
        }
        let client = self.admin();
        for kind in kinds(ADMISSION) {
            sweep(&client, &kind, "").await.with_context(|| format!("deleting every {}", kind.kind))?;
        }
        // Only now: nothing could be changed any more while a registered webhook does not answer.
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
        for kind in kinds(SWEPT) {
            sweep(&client, &kind, "").await.with_context(|| format!("deleting every {}", kind.kind))?;
        }
        // kwok would renew the lease of an earlier node of the same name while Kubernetes collects it as garbage.
        let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
        leases.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        for kind in kinds(CHART) {
            let ours = "app.kubernetes.io/name=miyako";
            sweep(&client, &kind, ours).await.with_context(|| format!("deleting our {}", kind.kind))?;
        }
        let namespaces: Api<Namespace> = Api::all(client);
        let ours = ListParams::default().labels(&format!("{SCENARIO}={}", self.namespace));
        for namespace in namespaces.list(&ours).await?.items {
            // Its deletion takes the controller manager some seconds, and no later scenario uses the same name.
            namespaces.delete(&namespace.metadata.name.unwrap_or_default(), &DeleteParams::background()).await?;
        }
        Ok(())
    }

    /// What the cluster looks like and what every program last said, for a failure's message.
    pub async fn describe(&self) -> String {
        let client = self.admin();
        let mut text = format!("=== {} failed; this is what was there\n", self.name);
        for kind in kinds(SWEPT).chain(kinds(SHOWN)) {
            let Ok(api) = everywhere(&client, &kind).await else { continue };
            match api.list(&ListParams::default()).await {
                Ok(list) => {
                    for object in list.items {
                        text.push_str(&summary(&kind.kind, &object));
                    }
                }
                Err(error) => text.push_str(&format!("{}: {error}\n", kind.kind)),
            }
        }
        for child in self.children.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let state = match child.ended() {
                Ok(None) => "running".to_owned(),
                Ok(Some(status)) => status.to_string(),
                Err(error) => error.to_string(),
            };
            let _ = writeln!(text, "--- {} (pid {}, {state})\n{}", child.name(), child.pid(), child.tail(60));
        }
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for page in pages {
            let _ = writeln!(text, "--- {page}\n{}", without_comments(&page).await);
        }
        text + &self.stand.last_words(15)
    }
}

/// What an address answers, less the comments that metrics carry.
async fn without_comments(url: &str) -> String {
    let request = reqwest::Client::new().get(url).timeout(Duration::from_secs(2));
    let answer = match request.send().await {
        Ok(answer) => answer.text().await,
        Err(error) => Err(error),
    };
    let text = answer.unwrap_or_else(|error| format!("no answer: {error}"));
    text.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket{")).collect::<Vec<_>>().join("\n")
}

fn kinds(list: &'static [(&str, &str, &str)]) -> impl Iterator<Item = GroupVersionKind> {
    list.iter().map(|(group, version, kind)| GroupVersionKind::gvk(group, version, kind))
}

async fn everywhere(client: &Client, kind: &GroupVersionKind) -> anyhow::Result<Api<DynamicObject>> {
    let (resource, _) = kube::discovery::pinned_kind(client, kind).await?;
    Ok(Api::all_with(client.clone(), &resource))
}

/// Deletes every object of a kind that the label selector matches, finalizers or not: nobody is left to honour them.
/// A kind that is not installed has no objects.
async fn sweep(client: &Client, kind: &GroupVersionKind, selector: &str) -> anyhow::Result<()> {
    let Ok(api) = everywhere(client, kind).await else { return Ok(()) };
    let all = api.list(&ListParams::default().labels(selector)).await?;
    if all.items.is_empty() {
        return Ok(());
    }
    for object in &all.items {
        if object.metadata.finalizers.as_ref().is_some_and(|finalizers| !finalizers.is_empty()) {
            let one = one_of(client, kind, object).await?;
            let patch = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
            ignore_missing(one.patch(name_of(object), &PatchParams::default(), &patch).await)?;
        }
        let one = one_of(client, kind, object).await?;
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::background() };
        ignore_missing(one.delete(name_of(object), &now).await)?;
    }
    Ok(())
}

async fn one_of(
    client: &Client,
    kind: &GroupVersionKind,
    object: &DynamicObject,
) -> anyhow::Result<Api<DynamicObject>> {
    objects::api_of(client, kind, object.metadata.namespace.as_deref()).await
}

fn name_of(object: &DynamicObject) -> &str {
    object.metadata.name.as_deref().unwrap_or_default()
}

fn ignore_missing<T>(answer: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match answer {
        Err(error) if miyako_api::answer::is_absent(&error) => Ok(()),
        other => other.map(drop),
    }
}

/// A line about an object: its name and the parts of it that explain most failures.
fn summary(kind: &str, object: &DynamicObject) -> String {
    let namespace = object.metadata.namespace.as_deref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
    let data = &object.data;
    let telling = match kind {
        "Event" => json!({ "about": data["regarding"]["name"], "reason": data["reason"], "note": data["note"] }),
        "Pod" => json!({ "node": data["spec"]["nodeName"], "phase": data["status"]["phase"] }),
        "Node" => {
            let ready = data["status"]["conditions"].as_array().and_then(|conditions| {
                conditions.iter().find(|condition| condition["type"] == "Ready").map(|ready| ready["status"].clone())
            });
            json!({ "ready": ready, "taints": data["spec"]["taints"] })
        }
        "Lease" => data["spec"].clone(),
        _ => json!({ "spec": data["spec"], "status": data["status"] }),
    };
    format!("{kind} {namespace}{}: {telling}\n", name_of(object))
}
