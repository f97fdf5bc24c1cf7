//! virt-controller's migration controller: what [`super::phases`] says, carried out.

use super::{
    KubeVirtStandIn, OPEN, Rest,
    events::Severity,
    hands::Hands,
    names::phase,
    phases::{self, ABORT_REQUESTED, Act, QUOTA_REFUSED, Verdict},
    policy, target_of, time,
    writes::{entering, ignore_gone, replacing, with_condition},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, ResourceExt, api::DeleteParams};
use miyako_api::{
    kubevirt::{MigrationState, VirtualMachineInstance, VirtualMachineInstanceMigration as Migration},
    names::kubevirt::{MIGRATION_FINALIZER, MIGRATION_TARGET_NODE},
};
use serde_json::json;
use std::collections::BTreeSet;

/// What is remembered of an open migration between two steps.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// It waits (for a slot, for the old launcher, …) and is looked at again then.
    pub(super) not_before: Option<Timestamp>,
    pub(super) told_unschedulable: bool,
    pub(super) quota_refused: bool,
    /// How often its target could not be created.
    pub(super) failed_creates: u32,
    /// A slot was freed, and this is its place among those that were told.
    pub(super) turn: Option<usize>,
}

/// The order of virt-controller's queue: priority, then age, then name.
fn queue_key(migration: &Migration) -> (std::cmp::Reverse<u32>, Option<Timestamp>, String) {
    let created = migration.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (std::cmp::Reverse(phases::priority(migration)), created, migration.name_any())
}

impl<H: Hands> KubeVirtStandIn<H> {
    /// Looks at every open migration whose time has come.
    pub(super) async fn tend_migrations(&mut self, now: Timestamp) -> Rest {
        self.look_again_after_quotas(now);
        let mut open: Vec<&Migration> = self.migrations.tagged(OPEN).collect();
        if open.is_empty() {
            self.memos.clear();
            return Rest::UntilNews;
        }
        let turn = |migration: &Migration| {
            let memo = migration.metadata.uid.as_deref().and_then(|uid| self.memos.get(uid));
            memo.and_then(|memo| memo.turn).unwrap_or(usize::MAX)
        };
        open.sort_by_key(|migration| (turn(migration), queue_key(migration)));
        let waits = |migration: &Migration| {
            let memo = migration.metadata.uid.as_deref().and_then(|uid| self.memos.get(uid));
            let waits = memo.and_then(|memo| memo.not_before).is_some_and(|then| now < then);
            waits && !phases::is_deleting(migration)
        };
        let due: Vec<Migration> = open.iter().filter(|migration| !waits(migration)).map(|one| (*one).clone()).collect();
        let uids: BTreeSet<&str> = open.iter().filter_map(|migration| migration.metadata.uid.as_deref()).collect();
        self.memos.retain(|uid, _| uids.contains(uid.as_str()));
        for migration in &due {
            let uid = migration.uid().unwrap_or_default();
            self.wait(&uid, None);
            self.memos.entry(uid.clone()).or_default().turn = None;
            if let Err(error) = self.tend_migration(migration, now).await {
                tracing::debug!(%error, migration = %migration.name_any(), "virt-controller tries again");
                self.wait(&uid, now.checked_add(self.timing.retry).ok());
            }
        }
        let soon = now.checked_add(self.timing.watch).unwrap_or(now);
        let due_soon = self.memos.values().any(|memo| memo.not_before.is_some_and(|then| then < soon));
        if due_soon { Rest::Soon } else { Rest::Watching }
    }

    pub(super) fn wait(&mut self, uid: &str, until: Option<Timestamp>) {
        self.memos.entry(uid.to_owned()).or_default().not_before = until;
    }

    async fn tend_migration(&mut self, migration: &Migration, now: Timestamp) -> kube::Result<()> {
        let namespace = migration.namespace().unwrap_or_default();
        let Some(vmi) = self.vmis.get(&namespace, &migration.spec.vmi_name).cloned() else {
            return self.drop_orphan(migration).await;
        };
        let target = self.target_pod(migration).cloned();
        let current = self.may_migrate(migration, &vmi);
        if current {
            let act = phases::act(migration, &vmi, target.as_ref());
            self.carry_out(act, migration, &vmi, target.as_ref(), now).await?;
        }
        let vmi = self.vmis.get(&namespace, &migration.spec.vmi_name).cloned().unwrap_or(vmi);
        let target = self.target_pod(migration).cloned();
        let verdict = if !current && phases::phase_of(migration).is_empty() {
            let event = "VMI is not eligible for migration because another migration job is in progress.";
            Verdict::Fail { event, aborted: false }
        } else {
            phases::verdict(migration, &vmi, target.as_ref())
        };
        self.settle(verdict, migration, &vmi, now).await
    }

