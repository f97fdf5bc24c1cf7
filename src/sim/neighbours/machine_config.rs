//! OpenShift's machine-config operator: a pool whose `spec.configuration.name` changed gets it node by node, as few at a time
//! as `maxUnavailable` says; a node that is not ready takes one of these places.

use super::{Acts, Scene, annotated, definition, name, selects, text, unready_for};
use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use miyako_api::neighbours::MachineConfigPool;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const ACTOR: &str = "machine-config-operator";
const CURRENT: &str = "machineconfiguration.openshift.io/currentConfig";
const STATE: &str = "machineconfiguration.openshift.io/state";
/// From the cordon to the reboot, and the reboot itself, in seconds.
const DRAINS: i64 = 20;
const REBOOTS: i64 = 60;

/// It changes one pool's nodes at a time, and at least one.
#[derive(Debug, Default)]
pub struct MachineConfigOperator {
    /// Nodes that it works on, with when it began, and whether they were rebooted.
    working: BTreeMap<String, (Timestamp, bool)>,
}

impl MachineConfigOperator {
    async fn roll(&mut self, pool: &Value, mut scene: Scene<'_>) -> kube::Result<()> {
        let wanted = text(pool, "/spec/configuration/name").to_owned();
        let mut nodes = scene.nodes();
        nodes.retain(|node| selects(&pool["spec"]["nodeSelector"], node));
        let is_old = |node: &&Value| annotated(node, CURRENT).is_some_and(|current| current != wanted);
        for node in nodes.iter().filter(|node| annotated(node, CURRENT).is_none()) {
            let fresh = json!({"metadata": {"annotations": {CURRENT: wanted, STATE: "Done"}}});
            scene.patch_node(ACTOR, name(node), fresh).await?;
        }
        let old: Vec<&Value> = nodes.iter().filter(is_old).collect();
        let gone = |node: &&Value| unready_for(node, scene.now).is_some() || node["spec"]["unschedulable"] == true;
        let unavailable = nodes.iter().filter(gone).count();
        let most = pool["spec"]["maxUnavailable"].as_u64().map_or(1, |most| usize::try_from(most).unwrap_or(1));
        if let Some(next) = old.iter().find(|node| !self.working.contains_key(name(node)))
            && unavailable < most
        {
            self.working.insert(name(next).to_owned(), (scene.now, false));
            let working = json!({"metadata": {"annotations": {STATE: "Working"}}, "spec": {"unschedulable": true}});
            scene.patch_node(ACTOR, name(next), working).await?;
        }
        for node in &old {
            self.lead_on(node, &wanted, &mut scene).await?;
        }
        let updating = if old.is_empty() { "False" } else { "True" };
        if text(pool, "/status/conditions/0/status") != updating {
            let pools: Api<MachineConfigPool> = Api::all(scene.server.client(ACTOR));
            let status = json!({"status": {"conditions": [{"type": "Updating", "status": updating}]}});
            pools.patch(name(pool), &PatchParams::default(), &Patch::Merge(status)).await?;
        }
        Ok(())
    }

    async fn lead_on(&mut self, node: &Value, wanted: &str, scene: &mut Scene<'_>) -> kube::Result<()> {
        let node_name = name(node);
        let Some((since, rebooted)) = self.working.get_mut(node_name) else { return Ok(()) };
        let unready = unready_for(node, scene.now).is_some();
        if *rebooted && !unready {
            let done = json!({
                "metadata": {"annotations": {CURRENT: wanted, STATE: "Done"}}, "spec": {"unschedulable": false},
            });
            self.working.remove(node_name);
            scene.patch_node(ACTOR, node_name, done).await?;
            scene.deeds.push(format!("the machine-config operator updated {node_name}"));
        } else if !*rebooted && !unready && scene.now.as_second() - since.as_second() >= DRAINS {
            *rebooted = true;
            scene.machines.reboot(node_name, REBOOTS, scene.now).await?;
        }
        Ok(())
    }
}

impl Acts for MachineConfigOperator {
    fn definitions(&self) -> Vec<Value> {
        vec![definition("machineconfiguration.openshift.io", "Cluster", "v1", "MachineConfigPool")]
    }

    fn act<'a>(&'a mut self, scene: Scene<'a>) -> BoxFuture<'a, kube::Result<()>> {
        async move {
            let pools = scene.objects("machineconfiguration.openshift.io", "machineconfigpools");
            match pools.first() {
                Some(pool) => self.roll(pool, scene).await,
                None => Ok(()),
            }
        }
        .boxed()
    }
}
