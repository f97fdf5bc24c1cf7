//! An overload relieved by post-copy, and an idle VM that returns by pre-copy.

use anyhow::ensure;
use miyako_e2e::lab::hands::Course;
use miyako_e2e::lab::stand::{LabStand, NodePlan, Plan, Programs, Role, VmPlan};
use miyako_e2e::scene::Scene;
use miyako_e2e::wait::{Look, until};
use miyako_lab::guest::Boot;
use miyako_lab::guest::channel::{Intensity, Permille};
use miyako_lab::node::NodeSpec;
use miyako_lab::qemu::migration::{Mode, Outcome};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Longer than anything here takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_mins(2);
/// 24 MiB.
const PAGES: u32 = 6144;
/// A lab's core is this share of a real one.
const CORE: f64 = 0.4;

pub(crate) fn programs() -> Programs {
    Programs {
        operator: PathBuf::from(env!("CARGO_BIN_EXE_miyako-under-test")),
        agent: PathBuf::from(env!("CARGO_BIN_EXE_agent-under-test")),
        node: PathBuf::from(env!("CARGO_BIN_EXE_lab-node-under-test")),
    }
}

fn node(name: &str, role: Role, link: u64) -> NodePlan {
    NodePlan { spec: NodeSpec { name: name.into(), cores: CORE, link: Some(link) }, role }
}

/// A load as a share of the lab's core.
fn load(share: f64) -> Permille {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // below 1000
    Permille::new((share * CORE * 1000.0) as u64).unwrap_or_default()
}

/// Two VMs on a shared node, and a dedicated one; links of so many bits per second.
pub(crate) fn plan(link: u64) -> Plan {
    let vm = |index: u64, intensity| VmPlan {
        name: format!("vm-{index}"),
        node: "shared-0".into(),
        boot: Boot { pages: PAGES, seed: index, load: load(0.05), intensity, speed: None },
    };
    Plan {
        nodes: vec![node("shared-0", Role::Shared, link), node("dedicated-0", Role::Dedicated, link)],
        vms: vec![vm(0, Intensity::MIXED), vm(1, Intensity::READ_MOSTLY)],
        migrations: json!({}),
        sleep: None,
    }
}

/// Waits until a VM has arrived by the latest of its migrations, which is the `count`th.
pub(crate) async fn arrived(lab: &LabStand, vm: &str, count: usize) -> anyhow::Result<Course> {
    until(&format!("{vm} has moved {count} times"), SOON, || async {
        let courses: Vec<Course> = lab.log.courses().into_iter().filter(|course| course.vm == vm).collect();
        let done = courses.get(count - 1).filter(|course| course.outcome.is_some() || course.failure.is_some());
        let status = lab.vms().get(vm).await?.status.unwrap_or_default();
        let there = done.is_some_and(|course| status.node_name.as_deref() == Some(&course.target));
        Ok(Look::some(done.filter(|_| there).cloned(), format!("{courses:?}, on {:?}", status.node_name)))
    })
    .await
}

/// A lab whose shared node is overloaded by `vm-0`, under a policy that relieves it in this mode.
pub(crate) async fn overloaded(scene: &Arc<Scene>, link: u64, mode: &str) -> anyhow::Result<LabStand> {
    let lab = calm(scene, link, mode).await?;
    overload(&lab).await?;
    Ok(lab)
}

/// A lab under a policy that would relieve its shared node in this mode, with nothing to do yet.
pub(crate) async fn calm(scene: &Arc<Scene>, link: u64, mode: &str) -> anyhow::Result<LabStand> {
    let lab = LabStand::begin(scene, &programs(), plan(link)).await?;
    lab.apply_policy(json!({
        "mode": "Automatic",
        "migration": { "mode": mode },
        "thresholds": { "idlePercent": 20 },
    }))
    .await?;
    Ok(lab)
}

/// Lets `vm-0` take as much as it gets: whatever this machine's speed, its node is overloaded.
pub(crate) async fn overload(lab: &LabStand) -> anyhow::Result<()> {
    Ok(lab.guest("vm-0")?.set_load(Permille::FULL, SOON).await?)
}

/// Waits for the end of the first migration.
pub(crate) async fn end_of(lab: &LabStand) -> anyhow::Result<Course> {
    until("the migration is over", SOON, || async {
        let courses = lab.log.courses();
        let over = courses.first().filter(|course| course.outcome.is_some() || course.failure.is_some());
        Ok(Look::some(over.cloned(), format!("{courses:?}")))
    })
    .await
}

/// The VM runs, once, and every page of its memory is what it should be. Its benchmark rests from then on: the check gets
/// only what that leaves of the CPU, which is nothing at full load.
pub(crate) async fn whole(lab: &LabStand, vm: &str) -> anyhow::Result<()> {
    let guest = lab.guest(vm)?;
    guest.set_load(load(0.05), SOON).await?;
    guest.reports(SOON).await?;
    let check = guest.check(SOON).await?;
    ensure!(check.is_good() && check.pages == PAGES, "{vm}: {check:?}");
    ensure!(guest.ran_twice().is_none(), "{vm} ran on two machines");
    Ok(())
}

/// Overload → post-copy → relieved; idle → pre-copy → back.
pub(crate) async fn there_and_back(scene: Arc<Scene>) -> anyhow::Result<()> {
    let lab = LabStand::begin(&scene, &programs(), plan(200_000_000)).await?;
    // A fifth of a whole vCPU is half of the lab's core, as the papers' threshold is half of theirs.
    lab.apply_policy(json!({
        "mode": "Automatic",
        "thresholds": { "idlePercent": 20, "settle": "5s" },
    }))
    .await?;
    overload(&lab).await?;
    lab.guest("vm-1")?.set_load(load(0.2), SOON).await?;
    let course = arrived(&lab, "vm-0", 1).await?;
    ensure!(course.outcome == Some(Outcome::Completed(Mode::PostCopy)), "{course:?}");
    ensure!(course.target == "dedicated-0", "it went to {}", course.target);
    lab.guest("vm-0")?.set_load(load(0.05), SOON).await?;
    whole(&lab, "vm-0").await?;
    let course = arrived(&lab, "vm-0", 2).await?;
    ensure!(course.outcome == Some(Outcome::Completed(Mode::PreCopy)), "{course:?}");
    for vm in ["vm-0", "vm-1"] {
        whole(&lab, vm).await?;
    }
    lab.end()
}
