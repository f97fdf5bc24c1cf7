//! virt-api's admission, served to the real API server: HTTPS webhooks by URL around the stand-in's pure functions.

use crate::control_plane::objects;
use crate::https;
use crate::scene::Scene;
use anyhow::Context as _;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::discovery::ApiResource;
use kube::{Api, Client};
use miyako::sim::kubevirt::NAMESPACE;
use miyako::sim::kubevirt::admission::{
    EvictionVerdict, Operation, ReadView, Refusal, Request, judge_eviction, mutate, validate,
};
use miyako_api::kubevirt::{KubeVirt, VirtualMachineInstance, VirtualMachineInstanceMigration};
use miyako_api::names::kubevirt::{DOMAIN, VMI_NAME};
use serde_json::{Value, json};

/// Starts the webhooks' server, for as long as the scenario plays, and registers it with the API server. `virt_api` is
/// the account by which it looks things up and marks VMIs for evacuation.
pub(super) async fn serve(scene: &Scene, virt_api: Client) -> anyhow::Result<()> {
    let authority = scene.stand().authority();
    let router =
        Router::new().route("/mutate", post(mutating)).route("/validate", post(validating)).with_state(virt_api);
    let (address, answering) = https::listen(authority, router).await?;
    scene.play(answering);
    let url = format!("https://{address}");
    objects::apply(&scene.admin(), &registrations(&url, &authority.pem())).await?;
    Ok(())
}

/// What virt-operator registers, as far as the stand-in judges it.
fn registrations(url: &str, authority: &str) -> [Value; 2] {
    let rules = |kinds: &[(&str, &str, &str)]| -> Value {
        kinds
            .iter()
            .map(|(group, version, resource)| {
                json!({
                    "apiGroups": [group], "apiVersions": [version], "resources": [resource],
                    "operations": if *resource == "pods/eviction" { json!(["CREATE"]) } else { json!(["CREATE", "UPDATE"]) },
                })
            })
            .collect()
    };
    let vmis = ("kubevirt.io", "v1", "virtualmachineinstances");
    let migrations = ("kubevirt.io", "v1", "virtualmachineinstancemigrations");
    let webhook = |path: &str, rules: Value| {
        json!({
            "name": format!("{path}.virt-api.kubevirt.io"),
            "admissionReviewVersions": ["v1"],
            "sideEffects": "NoneOnDryRun",
            "failurePolicy": "Fail",
            "clientConfig": {
                "url": format!("{url}/{path}"), "caBundle": ByteString(authority.as_bytes().to_vec()),
            },
            "rules": rules,
        })
    };
    let registration = |kind: &str, webhook: Value| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": { "name": "virt-api" }, "webhooks": [webhook],
        })
    };
    [
        registration("MutatingWebhookConfiguration", webhook("mutate", rules(&[vmis, migrations]))),
        registration(
            "ValidatingWebhookConfiguration",
            webhook("validate", rules(&[vmis, migrations, ("", "v1", "pods/eviction")])),
        ),
    ]
}

/// An AdmissionReview's request, kept as it came; the functions borrow from it.
struct Review(Value);

impl Review {
    fn new(review: &Value) -> Self {
        Self(review["request"].clone())
    }

    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn request(&self) -> Request<'_> {
        Request {
            operation: match self.text("/operation") {
                "CREATE" => Operation::Create,
                "DELETE" => Operation::Delete,
                _ => Operation::Update,
            },
            user: self.text("/userInfo/username"),
            resource: self.text("/resource/resource"),
            subresource: self.text("/subResource"),
            namespace: self.text("/namespace"),
            name: self.text("/name"),
            old: &self.0["oldObject"],
            dry_run: self.0["dryRun"] == true,
        }
    }

    fn object(&self) -> &Value {
        &self.0["object"]
    }

    fn answer(&self, verdict: Result<Option<Value>, Refusal>) -> Json<Value> {
        let mut response = json!({ "uid": self.0["uid"], "allowed": verdict.is_ok() });
        match verdict {
            Ok(None) => {}
            Ok(Some(patch)) => {
                response["patchType"] = json!("JSONPatch");
                response["patch"] = json!(ByteString(patch.to_string().into_bytes()));
            }
            Err(Refusal { code, reason, message }) => {
                response["status"] = json!({ "code": code, "reason": reason, "message": message });
            }
        }
        Json(json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response }))
    }
}

