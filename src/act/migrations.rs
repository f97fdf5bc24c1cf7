//! Migrations: the VMI's one label, our two MigrationPolicies, and VirtualMachineInstanceMigrations.

use super::error::Attempt as _;
use super::{ActError, Actor, Class};
use crate::observe::convert::migration_policy::{is_as_wanted, mode_label, wanted};
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use miyako_api::answer::{Absent, absent};
use miyako_api::kubevirt::{
    MigrationPolicy, VirtualMachineInstance, VirtualMachineInstanceMigration, VirtualMachineInstanceMigrationSpec,
};
use miyako_api::names::{kubernetes, manager, ours};
use miyako_core::model::{MigrationMode, MigrationName, PlanName, PolicyName, Uid, VmKey};
use serde_json::json;
use std::collections::BTreeMap;

impl Actor {
    /// Makes a VMI's `miyako.dev/migration-mode` say how its next migration moves it.
    ///
    /// # Errors
    /// See [`ActError::class`]; `Conflict` if the VMI is another one by now.
    pub async fn label_vm(&self, vm: &VmKey, uid: &Uid, mode: MigrationMode) -> Result<(), ActError> {
        self.patch_label(vm, uid, Some(mode)).await
    }

    /// Takes that label off again. A VMI that is gone, or another one by now, has none of ours.
    ///
    /// # Errors
    /// See [`ActError::class`].
    pub async fn unlabel_vm(&self, vm: &VmKey, uid: &Uid) -> Result<(), ActError> {
        match self.patch_label(vm, uid, None).await {
            Err(error) if error.class() == Class::Conflict => Ok(()),
            answer => answer,
        }
    }

    async fn patch_label(&self, vm: &VmKey, uid: &Uid, mode: Option<MigrationMode>) -> Result<(), ActError> {
        let api: Api<VirtualMachineInstance> = Api::namespaced(self.writer()?, vm.namespace.as_str());
        let patch = json!({ "metadata": { "uid": uid, "labels": { ours::MIGRATION_MODE: mode.map(mode_label) } } });
        let params = PatchParams { field_manager: Some(manager::MIGRATION_MODE.into()), ..PatchParams::default() };
        api.patch_metadata(vm.name.as_str(), &params, &Patch::Merge(&patch)).await.attempt(|| match mode {
            Some(_) => format!("label VirtualMachineInstance {vm} with its migration mode"),
            None => format!("take the migration mode off VirtualMachineInstance {vm}"),
        })?;
        Ok(())
    }

    /// Makes sure that our MigrationPolicy of this mode is there and says what it must and nothing else: read first,
    /// because it nearly always does. One that somebody changed is replaced: an apply would leave their fields, and their
    /// keys in its selectors. Whether that was so.
    ///
    /// # Errors
    /// See [`ActError::class`]; `Conflict` if it is not as it must be all the same.
    pub async fn ensure_migration_policy(&self, mode: MigrationMode) -> Result<bool, ActError> {
        let mut policy = wanted(mode);
        let name = policy.metadata.name.clone().unwrap_or_default();
        let api: Api<MigrationPolicy> = Api::all(self.writer()?);
        let found = api.get_opt(&name).await.attempt(|| format!("read MigrationPolicy {name}"))?;
        let params = PostParams { field_manager: Some(manager::OPERATOR.into()), ..PostParams::default() };
        let changed = found.is_some();
        let mut written = match found {
            Some(found) if is_as_wanted(&found, mode) => return Ok(false),
            Some(found) => {
                tracing::warn!(policy = name, "somebody changed our MigrationPolicy; it is replaced");
                let labels = policy.metadata.labels.take().into_iter().flatten();
                policy.metadata = found.metadata;
                policy.metadata.managed_fields = None;
                policy.metadata.labels.get_or_insert_default().extend(labels);
                api.replace(&name, &params, &policy).await.attempt(|| format!("replace MigrationPolicy {name}"))?
            }
            None => api.create(&params, &policy).await.attempt(|| format!("create MigrationPolicy {name}"))?,
        };
        // Defaults of a later KubeVirt are nobody's change.
        written.spec.others.clear();
        if written.spec == policy.spec {
            Ok(changed)
        } else {
            Err(ActError::Changed(format!("MigrationPolicy {name} does not become what it must be")))
        }
    }

