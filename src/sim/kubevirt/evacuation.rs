//! virt-controller's evacuation controller: VMs that were marked by an eviction are migrated away.
//! Source: `pkg/virt-controller/watch/drain/evacuation/evacuation.go`.

use super::{EVACUATING, KubeVirtStandIn, Rest, hands::Hands, moves, names::EVICTION_REQUESTED, phases, time};
use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use miyako_api::{
    kubevirt::{
        VirtualMachineInstance, VirtualMachineInstanceMigration as Migration, VirtualMachineInstanceMigrationSpec,
    },
    names::{
        descheduler::EVICTION_IN_PROGRESS,
        kubevirt::{EVACUATION_MIGRATION, EVICTION_SOURCE},
    },
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

impl<H: Hands> KubeVirtStandIn<H> {
    /// Makes a VMIM for every marked VM that has none and can be moved now.
    pub(super) async fn evacuate(&mut self) -> Rest {
        let marked: Vec<VirtualMachineInstance> =
            self.vmis.tagged(EVACUATING).filter(|vmi| self.is_to_leave(vmi)).cloned().collect();
        for vmi in &marked {
            let api: Api<Migration> = self.controller_api(&vmi.namespace().unwrap_or_default());
            match api.create(&PostParams::default(), &evacuation_of(vmi)).await {
                Ok(migration) => {
                    self.migrations.put(migration);
                    self.acted = true;
                }
                Err(error) => tracing::debug!(%error, vmi = %vmi.name_any(), "virt-controller can't evacuate yet"),
            }
        }
        if marked.is_empty() { Rest::UntilNews } else { Rest::Retry }
    }

    /// While the mark of an eviction stands, a condition of the VMI and an annotation of its launcher say so. Whether
    /// anybody moves the VM is another matter.
    pub(super) async fn note_eviction(&mut self, vmi: &VirtualMachineInstance, now: Timestamp) -> kube::Result<()> {
        let Some(status) = &vmi.status else { return Ok(()) };
        let marked = status.evacuation_node_name.as_deref().is_some_and(|node| !node.is_empty());
        if marked {
            let unmarked =
                |pod: &&k8s_openapi::api::core::v1::Pod| !pod.annotations().contains_key(EVICTION_IN_PROGRESS);
            let pod = self.current_launcher(vmi).filter(unmarked).map(ResourceExt::name_any);
            if let Some(pod) = pod {
                let patch = json!({"metadata": {"annotations": {EVICTION_IN_PROGRESS: "true"}}});
                self.patch_launcher(vmi, &pod, patch).await?;
            }
        }
        if marked == status.condition(EVICTION_REQUESTED).is_some() {
            return Ok(());
        }
        let others = status.conditions.iter().filter(|condition| condition.kind != EVICTION_REQUESTED);
        let mut conditions: Vec<Value> = others.map(|condition| json!(condition)).collect();
        if marked {
            conditions.push(json!({
                "type": EVICTION_REQUESTED, "status": "True", "reason": EVICTION_REQUESTED,
                "message": "VMI is marked for eviction", "lastProbeTime": null, "lastTransitionTime": time(now),
            }));
        }
        self.patch_vmi_as_controller(vmi, json!({"status": {"conditions": conditions}})).await
    }

    fn is_to_leave(&self, vmi: &VirtualMachineInstance) -> bool {
        let Some(status) = &vmi.status else { return false };
        let default = || {
            let installation = self.installation.all().next()?;
            installation.spec.configuration.eviction_strategy.clone()
        };
        let strategy = vmi.spec.eviction_strategy.clone().or_else(default);
        let migratable = status.condition("LiveMigratable").is_some_and(|condition| condition.is_true());
        let unfinished = self
            .migrations
            .tagged(&moves(&vmi.namespace().unwrap_or_default(), &vmi.name_any()))
            .any(|migration| !phases::is_final(migration));
        status.evacuation_node_name == status.node_name
            && vmi.metadata.deletion_timestamp.is_none()
            && !matches!(phases::vmi_phase(vmi), "Succeeded" | "Failed")
            && matches!(strategy.as_deref(), Some("LiveMigrate" | "LiveMigrateIfPossible"))
            && migratable
            && !unfinished
            && self.active_launchers(&vmi.uid().unwrap_or_default()).count() <= 1
    }
}

fn evacuation_of(vmi: &VirtualMachineInstance) -> Migration {
    let node = vmi.status.as_ref().and_then(|status| status.node_name.clone()).unwrap_or_default();
    let by_descheduler = vmi.annotations().get(EVICTION_SOURCE).is_some_and(|source| source == "descheduler");
    let priority = if by_descheduler { "system-maintenance" } else { "system-critical" };
    Migration {
        metadata: ObjectMeta {
            generate_name: Some("kubevirt-evacuation-".into()),
            namespace: vmi.namespace(),
            annotations: Some(BTreeMap::from([(EVACUATION_MIGRATION.to_owned(), node)])),
            ..ObjectMeta::default()
        },
        spec: VirtualMachineInstanceMigrationSpec {
            vmi_name: vmi.name_any(),
            priority: Some(priority.into()),
            ..VirtualMachineInstanceMigrationSpec::default()
        },
        status: None,
    }
}
