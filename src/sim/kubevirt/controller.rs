//! virt-controller's migration controller: what [`super::phases`] says, carried out.

use super::{
    KubeVirtStandIn, OPEN, Rest,
    events::Severity,
    hands::Hands,
    launcher,
    names::{PENDING_TIMEOUT, phase},
    phases::{self, ABORT_REQUESTED, Act, QUOTA_REFUSED, Verdict},
    policy, target_of, time,
    writes::{entering, ignore_gone, replacing, with_condition},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use miyako_api::{
    kubevirt::{MigrationState, VirtualMachineInstance, VirtualMachineInstanceMigration as Migration},
    names::kubevirt::{
        EVACUATION_MIGRATION, MIGRATION_FINALIZER, MIGRATION_TARGET_NODE, TARGET_UNSCHEDULABLE, UNSCHEDULABLE_TIMEOUT,
        WORKLOAD_UPDATE_MIGRATION,
    },
};
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};

/// An unschedulable target is given up after 5 minutes, one that is pending for other reasons after 15.
const UNSCHEDULABLE_SECONDS: i64 = 300;
const PENDING_SECONDS: i64 = 900;
/// The first back-off of an evacuation that failed; it doubles with each failure.
const BACK_OFF: Duration = Duration::from_secs(20);
/// A quota that refused a target is asked again after so long.
const QUOTA_RETRY: Duration = Duration::from_secs(5);

/// What is remembered of an open migration between two steps.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// It waits (for a slot, for the old launcher, …) and is looked at again then.
    not_before: Option<Timestamp>,
    told_unschedulable: bool,
    quota_refused: bool,
}

fn exceeds_quota(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403 && status.message.contains("exceeded quota"))
}

/// The order of virt-controller's queue: priority, then age, then name.
fn queue_key(migration: &Migration) -> (std::cmp::Reverse<u32>, Option<Timestamp>, String) {
    let created = migration.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (std::cmp::Reverse(phases::priority(migration)), created, migration.name_any())
}

