//! A cluster without agents: load comes from Prometheus alone, and that is enough to move a VM.

use crate::world::{self, Setting, World};
use anyhow::{Context as _, ensure};
use miyako_api::consolidation_policy::LoadSource;
use miyako_e2e::installation::{Replica, wait_for_leader};
use miyako_e2e::prometheus::{Counters, Prometheus};
use miyako_e2e::scene::Scene;
use miyako_e2e::wait::{Look, until};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

/// The busy VM leaves its overloaded node; the policy says where its figures come from.
pub(crate) async fn is_a_source_of_load_without_agents(scene: Arc<Scene>) -> anyhow::Result<()> {
    world::furnish(&scene, Setting::default()).await?;
    let counters = Counters::new("node");
    for node in world::NODES {
        counters.node(node, 0.2);
    }
    let vms = [("vm-0", 1.9), ("vm-1", 0.6), ("vm-2", 0.6), ("vm-3", 0.6)];
    for (vm, cores) in vms {
        counters.vm("shared-0", scene.namespace(), vm, cores);
    }
    counters.node("shared-0", vms.iter().map(|(_, cores)| cores).sum::<f64>() + 0.2);
    let folder = scene.stand().folder().join("prometheus-as-a-source");
    std::fs::create_dir_all(&folder)?;
    let prometheus = Prometheus::start(counters.serve().await?, &folder).await?;
    let operator = Path::new(env!("CARGO_BIN_EXE_miyako-under-test"));
    let replica = Replica::start_with(&scene, operator, "replica-0", &[("prometheus-url", prometheus.url())]).await?;
    wait_for_leader(&scene, &[&replica]).await?;
    let world = World::without_agents(&scene, vec![replica]);
    world.apply_policy(json!({ "mode": "Automatic" })).await?;
    world.wait_for_vm("vm-0", "dedicated-0").await?;
    until("the policy names its source", world::SOON, || async {
        let status = world.policies().get_status(world::POLICY).await?.status.context("a status")?;
        let load = status.load.context("its load")?;
        let known =
            load.source == LoadSource::Prometheus && load.overload_window_seconds.is_some_and(|window| window >= 4);
        Ok(Look::holds(known, format!("{load:?}")))
    })
    .await?;
    ensure!(prometheus.process().ended()?.is_none(), "Prometheus has ended");
    world.nothing_was_forbidden(&scene)
}
