//! virt-controller's VirtualMachine controller, as far as stands need it: a VM whose VMI ended starts again, a VM that
//! is halted stops, and what people change in the template reaches the VMI, or does not.
//! Source: `pkg/virt-controller/watch/vm/vm.go`, `pkg/virt-controller/watch/workload-updater`.
//!
//! It tends only VMs whose VMI it has seen: stands make the first one themselves.

use super::{KubeVirtStandIn, Rest, hands::Hands, phases, time, writes::ignore_gone};
use crate::sim::watched::ObjectKey;
use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use miyako_api::{
    kubevirt::{VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceMigration as Migration},
    names::kubevirt::WORKLOAD_UPDATE_MIGRATION,
};
use serde_json::{Value, json};
use std::time::Duration;

/// From the end of a VMI until its VM starts it again.
const RESTART: Duration = Duration::from_secs(10);
/// The workload updater gathers what changed before it migrates VMs.
const UPDATE_BATCH: Duration = Duration::from_secs(4);
/// Fields of a template that reach the running VMI.
const PLACEMENT: [&str; 3] = ["nodeSelector", "affinity", "tolerations"];
const RESTART_REQUIRED: &str = "RestartRequired";
const HOT_VCPU_CHANGE: &str = "HotVCPUChange";

/// What is remembered of a VM.
#[derive(Debug, Default)]
pub(super) struct Tended {
    /// Its template's spec when its VMI was made, or as far as it reached the VMI since.
    template: Value,
    /// Its VMI is gone since then.
    gone: Option<Timestamp>,
    /// Its VMI is to be migrated then, because it was changed.
    update: Option<Timestamp>,
}

/// The API of whole VirtualMachines: the type leaves most of the template out.
pub(super) fn whole(client: kube::Client, namespace: Option<&str>) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<VirtualMachine>(&());
    match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    }
}

fn template(vm: &DynamicObject) -> &Value {
    vm.data.pointer("/spec/template/spec").unwrap_or(&Value::Null)
}

fn restart_required(vm: &DynamicObject) -> bool {
    let conditions = vm.data.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| condition["type"] == RESTART_REQUIRED)
}

/// A template without what can change while the VM runs.
fn fixed_part(template: &Value) -> Value {
    let mut fixed = template.clone();
    if let Some(fields) = fixed.as_object_mut() {
        for field in PLACEMENT {
            fields.shift_remove(field);
        }
    }
    if let Some(cpu) = fixed.pointer_mut("/domain/cpu").and_then(Value::as_object_mut) {
        cpu.shift_remove("sockets");
    }
    fixed
}

fn sockets(template: &Value) -> u64 {
    template.pointer("/domain/cpu/sockets").and_then(Value::as_u64).unwrap_or(1)
}

impl<H: Hands> KubeVirtStandIn<H> {
    /// Looks at every VM that has a VMI, or had one.
    pub(super) async fn tend_machines(&mut self, now: Timestamp) -> Rest {
        let machines: Vec<DynamicObject> = self.machines.all().cloned().collect();
        let mut rest = Rest::UntilNews;
        for machine in &machines {
            let key = (machine.namespace().unwrap_or_default(), machine.name_any());
            match self.tend_machine(&key, machine, now).await {
                Ok(waits) => rest = rest.max(if waits { Rest::Watching } else { Rest::UntilNews }),
                Err(error) => {
                    tracing::debug!(%error, vm = %key.1, "virt-controller tries again");
                    rest = rest.max(Rest::Retry);
                }
            }
        }
        let machines = &self.machines;
        self.tended.retain(|(namespace, name), _| machines.get(namespace, name).is_some());
        rest
    }

    /// Says whether there is more to do later.
    async fn tend_machine(&mut self, key: &ObjectKey, machine: &DynamicObject, now: Timestamp) -> kube::Result<bool> {
        if machine.metadata.deletion_timestamp.is_some() {
            return Ok(false);
        }
        let halted = machine.data.pointer("/spec/runStrategy").and_then(Value::as_str) == Some("Halted");
        let owner = machine.uid();
        let own = |vmi: &&VirtualMachineInstance| {
            vmi.metadata.owner_references.iter().flatten().any(|reference| Some(&reference.uid) == owner.as_ref())
        };
        let Some(vmi) = self.vmis.get(&key.0, &key.1).filter(own).cloned() else {
            let Some(tended) = self.tended.get_mut(key) else { return Ok(false) };
            let gone = *tended.gone.get_or_insert(now);
            if halted {
                // Whenever it is wanted again, it starts at once.
                tended.gone = now.checked_sub(RESTART).ok();
                return Ok(false);
            }
            if now < gone.checked_add(RESTART).unwrap_or(now) {
                return Ok(true);
            }
            self.start_machine(key, machine).await?;
            return Ok(true);
        };
        let tended = self.tended.entry(key.clone()).or_default();
        if tended.gone.take().is_some() || tended.template.is_null() {
            tended.template = template(machine).clone();
        }
        let over = matches!(phases::vmi_phase(&vmi), "Succeeded" | "Failed");
        if (halted || over) && vmi.metadata.deletion_timestamp.is_none() {
            let vmis: Api<VirtualMachineInstance> = self.controller_api(&key.0);
            ignore_gone(vmis.delete(&key.1, &DeleteParams::default()).await)?;
            self.acted = true;
            return Ok(false);
        }
        if over || vmi.metadata.deletion_timestamp.is_some() {
            return Ok(false);
        }
        self.carry_over(key, machine, &vmi, now).await?;
        self.update_workload(key, &vmi, now).await
    }