    /// Asks KubeVirt to move a VM to the node whose label `kubernetes.io/hostname` is `hostname`. An object of this name that is there already is the same wish.
    ///
    /// A VMIM names its VMI by name alone, so the VMI is read directly first: one that was deleted and made again under
    /// the same name, which the cache need not show yet, is not moved.
    ///
    /// # Errors
    /// See [`ActError::class`]; `Refused` with KubeVirt's words if it will not, `Conflict` if the VMI is another one.
    pub async fn migrate(
        &self,
        name: &MigrationName,
        vm: &VmKey,
        uid: &Uid,
        hostname: &str,
        plan: &PlanName,
        policy: &PolicyName,
    ) -> Result<VirtualMachineInstanceMigration, ActError> {
        let api: Api<VirtualMachineInstanceMigration> = Api::namespaced(self.writer()?, name.namespace.as_str());
        let object = VirtualMachineInstanceMigration {
            metadata: ObjectMeta {
                name: Some(name.name.to_string()),
                namespace: Some(name.namespace.to_string()),
                labels: Some(BTreeMap::from([
                    (ours::MANAGED_BY.into(), ours::MIYAKO.into()),
                    (ours::PLAN.into(), plan.to_string()),
                    (ours::POLICY.into(), policy.to_string()),
                ])),
                ..ObjectMeta::default()
            },
            spec: VirtualMachineInstanceMigrationSpec {
                vmi_name: vm.name.to_string(),
                added_node_selector: BTreeMap::from([(kubernetes::HOSTNAME.into(), hostname.to_owned())]),
                priority: None,
            },
            status: None,
        };
        self.read_same_vm(vm, uid).await?;
        let params = PostParams { field_manager: Some(manager::OPERATOR.into()), ..PostParams::default() };
        match api.create(&params, &object).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                api.get(name.name.as_str()).await.attempt(|| format!("read VirtualMachineInstanceMigration {name}"))
            }
            created => created.attempt(|| format!("create VirtualMachineInstanceMigration {name}")),
        }
    }

    async fn read_same_vm(&self, vm: &VmKey, uid: &Uid) -> Result<(), ActError> {
        let api: Api<VirtualMachineInstance> = Api::namespaced(self.writer()?, vm.namespace.as_str());
        let found = api.get_metadata(vm.name.as_str()).await;
        let found = found.attempt(|| format!("read VirtualMachineInstance {vm} before it is moved"))?.metadata;
        if found.uid.as_deref() != Some(uid.as_str()) {
            let message = format!("VirtualMachineInstance {vm} was made anew since its move was decided");
            return Err(ActError::Changed(message));
        }
        if found.deletion_timestamp.is_some() {
            return Err(ActError::Changed(format!("VirtualMachineInstance {vm} is being deleted")));
        }
        Ok(())
    }

    /// Deletes a migration of ours, which aborts it: what is left of it until KubeVirt's finalizer lets it go. One that
    /// is gone is deleted.
    ///
    /// # Errors
    /// See [`ActError::class`].
    pub async fn abort(
        &self,
        name: &MigrationName,
        uid: &Uid,
    ) -> Result<Option<VirtualMachineInstanceMigration>, ActError> {
        let api: Api<VirtualMachineInstanceMigration> = Api::namespaced(self.writer()?, name.namespace.as_str());
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(uid.to_string()), ..Preconditions::default() }),
            ..DeleteParams::default()
        };
        match api.delete(name.name.as_str(), &params).await {
            Err(error) if absent(&error) == Some(Absent::Object) => Ok(None),
            deleted => {
                let left = deleted.attempt(|| format!("delete VirtualMachineInstanceMigration {name}"))?;
                Ok(left.left())
            }
        }
    }
}