    pub(super) fn target_pod(&self, migration: &Migration) -> Option<&Pod> {
        self.launchers.tagged(&target_of(migration.metadata.uid.as_deref()?)).next()
    }

    /// No other migration of this VM is under way (`canMigrateVMI`).
    fn may_migrate(&self, migration: &Migration, vmi: &VirtualMachineInstance) -> bool {
        let state = vmi.status.as_ref().and_then(|status| status.migration_state.as_ref());
        let Some(uid) = state.and_then(|state| state.migration_uid.as_deref()) else { return true };
        if migration.metadata.uid.as_deref() == Some(uid) {
            return true;
        }
        let tag = super::moves(&migration.namespace().unwrap_or_default(), &migration.spec.vmi_name);
        let other = self.migrations.tagged(&tag).find(|other| other.metadata.uid.as_deref() == Some(uid));
        other.is_none_or(phases::is_final)
    }

    async fn carry_out(
        &mut self,
        act: Act,
        migration: &Migration,
        vmi: &VirtualMachineInstance,
        target: Option<&Pod>,
        now: Timestamp,
    ) -> kube::Result<()> {
        match (act, target) {
            (Act::Nothing, _) | (Act::DeleteTarget | Act::AwaitTarget | Act::HandOff, None) => Ok(()),
            (Act::DeleteTarget, Some(pod)) => {
                let message = format!(
                    "migration canceled and pod {}/{} is deleted",
                    vmi.namespace().unwrap_or_default(),
                    pod.name_any()
                );
                self.delete_target(migration, pod, message, now).await
            }
            (Act::CreateTarget, _) => self.create_target(migration, vmi, now).await,
            (Act::AwaitTarget, Some(pod)) => self.await_target(migration, vmi, pod, now).await,
            (Act::HandOff, Some(pod)) => self.hand_off(migration, vmi, pod, now).await,
            (Act::MarkFailed, _) => self.mark_failed(migration, vmi, now).await,
            (Act::RequestAbort, _) => {
                let patch = json!({"status": {"migrationState": {"abortRequested": true}}});
                self.patch_vmi_as_controller(vmi, patch).await?;
                let message = "Migration is ready to be canceled by virt-handler.".to_owned();
                self.controller_events
                    .tell(migration, Severity::Normal, "SuccessfulAbortMigration", message, now)
                    .await;
                Ok(())
            }
        }
    }

