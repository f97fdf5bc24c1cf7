//! Migrations: the VMI's one label, our two MigrationPolicies, and VirtualMachineInstanceMigrations.

use super::error::Attempt as _;
use super::{ActError, Actor};
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use miyako_api::answer::{Absent, absent};
use miyako_api::kubevirt::{
    MigrationPolicy, MigrationPolicySpec, Selectors, VirtualMachineInstance, VirtualMachineInstanceMigration,
    VirtualMachineInstanceMigrationSpec,
};
use miyako_api::names::{kubernetes, manager, ours};
use miyako_core::model::{MigrationMode, MigrationName, PlanName, PolicyName, Uid, VmKey};
use serde_json::json;
use std::collections::BTreeMap;

/// The earliest switch to post-copy that KubeVirt has, in seconds per GiB; 0 would disable it (`KUBEVIRT.md`,
/// "Post-copy").
const EARLIEST_SWITCH: i64 = 1;

/// The value of the mode label.
#[must_use]
pub(super) fn mode_label(mode: MigrationMode) -> &'static str {
    match mode {
        MigrationMode::PostCopy => ours::POST_COPY,
        MigrationMode::PreCopy => ours::PRE_COPY,
    }
}

impl Actor {
    /// Makes a VMI's `miyako.dev/migration-mode` say how its next migration moves it.
    ///
    /// # Errors
    /// See [`ActError::class`]; `Conflict` if the VMI is another one by now.
    pub async fn label_vm(&self, vm: &VmKey, uid: &Uid, mode: MigrationMode) -> Result<(), ActError> {
        let api: Api<VirtualMachineInstance> = Api::namespaced(self.writer()?, vm.namespace.as_str());
        let patch = json!({ "metadata": { "uid": uid, "labels": { ours::MIGRATION_MODE: mode_label(mode) } } });
        let params = PatchParams { field_manager: Some(manager::MIGRATION_MODE.into()), ..PatchParams::default() };
        api.patch_metadata(vm.name.as_str(), &params, &Patch::Merge(&patch))
            .await
            .attempt(|| format!("label VirtualMachineInstance {vm} with its migration mode"))?;
        Ok(())
    }

    /// Makes sure that our MigrationPolicy of this mode is there and says what it must: read first, because it nearly
    /// always does.
    ///
    /// # Errors
    /// See [`ActError::class`].
    pub async fn ensure_migration_policy(&self, mode: MigrationMode) -> Result<(), ActError> {
        let policy = migration_policy(mode);
        let name = policy.metadata.name.clone().unwrap_or_default();
        let api: Api<MigrationPolicy> = Api::all(self.writer()?);
        let found = api.get_opt(&name).await.attempt(|| format!("read MigrationPolicy {name}"))?;
        if found.is_some_and(|found| found.spec == policy.spec) {
            return Ok(());
        }
        let params = PatchParams::apply(manager::OPERATOR).force();
        api.patch(&name, &params, &Patch::Apply(&policy)).await.attempt(|| format!("apply MigrationPolicy {name}"))?;
        Ok(())
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

fn migration_policy(mode: MigrationMode) -> MigrationPolicy {
    let (name, post_copy) = match mode {
        MigrationMode::PostCopy => (ours::POST_COPY_POLICY, true),
        MigrationMode::PreCopy => (ours::PRE_COPY_POLICY, false),
    };
    let selector = BTreeMap::from([(ours::MIGRATION_MODE.into(), mode_label(mode).into())]);
    MigrationPolicy {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: Some(BTreeMap::from([(ours::MANAGED_BY.into(), ours::MIYAKO.into())])),
            ..ObjectMeta::default()
        },
        spec: MigrationPolicySpec {
            selectors: Selectors { virtual_machine_instance_selector: selector, ..Selectors::default() },
            allow_post_copy: Some(post_copy),
            completion_timeout_per_gib: post_copy.then_some(EARLIEST_SWITCH),
            ..MigrationPolicySpec::default()
        },
    }
}