async fn mutating(Json(review): Json<Value>) -> Json<Value> {
    let review = Review::new(&review);
    let mut object = review.object().clone();
    mutate(&review.request(), &mut object, Timestamp::now());
    let patch = json_patch::diff(review.object(), &object);
    review.answer(Ok((!patch.0.is_empty()).then(|| json!(patch))))
}

async fn validating(State(client): State<Client>, Json(review): Json<Value>) -> Json<Value> {
    let review = Review::new(&review);
    let verdict = match judge(&client, &review).await {
        Ok(verdict) => verdict,
        Err(error) => Err(Refusal {
            code: 500,
            reason: "InternalError",
            message: format!("the stand-in for virt-api: {error:#}"),
        }),
    };
    review.answer(verdict.map(|()| None))
}

async fn judge(client: &Client, review: &Review) -> anyhow::Result<Result<(), Refusal>> {
    let request = review.request();
    let seen = Seen::look(client, review).await?;
    if request.resource != "pods" {
        return Ok(validate(&request, review.object(), &seen));
    }
    let EvictionVerdict::Evacuates { vmi, patch, refusal } = judge_eviction(&request, review.object(), &seen) else {
        return Ok(Ok(()));
    };
    if let Some(patch) = patch {
        let vmis: Api<VirtualMachineInstance> = Api::namespaced(client.clone(), request.namespace);
        vmis.patch(&vmi, &PatchParams::default(), &Patch::Merge(patch)).await.context("marking the VMI")?;
    }
    Ok(Err(refusal))
}

/// Objects of a kind with all their fields, not only those that we have types for.
fn whole<K>(client: &Client, namespace: &str) -> Api<DynamicObject>
where
    K: kube::Resource<DynamicType = ()>,
{
    Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<K>(&()))
}

/// What one judgement may ask for, looked up beforehand.
#[derive(Default)]
struct Seen {
    pod: Option<Value>,
    vmi: Option<Value>,
    migrations: Vec<Value>,
    default_eviction_strategy: Option<String>,
}

impl Seen {
    async fn look(client: &Client, review: &Review) -> anyhow::Result<Self> {
        let request = review.request();
        let mut seen = Self::default();
        let vmi = match (request.resource, request.operation) {
            ("virtualmachineinstancemigrations", Operation::Create) => {
                let vmi = review.text("/object/spec/vmiName").to_owned();
                let migrations = whole::<VirtualMachineInstanceMigration>(client, request.namespace);
                let of_vmi = ListParams::default().labels(&format!("{VMI_NAME}={vmi}"));
                for migration in migrations.list(&of_vmi).await? {
                    seen.migrations.push(serde_json::to_value(migration)?);
                }
                Some(vmi)
            }
            ("pods", _) => {
                let pods: Api<Pod> = Api::namespaced(client.clone(), request.namespace);
                let pod = pods.get_opt(request.name).await?;
                let vmi = pod.as_ref().and_then(|pod| pod.metadata.annotations.as_ref()?.get(DOMAIN).cloned());
                seen.pod = pod.map(serde_json::to_value).transpose()?;
                let installations = whole::<KubeVirt>(client, NAMESPACE);
                for installation in installations.list(&ListParams::default()).await? {
                    let configuration = serde_json::to_value(installation)?;
                    let strategy = configuration.pointer("/spec/configuration/evictionStrategy");
                    seen.default_eviction_strategy = strategy.and_then(Value::as_str).map(str::to_owned);
                }
                vmi
            }
            _ => None,
        };
        if let Some(vmi) = vmi.filter(|vmi| !vmi.is_empty()) {
            let vmis = whole::<VirtualMachineInstance>(client, request.namespace);
            seen.vmi = vmis.get_opt(&vmi).await?.map(serde_json::to_value).transpose()?;
        }
        Ok(seen)
    }
}

impl ReadView for Seen {
    fn vmi(&self, _: &str, _: &str) -> Option<Value> {
        self.vmi.clone()
    }

    fn migrations_of(&self, _: &str, _: &str) -> Vec<Value> {
        self.migrations.clone()
    }

    fn pod(&self, _: &str, _: &str) -> Option<Value> {
        self.pod.clone()
    }

    fn default_eviction_strategy(&self) -> Option<String> {
        self.default_eviction_strategy.clone()
    }
}
