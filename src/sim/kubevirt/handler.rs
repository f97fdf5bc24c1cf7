//! The virt-handlers: those of source and target of each migration that was handed off to them. Source:
//! `pkg/virt-handler/migration-{source,target}.go`, `pkg/virt-launcher/virtwrap/live-migration-source.go`.

use super::{
    HANDED_OFF, KubeVirtStandIn, Rest,
    events::Severity,
    hands::{Hands, Job, Mode, Stage},
    launcher, phases, time,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use miyako_api::{
    answer::is_absent,
    kubevirt::{MigrationState, VirtualMachineInstance},
    names::kubevirt::{EVICTION_SOURCE, MIGRATION_TARGET_NODE, NODE_NAME},
};
use miyako_core::model::{Bytes, NodeName, Uid, VmKey};
use serde_json::{Value, json};
use std::time::Duration;

/// What the source's virt-handler remembers of a migration that runs.
#[derive(Debug)]
pub(super) struct Watch {
    vm: (String, String),
    sent: Bytes,
    progressed: Timestamp,
}

/// Gigabytes as KubeVirt counts a VM's data for its time-outs: powers of ten, rounded up.
fn gigabytes(memory: Bytes) -> i64 {
    i64::try_from(memory.0.div_ceil(1_000_000_000)).unwrap_or(i64::MAX)
}

impl<H: Hands> KubeVirtStandIn<H> {
    /// Plays the virt-handlers of every VM that is on its way.
    pub(super) async fn play_handlers(&mut self, now: Timestamp) -> Rest {
        let moving: Vec<VirtualMachineInstance> = self.vmis.tagged(HANDED_OFF).cloned().collect();
        let gone: Vec<String> = self
            .watches
            .iter()
            .filter(|(_, watch)| self.vmis.get(&watch.vm.0, &watch.vm.1).is_none())
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in gone {
            self.watches.remove(&uid);
            self.hands.forget(&Uid::new(&uid));
        }
        for vmi in &moving {
            if let Err(error) = self.play_handlers_of(vmi, now).await {
                tracing::debug!(%error, vmi = %vmi.name_any(), "virt-handler tries again");
            }
        }
        if moving.is_empty() { Rest::UntilNews } else { Rest::Watching }
    }

    async fn play_handlers_of(&mut self, vmi: &VirtualMachineInstance, now: Timestamp) -> kube::Result<()> {
        let state = vmi.status.as_ref().and_then(|status| status.migration_state.clone());
        let Some((state, uid)) = state.and_then(|state| state.migration_uid.clone().map(|uid| (state, uid))) else {
            return self
                .patch_vmi_as_handler(vmi, json!({"metadata": {"labels": {MIGRATION_TARGET_NODE: null}}}))
                .await;
        };
        let id = Uid::new(&uid);
        let (source_answers, target_answers) =
            (self.answers(state.source_node.as_deref()), self.answers(state.target_node.as_deref()));
        if state.completed {
            self.hands.forget(&id);
            self.watches.remove(&uid);
            // Nobody hears of a launcher's exit on a silent node.
            if !(if state.failed { target_answers } else { source_answers }) {
                return Ok(());
            }
            return self.clean_up(vmi, &state, now).await;
        }
        match self.hands.stage(&id, now) {
            // A silent node's virt-handler tells nothing and begins nothing; KubeVirt waits for it.
            Stage::Unknown | Stage::Preparing if !target_answers => Ok(()),
            Stage::Done { .. } if !target_answers => Ok(()),
            Stage::Ready { .. }
                if !(if state.target_node_address.is_none() { target_answers } else { source_answers }) =>
            {
                Ok(())
            }
            Stage::Moving { .. } | Stage::Failed { .. } if !source_answers => Ok(()),
            Stage::Unknown if state.start_timestamp.is_some() => {
                let reason = "the domain's migration job is unknown to virt-launcher";
                self.report_failure(vmi, &state, now, reason, false, false, now).await
            }
            Stage::Unknown => {
                let job = job_of(vmi, &state, id);
                self.hands.prepare_target(&job, now);
                self.acted = true;
                Ok(())
            }
            Stage::Preparing => {
                // Usually a matter of milliseconds.
                self.acted = true;
                Ok(())
            }
            Stage::Ready { address, ports } => {
                if state.target_node_address.is_none() {
                    let told = json!({"targetNodeAddress": address, "targetDirectMigrationNodePorts": ports});
                    return self.patch_state(vmi, told).await;
                }
                let job = job_of(vmi, &state, id);
                self.hands.start(&job, now);
                let message = format!("VirtualMachineInstance is migrating to node {}.", job.target);
                self.handler_events.tell(vmi, Severity::Normal, "Migrating", message, now).await;
                self.patch_state(vmi, json!({"startTimestamp": time(now), "mode": Mode::PreCopy.as_str()})).await
            }
            Stage::Moving { mode, sent } => self.watch_over(vmi, &state, &id, mode, sent, now).await,
            Stage::Done { at } => self.report_arrival(vmi, &state, at, now).await,
            Stage::Failed { at, reason, aborted, lost } => {
                self.report_failure(vmi, &state, at, &reason, aborted, lost, now).await
            }
        }
    }

    /// The node's kubelet and virt-handler can be reached, as far as anybody knows.
    fn answers(&self, node: Option<&str>) -> bool {
        let Some(node) = node.and_then(|node| self.nodes.get("", node)) else { return true };
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        conditions.iter().find(|condition| condition.type_ == "Ready").is_none_or(|ready| ready.status == "True")
    }

    /// The source's migration monitor: tells the mode, obeys aborts, and acts when time is up.
    async fn watch_over(
        &mut self,
        vmi: &VirtualMachineInstance,
        state: &MigrationState,
        id: &Uid,
        mode: Mode,
        sent: Bytes,
        now: Timestamp,
    ) -> kube::Result<()> {
        let started = state.start_timestamp.as_ref().map_or(now, |time| time.0);
        let stuck = self.seconds_without_progress(vmi, id, sent, now);
        let configuration = state.migration_configuration.clone().unwrap_or_default();
        let elapsed = now.as_second() - started.as_second();
        let limit = configuration.completion_timeout_per_gib.unwrap_or(150) * gigabytes(launcher::guest_memory(vmi));
        let progress_limit = configuration.progress_timeout.unwrap_or(150);
        match mode {
            Mode::PostCopy => {}
            _ if state.abort_requested => self.hands.abort(id, "Live migration has been aborted", now),
            _ if progress_limit > 0 && stuck > progress_limit => {
                let reason = format!("Live migration stuck for {stuck} seconds and has been aborted");
                self.hands.abort(id, &reason, now);
            }
            Mode::PreCopy if limit > 0 && elapsed > limit => {
                if configuration.allow_post_copy == Some(true) {
                    self.hands.switch_to_post_copy(id, now);
                } else if configuration.allow_workload_disruption == Some(true) {
                    self.hands.pause(id, now);
                } else {
                    let reason = format!("Live migration is not completed after {limit} seconds and has been aborted");
                    self.hands.abort(id, &reason, now);
                }
            }
            Mode::Paused if limit > 0 && elapsed > 2 * limit => {
                let reason =
                    format!("Live migration is not completed after {} seconds and has been aborted", 2 * limit);
                self.hands.abort(id, &reason, now);
            }
            Mode::PreCopy | Mode::Paused => {}
        }
        let told = self.hands.stage(id, now);
        let mode = if let Stage::Moving { mode, .. } = told { mode } else { mode };
        let mut patch = json!({});
        if state.start_timestamp.is_none() {
            patch["startTimestamp"] = json!(time(now));
        }
        if state.mode.as_deref() != Some(mode.as_str()) {
            patch["mode"] = json!(mode.as_str());
        }
        if mode == Mode::PostCopy && !state.target_node_domain_detected {
            patch["targetNodeDomainDetected"] = json!(true);
            patch["targetNodeDomainReadyTimestamp"] = json!(time(now));
        }
        if patch.as_object().is_some_and(serde_json::Map::is_empty) {
            return Ok(());
        }
        self.patch_state(vmi, patch).await
    }

    fn seconds_without_progress(&mut self, vmi: &VirtualMachineInstance, id: &Uid, sent: Bytes, now: Timestamp) -> i64 {
        let vm = (vmi.namespace().unwrap_or_default(), vmi.name_any());
        let fresh = || Watch { vm, sent, progressed: now };
        let watch = self.watches.entry(id.as_str().to_owned()).or_insert_with(fresh);
        if sent > watch.sent {
            watch.sent = sent;
            watch.progressed = now;
        }
        now.as_second() - watch.progressed.as_second()
    }

    /// The target's virt-handler takes the VM over, and says so in two writes.
    async fn report_arrival(
        &mut self,
        vmi: &VirtualMachineInstance,
        state: &MigrationState,
        at: Timestamp,
        now: Timestamp,
    ) -> kube::Result<()> {
        if state.end_timestamp.is_some() {
            return self.patch_state(vmi, json!({"completed": true})).await;
        }
        let node = state.target_node.clone().unwrap_or_default();
        let mut patch = json!({
            "metadata": {
                "labels": {NODE_NAME: node},
                "annotations": {EVICTION_SOURCE: null},
            },
            "status": {
                "nodeName": node,
                "evacuationNodeName": null,
                "migrationTransport": "Unix",
                "migrationState": {
                    "startTimestamp": state.start_timestamp.clone().unwrap_or_else(|| time(at)),
                    "targetNodeDomainDetected": true,
                    "targetNodeDomainReadyTimestamp":
                        state.target_node_domain_ready_timestamp.clone().unwrap_or_else(|| time(at)),
                    "endTimestamp": time(at),
                },
            },
        });
        let status = vmi.status.clone().unwrap_or_default();
        if status.condition("HotVCPUChange").is_some() {
            // It has its new sockets now.
            let others = status.conditions.iter().filter(|condition| condition.kind != "HotVCPUChange");
            patch["status"]["conditions"] = json!(others.collect::<Vec<_>>());
            let cpu = vmi.spec.domain.cpu.clone().unwrap_or_default();
            let part = |part: Option<u32>| part.unwrap_or(1);
            patch["status"]["currentCPUTopology"] = json!({
                "sockets": part(cpu.sockets), "cores": part(cpu.cores), "threads": part(cpu.threads),
            });
        }
        self.patch_vmi_as_handler(vmi, patch).await?;
        let message = format!("The VirtualMachineInstance migrated to node {node}.");
        self.handler_events.tell(vmi, Severity::Normal, "Migrated", message, now).await;
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // one argument for each thing that is told
    async fn report_failure(
        &mut self,
        vmi: &VirtualMachineInstance,
        state: &MigrationState,
        at: Timestamp,
        reason: &str,
        aborted: bool,
        lost: bool,
        now: Timestamp,
    ) -> kube::Result<()> {
        let mut status = json!({"migrationState": {
            "startTimestamp": state.start_timestamp.clone().unwrap_or_else(|| time(at)),
            "endTimestamp": time(at),
            "failed": true,
            "completed": true,
            "failureReason": reason,
        }});
        if aborted && state.abort_requested {
            status["migrationState"]["abortStatus"] = json!("Succeeded");
        }
        if lost {
            status["phase"] = json!("Failed");
        }
        self.patch_vmi_as_handler(vmi, json!({"status": status})).await?;
        let uid = state.migration_uid.as_deref().unwrap_or_default();
        let message = format!("VirtualMachineInstance migration uid {uid} failed. reason:{reason}");
        self.handler_events.tell(vmi, Severity::Warning, "Migrated", message, now).await;
        Ok(())
    }

    /// After the end: the launcher that is not needed any more exits, and the target's mark goes.
    async fn clean_up(
        &mut self,
        vmi: &VirtualMachineInstance,
        state: &MigrationState,
        now: Timestamp,
    ) -> kube::Result<()> {
        let ended = state.end_timestamp.as_ref().map_or(now, |time| time.0);
        if now < ended.checked_add(self.timing.launcher_exit).unwrap_or(now) {
            return Ok(());
        }
        let lost = phases::vmi_phase(vmi) == "Failed";
        let leaving = match (lost, state.failed) {
            (true, _) => [state.source_pod.as_deref(), state.target_pod.as_deref()],
            (false, true) => [state.target_pod.as_deref(), None],
            (false, false) => [state.source_pod.as_deref(), None],
        };
        // A target that was never taken into service is no success.
        let phase = if lost || state.failed { "Failed" } else { "Succeeded" };
        for pod in leaving.into_iter().flatten() {
            self.exit_launcher(&vmi.namespace().unwrap_or_default(), pod, phase).await?;
        }
        self.patch_vmi_as_handler(vmi, json!({"metadata": {"labels": {MIGRATION_TARGET_NODE: null}}})).await
    }

    /// A launcher's processes end, and its kubelet says so.
    pub(super) async fn exit_launcher(&mut self, namespace: &str, name: &str, phase: &str) -> kube::Result<()> {
        let down = self.launchers.get(namespace, name).is_none_or(phases::is_down);
        if down {
            return Ok(());
        }
        let api: Api<Pod> = Api::namespaced(self.clients.kubelet.clone(), namespace);
        let conditions = json!([
            {"type": "PodScheduled", "status": "True"},
            {"type": "Initialized", "status": "True", "reason": "PodCompleted"},
            {"type": "Ready", "status": "False", "reason": "PodCompleted"},
            {"type": "ContainersReady", "status": "False", "reason": "PodCompleted"},
        ]);
        let patch = json!({"status": {"phase": phase, "conditions": conditions}});
        match api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(pod) => {
                self.launchers.put(pod);
                self.acted = true;
                Ok(())
            }
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn patch_state(&mut self, vmi: &VirtualMachineInstance, state: Value) -> kube::Result<()> {
        self.patch_vmi_as_handler(vmi, json!({"status": {"migrationState": state}})).await
    }

    pub(super) async fn patch_vmi_as_handler(
        &mut self,
        vmi: &VirtualMachineInstance,
        patch: Value,
    ) -> kube::Result<()> {
        let api = Api::namespaced(self.clients.virt_handler.clone(), &vmi.namespace().unwrap_or_default());
        self.patch_vmi(api, vmi, patch).await
    }
}

fn job_of(vmi: &VirtualMachineInstance, state: &MigrationState, uid: Uid) -> Job {
    let configuration = state.migration_configuration.clone().unwrap_or_default();
    let bandwidth = configuration.bandwidth_per_migration.as_ref().and_then(launcher::bytes_of);
    let downtime = u64::try_from(configuration.max_downtime_ms.unwrap_or(900)).unwrap_or(900);
    Job {
        uid,
        vm: VmKey::new(vmi.namespace().unwrap_or_default(), vmi.name_any()),
        vmi_uid: Uid::new(vmi.uid().unwrap_or_default()),
        memory: launcher::guest_memory(vmi),
        vcpus: launcher::vcpus(vmi),
        source: NodeName::new(state.source_node.as_deref().unwrap_or_default()),
        target: NodeName::new(state.target_node.as_deref().unwrap_or_default()),
        source_pod: state.source_pod.clone().unwrap_or_default(),
        target_pod: state.target_pod.clone().unwrap_or_default(),
        bandwidth: bandwidth.map(|limit| limit.0).filter(|limit| *limit > 0),
        max_downtime: Duration::from_millis(downtime),
        allow_post_copy: configuration.allow_post_copy == Some(true),
        allow_auto_converge: configuration.allow_auto_converge == Some(true),
        limited_cpu: launcher::is_dedicated(vmi) || vmi.spec.domain.resources.limits.contains_key("cpu"),
    }
}
