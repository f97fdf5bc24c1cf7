//! The target launchers of migrations: made, awaited, given up.

use super::{
    KubeVirtStandIn,
    events::Severity,
    hands::Hands,
    launcher,
    names::PENDING_TIMEOUT,
    phases::{self, QUOTA_REFUSED},
    writes::{ignore_gone, with_condition},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use miyako_api::{
    kubevirt::{VirtualMachineInstance, VirtualMachineInstanceMigration as Migration},
    names::kubevirt::{TARGET_UNSCHEDULABLE, UNSCHEDULABLE_TIMEOUT},
};
use std::time::Duration;

/// An unschedulable target is given up after 5 minutes, one that is pending for other reasons after 15.
const UNSCHEDULABLE_SECONDS: i64 = 300;
const PENDING_SECONDS: i64 = 900;
/// A target that could not be created is tried again after so long, then after twice as long, and so on …
const FIRST_RETRY: Duration = Duration::from_millis(10);
/// … up to this (client-go's `DefaultTypedControllerRateLimiter`).
const LONGEST_RETRY: Duration = Duration::from_secs(1000);

impl<H: Hands> KubeVirtStandIn<H> {
    pub(super) async fn delete_target(
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
    pub(super) async fn create_target(
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
        let source = self.nodes.get("", status.node_name.as_deref().unwrap_or_default());
        let pod = match launcher::target(vmi, migration, source) {
            Ok(pod) => pod,
            Err(error) => {
                let message = format!("failed to render launch manifest: {error}");
                return self.could_not_create(migration, vmi, message, now).await;
            }
        };
        let api: Api<Pod> = self.controller_api(&vmi.namespace().unwrap_or_default());
        match api.create(&PostParams::default(), &pod).await {
            Ok(pod) => {
                let message = format!("Created migration target pod {}", pod.name_any());
                self.launchers.put(pod);
                self.acted = true;
                self.memos.entry(uid).or_default().failed_creates = 0;
                self.controller_events.tell(migration, Severity::Normal, "SuccessfulCreate", message, now).await;
                Ok(())
            }
            Err(kube::Error::Api(refusal)) => {
                let over_quota = refusal.code == 403 && refusal.message.contains("exceeded quota");
                let message = format!("Error creating pod: {}", refusal.message);
                self.could_not_create(migration, vmi, message, now).await?;
                if !over_quota {
                    return Ok(());
                }
                self.memos.entry(uid).or_default().quota_refused = true;
                if phases::has_condition(migration, QUOTA_REFUSED) {
                    return Ok(());
                }
                self.patch_migration(migration, "status", with_condition(migration, QUOTA_REFUSED, now)).await
            }
            Err(error) => Err(error),
        }
    }

    /// The target can't be created, now: that is told about the VMI, in the API server's words, and nowhere else. The
    /// migration stays as it is, holds no slot, and is tried again less and less often.
    pub(super) async fn could_not_create(
        &mut self,
        migration: &Migration,
        vmi: &VirtualMachineInstance,
        message: String,
        now: Timestamp,
    ) -> kube::Result<()> {
        let uid = migration.uid().unwrap_or_default();
        let memo = self.memos.entry(uid.clone()).or_default();
        let pause = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(memo.failed_creates)).min(LONGEST_RETRY);
        memo.failed_creates = memo.failed_creates.saturating_add(1);
        self.wait(&uid, now.checked_add(pause).ok());
        self.controller_events.tell(vmi, Severity::Warning, "FailedCreate", message, now).await;
        Ok(())
    }

    pub(super) async fn await_target(
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
}
