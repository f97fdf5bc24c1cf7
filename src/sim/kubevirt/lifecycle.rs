//! virt-controller's VMI controller, as far as stands need it: launchers of new VMs, `activePods`, and the end of VMs.

use super::{
    KubeVirtStandIn, Rest, create::running_status, created_by, events::Severity, hands::Hands, launcher, moves,
    names::VMI_FINALIZER, phases, writes::ignore_gone,
};
use crate::sim::watched::ObjectKey;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use miyako_api::{
    kubevirt::{VirtualMachineInstance, VirtualMachineInstanceMigration as Migration},
    names::kubevirt::{CREATED_BY, NODE_NAME},
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

impl<H: Hands> KubeVirtStandIn<H> {
    /// Looks at every VM that changed, or whose launchers did.
    pub(super) async fn tend_vms(&mut self, now: Timestamp) -> Rest {
        let mut changed: BTreeSet<ObjectKey> = self.vmis.take_changed();
        changed.append(&mut self.again);
        for (namespace, pod) in self.launchers.take_changed() {
            let domain = self
                .launchers
                .get(&namespace, &pod)
                .and_then(|pod| pod.annotations().get(miyako_api::names::kubevirt::DOMAIN).cloned());
            // A launcher that is gone leaves its VM's name in its own.
            let name = domain.or_else(|| Some(pod.strip_prefix("virt-launcher-")?.rsplit_once('-')?.0.to_owned()));
            changed.extend(name.map(|name| (namespace, name)));
        }
        for (namespace, name) in changed {
            let outcome = match self.vmis.get(&namespace, &name).cloned() {
                Some(vmi) => self.tend_vm(&vmi, now).await,
                None => self.forget_vm(&namespace, &name).await,
            };
            if let Err(error) = outcome {
                tracing::debug!(%error, vmi = %name, "virt-controller tries again");
                self.again.insert((namespace, name));
            }
        }
        if self.again.is_empty() { Rest::UntilNews } else { Rest::Retry }
    }

    async fn tend_vm(&mut self, vmi: &VirtualMachineInstance, now: Timestamp) -> kube::Result<()> {
        let uid = vmi.uid().unwrap_or_default();
        if vmi.metadata.deletion_timestamp.is_some() {
            self.note_eviction(vmi, now).await?;
            return self.end_vm(vmi, now).await;
        }
        let status = vmi.status.clone().unwrap_or_default();
        let first = self.active_launchers(&uid).next().cloned();
        match (phases::vmi_phase(vmi), first) {
            ("Pending", None) if status.node_name.is_none() => return self.start_vm(vmi, now).await,
            ("Pending", Some(pod)) if phases::is_ready(&pod) => return self.run_vm(vmi, &pod, now).await,
            ("Running", _) if status.node_name.is_some() && self.current_launcher(vmi).is_none() => {
                return self.fail_vm(vmi).await;
            }
            _ => {}
        }
        self.note_eviction(vmi, now).await?;
        self.label_launcher(vmi).await?;
        // KubeVirt lists what exists, finished launchers and failed targets too (`setActivePods`).
        let active: BTreeMap<String, String> = self
            .launchers
            .tagged(&created_by(&uid))
            .map(|pod| {
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
                (pod.uid().unwrap_or_default(), node.unwrap_or_default())
            })
            .collect();
        if active == status.active_pods {
            return Ok(());
        }
        let mut patch: BTreeMap<String, Value> = status.active_pods.into_keys().map(|pod| (pod, Value::Null)).collect();
        patch.extend(active.into_iter().map(|(pod, node)| (pod, json!(node))));
        self.patch_vmi_as_controller(vmi, json!({"status": {"activePods": patch}})).await
    }

    async fn start_vm(&mut self, vmi: &VirtualMachineInstance, now: Timestamp) -> kube::Result<()> {
        match launcher::launcher(vmi) {
            Ok(pod) => {
                let api: Api<Pod> = self.controller_api(&vmi.namespace().unwrap_or_default());
                let pod = api.create(&PostParams::default(), &pod).await?;
                self.launchers.put(pod);
            }
            Err(error) => {
                let message = format!("failed to render launch manifest: {error}");
                self.vmi_events.tell(vmi, Severity::Warning, "FailedCreate", message, now).await;
            }
        }
        Ok(())
    }

    async fn run_vm(&mut self, vmi: &VirtualMachineInstance, pod: &Pod, now: Timestamp) -> kube::Result<()> {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        let mut status = running_status(&node, true, now);
        status["phase"] = json!("Running");
        status["activePods"] = json!({pod.uid().unwrap_or_default(): node});
        let patch = json!({"metadata": {"labels": {NODE_NAME: node}}, "status": status});
        self.patch_vmi_as_handler(vmi, patch).await
    }

    /// Its launcher is gone, and the guest with it: evicted, deleted, lost with its node.
    ///
    /// Two watches tell of the VMI and of its launcher, and either may lag. So both are read anew first: a VM that has
    /// just begun, or has just moved, runs on.
    async fn fail_vm(&mut self, vmi: &VirtualMachineInstance) -> kube::Result<()> {
        let namespace = vmi.namespace().unwrap_or_default();
        let vmis: Api<VirtualMachineInstance> = self.controller_api(&namespace);
        let Some(vmi) = vmis.get_opt(&vmi.name_any()).await?.filter(|now| now.uid() == vmi.uid()) else {
            return Ok(());
        };
        let node = vmi.status.as_ref().and_then(|status| status.node_name.as_deref());
        let pods: Api<Pod> = self.controller_api(&namespace);
        let own = ListParams::default().labels(&format!("{CREATED_BY}={}", vmi.uid().unwrap_or_default()));
        let launchers = pods.list(&own).await?.items;
        let is_here = |pod: &&Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == node;
        if launchers.iter().filter(is_here).any(|pod| !phases::is_down(pod)) {
            return Ok(());
        }
        let rest: Vec<&String> = vmi.finalizers().iter().filter(|name| *name != VMI_FINALIZER).collect();
        let patch = json!({"metadata": {"finalizers": rest}, "status": {"phase": "Failed"}});
        self.patch_vmi_as_controller(&vmi, patch).await
    }

    /// A target is born with its source's node in a label; once the VM has come there, virt-controller corrects it.
    async fn label_launcher(&mut self, vmi: &VirtualMachineInstance) -> kube::Result<()> {
        let node = vmi.status.as_ref().and_then(|status| status.node_name.clone());
        let Some(pod) = self.current_launcher(vmi).filter(|pod| pod.labels().get(NODE_NAME) != node.as_ref()) else {
            return Ok(());
        };
        let name = pod.name_any();
        self.patch_launcher(vmi, &name, json!({"metadata": {"labels": {NODE_NAME: node}}})).await
    }

    pub(super) async fn patch_launcher(
        &mut self,
        vmi: &VirtualMachineInstance,
        pod: &str,
        patch: Value,
    ) -> kube::Result<()> {
        let api: Api<Pod> = self.controller_api(&vmi.namespace().unwrap_or_default());
        match api.patch(pod, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(pod) => {
                self.launchers.put(pod);
                self.acted = true;
                Ok(())
            }
            other => ignore_gone(other),
        }
    }

    /// The VM was deleted: once its guest has shut down its launchers go, a migration's target first; then it ends,
    /// then it goes.
    async fn end_vm(&mut self, vmi: &VirtualMachineInstance, now: Timestamp) -> kube::Result<()> {
        let deleted = vmi.metadata.deletion_timestamp.as_ref().map_or(now, |deleted| deleted.0);
        if now < deleted.checked_add(self.timing.shutdown).unwrap_or(now) {
            self.again.insert((vmi.namespace().unwrap_or_default(), vmi.name_any()));
            return Ok(());
        }
        let uid = vmi.uid().unwrap_or_default();
        let all: BTreeSet<String> = self.launchers.tagged(&created_by(&uid)).map(ResourceExt::name_any).collect();
        if !all.is_empty() {
            let current = self.current_launcher(vmi).map(ResourceExt::name_any);
            let others: Vec<&String> = all.iter().filter(|pod| Some(*pod) != current.as_ref()).collect();
            let pods: Api<Pod> = self.controller_api(&vmi.namespace().unwrap_or_default());
            for pod in if others.is_empty() { all.iter().collect() } else { others } {
                ignore_gone(pods.delete(pod, &DeleteParams::default()).await)?;
            }
            // The watch tells that they are gone.
            return Ok(());
        }
        if !matches!(phases::vmi_phase(vmi), "Succeeded" | "Failed") {
            return self.patch_vmi_as_handler(vmi, json!({"status": {"phase": "Succeeded"}})).await;
        }
        let rest: Vec<&String> = vmi.finalizers().iter().filter(|name| *name != VMI_FINALIZER).collect();
        self.patch_vmi_as_controller(vmi, json!({"metadata": {"finalizers": rest}})).await
    }

    /// The VM is gone, and its finished migrations with it. Unfinished ones see to that themselves.
    async fn forget_vm(&mut self, namespace: &str, name: &str) -> kube::Result<()> {
        let api: Api<Migration> = self.controller_api(namespace);
        let finished: Vec<String> = self
            .migrations
            .tagged(&moves(namespace, name))
            .filter(|migration| phases::is_final(migration) && !phases::is_deleting(migration))
            .map(ResourceExt::name_any)
            .collect();
        for migration in finished {
            ignore_gone(api.delete(&migration, &DeleteParams::default()).await)?;
        }
        Ok(())
    }
}