    async fn start_machine(&mut self, key: &ObjectKey, machine: &DynamicObject) -> kube::Result<()> {
        let labels = machine.data.pointer("/spec/template/metadata/labels").cloned().unwrap_or_else(|| json!({}));
        let vmi = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {
                "namespace": key.0, "name": key.1, "labels": labels,
                "ownerReferences": [{
                    "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": key.1, "uid": machine.uid(),
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": template(machine),
        });
        let vmi: VirtualMachineInstance = serde_json::from_value(vmi).map_err(kube::Error::SerdeError)?;
        let vmis: Api<VirtualMachineInstance> = self.controller_api(&key.0);
        let made = vmis.create(&PostParams::default(), &vmi).await?;
        self.vmis.put(made);
        self.acted = true;
        Ok(())
    }

    /// What changed in the template reaches the VMI as far as it can change while it runs. Anything else asks for a
    /// restart, and from then on nothing reaches it any more.
    async fn carry_over(
        &mut self,
        key: &ObjectKey,
        machine: &DynamicObject,
        vmi: &VirtualMachineInstance,
        now: Timestamp,
    ) -> kube::Result<()> {
        let wanted = template(machine);
        let known = self.tended.get(key).map(|tended| tended.template.clone()).unwrap_or_default();
        if *wanted == known || restart_required(machine) {
            return Ok(());
        }
        if fixed_part(wanted) != fixed_part(&known) || sockets(wanted) < sockets(&known) {
            return self.require_restart(key, now).await;
        }
        let mut spec = json!({});
        for field in PLACEMENT {
            if wanted.get(field) != known.get(field) {
                spec[field] = wanted.get(field).cloned().unwrap_or(Value::Null);
                // A merge would keep the keys that are gone.
                if let (Value::Object(new), Some(old)) = (&mut spec[field], known.get(field).and_then(Value::as_object))
                {
                    for gone in old.keys() {
                        new.entry(gone).or_insert(Value::Null);
                    }
                }
            }
        }
        let more = sockets(wanted) > sockets(&known);
        let mut patch = json!({"spec": spec});
        if more {
            patch["spec"]["domain"]["cpu"]["sockets"] = json!(sockets(wanted));
            let status = vmi.status.clone().unwrap_or_default();
            let mut conditions: Vec<Value> = status.conditions.iter().map(|condition| json!(condition)).collect();
            conditions.push(json!({
                "type": HOT_VCPU_CHANGE, "status": "True", "lastProbeTime": null, "lastTransitionTime": time(now),
            }));
            patch["status"]["conditions"] = json!(conditions);
        }
        self.patch_vmi_as_controller(vmi, patch).await?;
        if let Some(tended) = self.tended.get_mut(key) {
            tended.template = wanted.clone();
            if more {
                tended.update = now.checked_add(UPDATE_BATCH).ok();
            }
        }
        Ok(())
    }

    async fn require_restart(&mut self, key: &ObjectKey, now: Timestamp) -> kube::Result<()> {
        let api = whole(self.clients.virt_controller.clone(), Some(&key.0));
        let patch = json!({"status": {"conditions": [{
            "type": RESTART_REQUIRED, "status": "True", "lastProbeTime": null, "lastTransitionTime": time(now),
            "message": "a non-live-updatable field was changed in the template spec",
        }]}});
        let answer = api.patch_status(&key.1, &PatchParams::default(), &Patch::Merge(patch)).await?;
        self.machines.put(answer);
        Ok(())
    }

    /// A VM with more sockets moves once, so that it gets them; whoever moves it.
    async fn update_workload(
        &mut self,
        key: &ObjectKey,
        vmi: &VirtualMachineInstance,
        now: Timestamp,
    ) -> kube::Result<bool> {
        let status = vmi.status.clone().unwrap_or_default();
        if status.condition(HOT_VCPU_CHANGE).is_none() {
            return Ok(false);
        }
        let Some(tended) = self.tended.get_mut(key) else { return Ok(false) };
        match tended.update {
            Some(due) if now < due => return Ok(true),
            Some(_) => tended.update = None,
            None => return Ok(false),
        }
        let wanted = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
            "metadata": {
                "generateName": "kubevirt-workload-update-", "namespace": key.0,
                "annotations": {WORKLOAD_UPDATE_MIGRATION: ""},
            },
            "spec": {"vmiName": key.1, "priority": "user-triggered"},
        });
        let wanted: Migration = serde_json::from_value(wanted).map_err(kube::Error::SerdeError)?;
        let api: Api<Migration> = self.controller_api(&key.0);
        let made = api.create(&PostParams::default(), &wanted).await?;
        self.migrations.put(made);
        self.acted = true;
        Ok(false)
    }
}
