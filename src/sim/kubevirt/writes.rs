//! How KubeVirt's accounts write: patches that hold only for the object that was looked at, and what they say.

use super::{KubeVirtStandIn, hands::Hands, time};
use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use miyako_api::answer::is_absent;
use miyako_api::kubevirt::{
    MigrationState, PhaseTransition, VirtualMachineInstance, VirtualMachineInstanceMigration as Migration,
};
use serde_json::{Value, json};

/// That something is gone already is as good as deleting it.
pub(super) fn ignore_gone<T>(answer: kube::Result<T>) -> kube::Result<()> {
    match answer {
        Err(error) if !is_absent(&error) => Err(error),
        _ => Ok(()),
    }
}

impl<H: Hands> KubeVirtStandIn<H> {
    pub(super) fn controller_api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.clients.virt_controller.clone(), namespace)
    }

    /// Patches a VMIM, or its status, if it is still that one.
    pub(super) async fn patch_migration(
        &mut self,
        migration: &Migration,
        subresource: &str,
        patch: Value,
    ) -> kube::Result<()> {
        let api: Api<Migration> = self.controller_api(&migration.namespace().unwrap_or_default());
        let (name, params) = (migration.name_any(), PatchParams::default());
        let answer = if subresource == "status" {
            let patch = json!({"metadata": {"uid": migration.metadata.uid}, "status": patch});
            api.patch_status(&name, &params, &Patch::Merge(patch)).await
        } else {
            let mut patch = patch;
            patch["metadata"]["uid"] = json!(migration.metadata.uid);
            api.patch(&name, &params, &Patch::Merge(patch)).await
        };
        self.acted = true;
        match answer {
            // With its last finalizer a deleted object goes; the watch tells.
            Ok(answer) if answer.metadata.deletion_timestamp.is_some() && answer.finalizers().is_empty() => Ok(()),
            Ok(answer) => {
                self.migrations.put(answer);
                Ok(())
            }
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn patch_vmi_as_controller(
        &mut self,
        vmi: &VirtualMachineInstance,
        patch: Value,
    ) -> kube::Result<()> {
        let api = self.controller_api(&vmi.namespace().unwrap_or_default());
        self.patch_vmi(api, vmi, patch).await
    }

    /// Patches a VMI if it is still that one. It has no status subresource.
    pub(super) async fn patch_vmi(
        &mut self,
        api: Api<VirtualMachineInstance>,
        vmi: &VirtualMachineInstance,
        mut patch: Value,
    ) -> kube::Result<()> {
        patch["metadata"]["uid"] = json!(vmi.metadata.uid);
        self.acted = true;
        match api.patch(&vmi.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(answer) => {
                if answer.metadata.deletion_timestamp.is_none() || !answer.finalizers().is_empty() {
                    self.vmis.put(answer);
                }
                Ok(())
            }
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The status with a phase entered now.
pub(super) fn entering(migration: &Migration, next: &str, now: Timestamp) -> Value {
    let mut transitions =
        migration.status.as_ref().map(|status| status.phase_transition_timestamps.clone()).unwrap_or_default();
    transitions.push(PhaseTransition { phase: next.to_owned(), phase_transition_timestamp: time(now) });
    json!({"phase": next, "phaseTransitionTimestamps": transitions})
}

/// The status with one more condition.
pub(super) fn with_condition(migration: &Migration, kind: &str, now: Timestamp) -> Value {
    let conditions = migration.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
    let mut conditions: Vec<Value> = conditions.iter().map(|condition| json!(condition)).collect();
    conditions.push(json!({"type": kind, "status": "True", "lastProbeTime": time(now), "lastTransitionTime": null}));
    json!({"conditions": conditions})
}

/// A merge patch that leaves nothing of an old migration's state.
pub(super) fn replacing(old: Option<&MigrationState>, new: &MigrationState) -> Value {
    let mut patch = json!(new);
    if let (Value::Object(patch), Value::Object(old)) = (&mut patch, json!(old)) {
        for key in old.keys() {
            patch.entry(key).or_insert(Value::Null);
        }
        // Settings that the old migration had and the new one has not must not shine through either.
        if let (Some(Value::Object(patch)), Some(Value::Object(old))) =
            (patch.get_mut("migrationConfiguration"), old.get("migrationConfiguration"))
        {
            for key in old.keys() {
                patch.entry(key).or_insert(Value::Null);
            }
        }
    }
    patch
}
