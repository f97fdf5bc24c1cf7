//! KubeVirt on the control plane: its real CRDs, its accounts, and the stand-in that plays virt-api, virt-controller
//! and every virt-handler ([`miyako::sim::kubevirt`]).
//!
//! The stand-in's admission is served to the real API server as HTTPS webhooks ([`webhooks`]); everything else of it
//! talks to the API server as KubeVirt's own accounts do.

mod accounts;
mod webhooks;

use crate::control_plane::objects;
use crate::scene::Scene;
use crate::wait::{Look, until};
use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use miyako::sim::kubevirt::create::{self, VmSpec};
use miyako::sim::kubevirt::{Clients, Clock, ClockSettings, Hands, KubeVirtStandIn, NAMESPACE, Timing};
use miyako_api::kubevirt::VirtualMachineInstance;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// KubeVirt as a scenario sees it.
pub struct KubeVirt {
    clients: Clients,
    admin: Client,
}

impl KubeVirt {
    /// Installs KubeVirt and plays it until the scenario ends. `migrations` becomes the KubeVirt CR's
    /// `spec.configuration.migrations`; `clock` says how fast migrations are; `hands` may arrange faults before
    /// anything begins.
    ///
    /// # Errors
    /// When the API server refuses any of it.
    pub async fn install(
        scene: &Scene,
        migrations: Value,
        clock: ClockSettings,
        hands: impl FnOnce(&mut Clock),
    ) -> anyhow::Result<Self> {
        let mut clock = Clock::new(clock, 1);
        hands(&mut clock);
        Self::install_with(scene, migrations, clock).await
    }

    /// The same with hands of any kind.
    ///
    /// # Errors
    /// When the API server refuses any of it.
    pub async fn install_with(scene: &Scene, migrations: Value, hands: impl Hands + 'static) -> anyhow::Result<Self> {
        let admin = scene.admin();
        scene.install_kubevirt_crds().await?;
        accounts::create(&admin).await?;
        create::installation(&admin, migrations).await?;
        let clients = Clients {
            virt_controller: accounts::client(scene, accounts::VIRT_CONTROLLER).await?,
            virt_handler: accounts::client(scene, accounts::VIRT_HANDLER).await?,
            kubelet: accounts::client(scene, accounts::KUBELETS).await?,
        };
        webhooks::serve(scene, accounts::client(scene, accounts::VIRT_API).await?).await?;
        objects::apply(&admin, &[virt_handlers()]).await?;
        let stand_in = KubeVirtStandIn::new(clients.clone(), hands, Arc::new(Timestamp::now), Timing::default());
        scene.play(stand_in.run());
        Ok(Self { clients, admin })
    }

    /// Makes a VM that runs on a node.
    ///
    /// # Errors
    /// When the API server refuses any of it.
    pub async fn running_vm(&self, spec: &VmSpec, node: &str) -> anyhow::Result<VirtualMachineInstance> {
        create::running_vm(&self.clients, &self.admin, spec, node, Timestamp::now())
            .await
            .with_context(|| format!("the VM {}/{} on {node}", spec.namespace, spec.name))
    }

    /// Waits until a virt-handler is ready on each of the nodes.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn wait_for_handlers(&self, nodes: &[&str]) -> anyhow::Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.admin.clone(), NAMESPACE);
        let handlers = ListParams::default().labels("kubevirt.io=virt-handler");
        until("every node has a virt-handler", Duration::from_mins(1), || async {
            let mut missing: Vec<&str> = nodes.to_vec();
            for pod in pods.list(&handlers).await? {
                let running = pod.status.and_then(|status| status.phase).as_deref() == Some("Running");
                let node = pod.spec.and_then(|spec| spec.node_name).unwrap_or_default();
                missing.retain(|name| !running || *name != node);
            }
            Ok(Look::holds(missing.is_empty(), format!("none on {missing:?}")))
        })
        .await
    }
}

/// The DaemonSet: its pods are placed by Kubernetes and run by kwok; what they do, the stand-in does.
fn virt_handlers() -> Value {
    let labels = json!({ "kubevirt.io": "virt-handler" });
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": { "namespace": NAMESPACE, "name": "virt-handler", "labels": labels },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "serviceAccountName": accounts::VIRT_HANDLER,
                    "tolerations": [{ "key": "CriticalAddonsOnly", "operator": "Exists" }],
                    "containers": [{
                        "name": "virt-handler",
                        "image": "quay.io/kubevirt/virt-handler:v1.9.0",
                        "resources": { "requests": { "cpu": "10m", "memory": "357Mi" } },
                    }],
                },
            },
        },
    })
}