    /// Tells the virt-handlers, by the VMI's status and label, and settles how the VM is to be moved.
    async fn hand_off(
        &mut self,
        migration: &Migration,
        vmi: &VirtualMachineInstance,
        pod: &Pod,
        now: Timestamp,
    ) -> kube::Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.clients.virt_controller.clone());
        let namespace = namespaces.get(&vmi.namespace().unwrap_or_default()).await?;
        let policy = policy::best_match(self.policies.all(), vmi.labels(), namespace.labels());
        let cluster = policy::cluster_configuration(self.installation.all().next());
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let known = migration.status.as_ref().and_then(|status| status.migration_state.as_ref());
        let source_pod = known.and_then(|state| state.source_pod.clone());
        let state = MigrationState {
            migration_uid: migration.uid(),
            source_node: vmi.status.as_ref().and_then(|status| status.node_name.clone()),
            source_pod: source_pod.or_else(|| self.current_launcher(vmi).map(ResourceExt::name_any)),
            target_node: node.clone(),
            target_pod: Some(pod.name_any()),
            migration_policy_name: policy.map(ResourceExt::name_any),
            migration_configuration: Some(policy::configuration(&cluster, policy)),
            ..MigrationState::default()
        };
        let old = vmi.status.as_ref().and_then(|status| status.migration_state.as_ref());
        let patch = json!({
            "metadata": {"labels": {MIGRATION_TARGET_NODE: node}},
            "status": {"migrationState": replacing(old, &state)},
        });
        self.patch_vmi_as_controller(vmi, patch).await?;
        let message = "Migration target pod is ready for preparation by virt-handler.".to_owned();
        self.controller_events.tell(migration, Severity::Normal, "SuccessfulHandOver", message, now).await;
        Ok(())
    }

    async fn mark_failed(
        &mut self,
        migration: &Migration,
        vmi: &VirtualMachineInstance,
        now: Timestamp,
    ) -> kube::Result<()> {
        let Some(state) = phases::own_state(vmi, migration) else { return Ok(()) };
        let reason = state.failure_reason.clone().unwrap_or_else(|| "Target pod is down".into());
        let patch = json!({"status": {"migrationState": {
            "failed": true,
            "completed": true,
            "startTimestamp": state.start_timestamp.clone().unwrap_or_else(|| time(now)),
            "endTimestamp": state.end_timestamp.clone().unwrap_or_else(|| time(now)),
            "failureReason": reason,
        }}});
        self.patch_vmi_as_controller(vmi, patch).await
    }

    async fn settle(
        &mut self,
        verdict: Verdict,
        migration: &Migration,
        vmi: &VirtualMachineInstance,
        now: Timestamp,
    ) -> kube::Result<()> {
        match verdict {
            Verdict::Stay => Ok(()),
            Verdict::Phase(next) => {
                let mut status = entering(migration, next, now);
                if next == phase::PENDING {
                    let pod = self.current_launcher(vmi).map(ResourceExt::name_any);
                    status["migrationState"] = json!({"sourcePod": pod});
                }
                if next == phase::SCHEDULED && phases::has_condition(migration, QUOTA_REFUSED) {
                    status["conditions"] = json!([]);
                }
                self.patch_migration(migration, "status", status).await?;
                if next == phase::SUCCEEDED {
                    let message = "Source node reported migration succeeded".to_owned();
                    self.controller_events.tell(migration, Severity::Normal, "SuccessfulMigration", message, now).await;
                    self.let_next_in(migration, now);
                }
                Ok(())
            }
            Verdict::Fail { event, aborted } => {
                let mut status = entering(migration, phase::FAILED, now);
                if aborted && !phases::has_condition(migration, ABORT_REQUESTED) {
                    status["conditions"] = with_condition(migration, ABORT_REQUESTED, now)["conditions"].take();
                }
                self.patch_migration(migration, "status", status).await?;
                self.controller_events.tell(migration, Severity::Warning, "FailedMigration", event.into(), now).await;
                self.let_next_in(migration, now);
                Ok(())
            }
            Verdict::NoteAbort => {
                self.patch_migration(migration, "status", with_condition(migration, ABORT_REQUESTED, now)).await
            }
            Verdict::Finish => self.finish(migration, vmi).await,
        }
    }

    /// The VMI's account of a finished migration is kept in the VMIM, which may go from now on.
    async fn finish(&mut self, migration: &Migration, vmi: &VirtualMachineInstance) -> kube::Result<()> {
        if let Some(state) = phases::own_state(vmi, migration) {
            let kept = migration.status.as_ref().and_then(|status| status.migration_state.as_ref());
            if kept != Some(state) {
                // virt-handlers have not told the end yet: the account would be incomplete.
                if !state.completed {
                    return Ok(());
                }
                self.patch_migration(migration, "status", json!({"migrationState": state})).await?;
            }
        }
        let rest: Vec<&String> = migration.finalizers().iter().filter(|name| *name != MIGRATION_FINALIZER).collect();
        if rest.len() < migration.finalizers().len() {
            let patch = json!({"metadata": {"finalizers": rest}});
            self.patch_migration(migration, "", patch).await?;
        }
        self.collect_finished(vmi).await
    }

    /// The VM is gone: so is every wish to move it.
    async fn drop_orphan(&mut self, migration: &Migration) -> kube::Result<()> {
        if phases::is_deleting(migration) {
            return self.patch_migration(migration, "", json!({"metadata": {"finalizers": null}})).await;
        }
        let api: Api<Migration> = self.controller_api(&migration.namespace().unwrap_or_default());
        ignore_gone(api.delete(&migration.name_any(), &DeleteParams::default()).await)
    }
}
