//! virt-controller's evacuation controller: VMs that were marked by an eviction are migrated away.
//! Source: `pkg/virt-controller/watch/drain/evacuation/evacuation.go`.

use super::{EVACUATING, KubeVirtStandIn, Rest, hands::Hands, moves, phases};
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use miyako_api::{
    kubevirt::{
        VirtualMachineInstance, VirtualMachineInstanceMigration as Migration, VirtualMachineInstanceMigrationSpec,
    },
    names::kubevirt::{EVACUATION_MIGRATION, EVICTION_SOURCE},
};
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