impl<H: Hands> KubeVirtStandIn<H> {
    /// Looks at every open migration whose time has come.
    pub(super) async fn tend_migrations(&mut self, now: Timestamp) -> Rest {
        let mut open: Vec<&Migration> = self.migrations.tagged(OPEN).collect();
        if open.is_empty() {
            self.memos.clear();
            return Rest::UntilNews;
        }
        open.sort_by_key(|migration| queue_key(migration));
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
            if let Err(error) = self.tend_migration(migration, now).await {
                tracing::debug!(%error, migration = %migration.name_any(), "virt-controller tries again");
                self.wait(&uid, now.checked_add(self.timing.retry).ok());
            }
        }
        Rest::Watching
    }

    fn wait(&mut self, uid: &str, until: Option<Timestamp>) {
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

    async fn delete_target(
        &mut self,
        migration: &Migration,
        pod: &Pod,
        message: String,
        now: Timestamp,
    ) -> kube::Result<()> {
        if pod.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let api: Api<Pod> = self.controller_api(&pod.namespace().unwrap_or_default());
        ignore_gone(api.delete(&pod.name_any(), &DeleteParams::default()).await)?;
        self.controller_events.tell(migration, Severity::Normal, "SuccessfulDelete", message, now).await;
        Ok(())
    }

    /// The target of a VMIM that has its turn, if there is a slot and the VM can be moved now.
    async fn create_target(
        &mut self,
        migration: &Migration,
        vmi: &VirtualMachineInstance,
        now: Timestamp,
    ) -> kube::Result<()> {
        let uid = migration.uid().unwrap_or_default();
        let status = vmi.status.clone().unwrap_or_default();
        if let Some(until) = self.backed_off_until(migration, vmi).filter(|until| now < *until) {
            self.wait(&uid, Some(until));
            return Ok(());
        }
        let seconds = if self.active_launchers(&vmi.uid().unwrap_or_default()).count() > 1 {
            Some(1)
        } else if !self.has_free_slot(status.node_name.as_deref()) {
            Some(phases::look_again_after(phases::priority(migration)))
        } else if status.selinux_context.as_deref().unwrap_or_default().is_empty() {
            // virt-controller can't render the target's SELinux level, and tries again and again.
            Some(5)
        } else {
            None
        };
        if let Some(seconds) = seconds {
            self.wait(&uid, now.checked_add(Duration::from_secs(seconds)).ok());
            return Ok(());
        }
        if phases::vmi_phase(vmi) != "Running" || self.current_launcher(vmi).is_none() {
            return Ok(());
        }
        let nodes: Api<Node> = Api::all(self.clients.virt_controller.clone());
        let source = nodes.get_opt(status.node_name.as_deref().unwrap_or_default()).await?;
        let pod = match launcher::target(vmi, migration, source.as_ref()) {
            Ok(pod) => pod,
            Err(error) => {
                let message = format!("failed to render launch manifest: {error}");
                self.controller_events.tell(vmi, Severity::Warning, "FailedCreate", message, now).await;
                self.wait(&uid, now.checked_add(self.timing.retry).ok());
                return Ok(());
            }
        };
        let api: Api<Pod> = self.controller_api(&vmi.namespace().unwrap_or_default());
        match api.create(&PostParams::default(), &pod).await {
            Ok(pod) => {
                let message = format!("Created migration target pod {}", pod.name_any());
                self.launchers.put(pod);
                self.acted = true;
                self.controller_events.tell(migration, Severity::Normal, "SuccessfulCreate", message, now).await;
                Ok(())
            }
            Err(error) if exceeds_quota(&error) => {
                self.wait(&uid, now.checked_add(QUOTA_RETRY).ok());
                self.refused_by_quota(migration, vmi, &error, now).await
            }
            Err(error) => Err(error),
        }
    }

    async fn refused_by_quota(
        &mut self,
        migration: &Migration,
        vmi: &VirtualMachineInstance,
        error: &kube::Error,
        now: Timestamp,
    ) -> kube::Result<()> {
        let memo = self.memos.entry(migration.uid().unwrap_or_default()).or_default();
        if !std::mem::replace(&mut memo.quota_refused, true) {
            let message = format!("Error creating pod: {error}");
            self.controller_events.tell(vmi, Severity::Warning, "FailedCreate", message, now).await;
        }
        if phases::has_condition(migration, QUOTA_REFUSED) {
            return Ok(());
        }
        self.patch_migration(migration, "status", with_condition(migration, QUOTA_REFUSED, now)).await
    }

    /// The cluster's and the source node's limit of migrations leave room for one more.
    fn has_free_slot(&self, source: Option<&str>) -> bool {
        let limits = policy::cluster_configuration(self.installation.all().next());
        let taken: Vec<&Migration> = self
            .migrations
            .tagged(OPEN)
            .filter(|other| !phases::is_final(other))
            .filter(|other| !matches!(phases::phase_of(other), "" | phase::PENDING) || self.target_pod(other).is_some())
            .collect();
        let outbound = taken
            .iter()
            .filter(|other| {
                let vmi = self.vmis.get(&other.namespace().unwrap_or_default(), &other.spec.vmi_name);
                let status = vmi.and_then(|vmi| vmi.status.as_ref());
                let state = status.and_then(|status| status.migration_state.as_ref());
                let on = |node: Option<&String>| node.is_some() && node.map(String::as_str) == source;
                on(status.and_then(|status| status.node_name.as_ref()))
                    || on(state.and_then(|state| state.source_node.as_ref()))
            })
            .count();
        let below = |count: usize, limit: Option<u32>| limit.is_none_or(|limit| count < limit as usize);
        below(taken.len(), limits.parallel_migrations_per_cluster)
            && below(outbound, limits.parallel_outbound_migrations_per_node)
    }

    /// Until when an evacuation or upgrade waits because those before it failed.
    fn backed_off_until(&self, migration: &Migration, vmi: &VirtualMachineInstance) -> Option<Timestamp> {
        let annotations = migration.annotations();
        if !annotations.contains_key(EVACUATION_MIGRATION) && !annotations.contains_key(WORKLOAD_UPDATE_MIGRATION) {
            return None;
        }
        let tag = super::moves(&vmi.namespace().unwrap_or_default(), &vmi.name_any());
        let mut earlier: Vec<&Migration> =
            self.migrations.tagged(&tag).filter(|other| other.metadata.uid != migration.metadata.uid).collect();
        earlier.sort_by_key(|other| std::cmp::Reverse(other.metadata.creation_timestamp.as_ref().map(|time| time.0)));
        let failed = earlier.iter().take_while(|other| phases::phase_of(other) == phase::FAILED).count();
        let transitions = &earlier.first()?.status.as_ref()?.phase_transition_timestamps;
        let last = transitions.iter().find(|entered| entered.phase == phase::FAILED)?.phase_transition_timestamp.0;
        let doublings = u32::try_from(failed.checked_sub(1)?).unwrap_or(u32::MAX).min(16);
        last.checked_add(BACK_OFF * 2_u32.pow(doublings)).ok()
    }

    async fn await_target(
        &mut self,
        migration: &Migration,
        vmi: &VirtualMachineInstance,
        pod: &Pod,
        now: Timestamp,
    ) -> kube::Result<()> {
        let pending =
            pod.status.as_ref().and_then(|status| status.phase.as_deref()).is_none_or(|phase| phase == "Pending");
        let Some(created) = pod.metadata.creation_timestamp.as_ref().filter(|_| pending) else { return Ok(()) };
        let waited = now.as_second() - created.0.as_second();
        let limit = |name: &str, default: i64| {
            migration.annotations().get(name).and_then(|text| text.parse().ok()).unwrap_or(default)
        };
        let at = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
        if phases::is_unschedulable(pod) {
            let memo = self.memos.entry(migration.uid().unwrap_or_default()).or_default();
            if !std::mem::replace(&mut memo.told_unschedulable, true) {
                let message = format!(
                    "Migration target pod for VMI [{}/{}] is currently unschedulable.",
                    vmi.namespace().unwrap_or_default(),
                    vmi.name_any()
                );
                self.controller_events.tell(migration, Severity::Warning, TARGET_UNSCHEDULABLE, message, now).await;
            }
            if waited >= limit(UNSCHEDULABLE_TIMEOUT, UNSCHEDULABLE_SECONDS) {
                let message = format!("unschedulable pod {at} timeout period exceeded");
                return self.delete_target(migration, pod, message, now).await;
            }
        }
        if waited >= limit(PENDING_TIMEOUT, PENDING_SECONDS) {
            let message = format!("pending pod {at} timeout period exceeded");
            return self.delete_target(migration, pod, message, now).await;
        }
        Ok(())
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
                    self.let_next_in(now);
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
                self.let_next_in(now);
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

    /// A slot is free: the first that wait are looked at at once.
    fn let_next_in(&mut self, now: Timestamp) {
        let limit = policy::cluster_configuration(self.installation.all().next()).parallel_migrations_per_cluster;
        let mut pending: Vec<&Migration> =
            self.migrations.tagged(OPEN).filter(|other| phases::phase_of(other) == phase::PENDING).collect();
        pending.sort_by_key(|migration| queue_key(migration));
        let first: Vec<String> =
            pending.iter().take(limit.unwrap_or(5) as usize).filter_map(|other| other.uid()).collect();
        for uid in first {
            self.wait(&uid, Some(now));
        }
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
