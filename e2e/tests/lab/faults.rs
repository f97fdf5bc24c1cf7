//! What goes wrong in the middle of a migration: the outcome is what KubeVirt's would be, the operator says so, and no
//! other VM suffers. Each breaks one migration of its own lab.

use crate::moves::{SOON, calm, end_of, overload, overloaded, whole};
use anyhow::ensure;
use kube::api::ListParams;
use miyako_api::consolidation_plan::PlanPhase;
use miyako_api::{ConsolidationPlan, kubevirt::VirtualMachineInstance};
use miyako_e2e::lab::hands::Course;
use miyako_e2e::lab::stand::LabStand;
use miyako_e2e::scene::Scene;
use miyako_e2e::wait::{Look, until};
use miyako_lab::qemu::migration::{Cause, Mode, Outcome};
use std::sync::Arc;

/// The policy's `migration.mode` for relief.
const POST_COPY: &str = "PostCopy";
const PRE_COPY: &str = "PreCopy";

/// Slow enough that a fault finds the migration under way.
const SLOW_LINK: u64 = 20_000_000;

/// Waits until memory moves, in pre-copy or after the switch.
async fn under_way(lab: &LabStand, switched: bool) -> anyhow::Result<()> {
    until("vm-0 is on its way", SOON, || async {
        let courses = lab.log.courses();
        let times = courses.last().and_then(|course| course.times.as_ref());
        let there =
            times.is_some_and(|times| if switched { times.resumed.is_some() } else { !times.rounds.is_empty() });
        Ok(Look::holds(there, format!("{courses:?}")))
    })
    .await
}

/// The operator says that the plan failed, and the other VM is as it was.
async fn told(lab: &LabStand) -> anyhow::Result<()> {
    let plans: kube::Api<ConsolidationPlan> = kube::Api::all(lab.scene().admin());
    until("the operator says that the plan failed", SOON, || async {
        let all = plans.list(&ListParams::default()).await?.items;
        let phases: Vec<_> = all.iter().map(|plan| plan.status.clone().unwrap_or_default()).collect();
        Ok(Look::holds(phases.iter().any(|one| one.phase == Some(PlanPhase::Failed)), format!("{phases:?}")))
    })
    .await?;
    whole(lab, "vm-1").await
}

/// KubeVirt calls the VM failed: it is lost.
async fn lost(lab: &LabStand) -> anyhow::Result<()> {
    until("the VMI has failed", SOON, || async {
        let vmi: VirtualMachineInstance = lab.vms().get("vm-0").await?;
        let phase = vmi.status.and_then(|status| status.phase);
        Ok(Look::holds(phase.as_deref() == Some("Failed"), format!("{phase:?}")))
    })
    .await
}

fn last(lab: &LabStand) -> anyhow::Result<Course> {
    lab.log.courses().pop().ok_or_else(|| anyhow::anyhow!("no migration"))
}

/// The target's pod runs, but nothing in it ever does: the VM stays where it is.
pub(crate) async fn target_never_comes_up(scene: Arc<Scene>) -> anyhow::Result<()> {
    let lab = calm(&scene, SLOW_LINK, POST_COPY).await?;
    lab.machines.withhold_targets("vm-0");
    overload(&lab).await?;
    let course = end_of(&lab).await?;
    ensure!(course.outcome.is_none() && course.failure.is_some() && course.times.is_none(), "it began: {course:?}");
    whole(&lab, "vm-0").await?;
    told(&lab).await?;
    let vmi: VirtualMachineInstance = lab.vms().get("vm-0").await?;
    let (node, phase) = vmi.status.map(|status| (status.node_name, status.phase)).unwrap_or_default();
    ensure!(node.as_deref() == Some("shared-0") && phase.as_deref() == Some("Running"), "{phase:?} on {node:?}");
    lab.end()
}

/// The target's QEMU dies in pre-copy: the VM stays where it is.
pub(crate) async fn target_dies_in_pre_copy(scene: Arc<Scene>) -> anyhow::Result<()> {
    let lab = overloaded(&scene, SLOW_LINK, PRE_COPY).await?;
    under_way(&lab, false).await?;
    lab.machines.up(&target_pod(&lab)?, SOON).await?.machine()?.process().kill()?;
    let course = end_of(&lab).await?;
    ensure!(course.outcome == Some(Outcome::Failed(Cause::TargetDied)), "{course:?}");
    whole(&lab, "vm-0").await?;
    told(&lab).await?;
    lab.end()
}

/// The source's QEMU dies in pre-copy: the VM is lost, as it would be without a migration.
pub(crate) async fn source_dies_in_pre_copy(scene: Arc<Scene>) -> anyhow::Result<()> {
    let lab = overloaded(&scene, SLOW_LINK, PRE_COPY).await?;
    under_way(&lab, false).await?;
    lab.machines.home("vm-0")?.machine()?.process().kill()?;
    let course = end_of(&lab).await?;
    ensure!(course.outcome == Some(Outcome::Lost(Cause::SourceDied)), "{course:?}");
    lost(&lab).await?;
    told(&lab).await?;
    lab.end()
}

/// The link breaks in pre-copy: the VM stays where it is.
pub(crate) async fn link_breaks_in_pre_copy(scene: Arc<Scene>) -> anyhow::Result<()> {
    let lab = overloaded(&scene, SLOW_LINK, PRE_COPY).await?;
    under_way(&lab, false).await?;
    lab.node("dedicated-0")?.cut_off()?;
    let course = end_of(&lab).await?;
    ensure!(matches!(course.outcome, Some(Outcome::Failed(_))), "{course:?}");
    lab.node("dedicated-0")?.reconnect()?;
    whole(&lab, "vm-0").await?;
    told(&lab).await?;
    lab.end()
}

/// The link breaks after the switch: the VM is lost, which is what post-copy risks.
pub(crate) async fn link_breaks_in_post_copy(scene: Arc<Scene>) -> anyhow::Result<()> {
    let lab = overloaded(&scene, SLOW_LINK, POST_COPY).await?;
    under_way(&lab, true).await?;
    lab.node("dedicated-0")?.cut_off()?;
    let course = end_of(&lab).await?;
    ensure!(matches!(course.outcome, Some(Outcome::Lost(_))), "{course:?}");
    lab.node("dedicated-0")?.reconnect()?;
    lost(&lab).await?;
    told(&lab).await?;
    lab.end()
}

/// The operator dies after the switch: the migration ends as if nothing had happened, and its successor says so.
pub(crate) async fn operator_dies_in_post_copy(scene: Arc<Scene>) -> anyhow::Result<()> {
    let lab = overloaded(&scene, SLOW_LINK, POST_COPY).await?;
    under_way(&lab, true).await?;
    lab.operator.process().kill()?;
    let course = end_of(&lab).await?;
    ensure!(course.outcome == Some(Outcome::Completed(Mode::PostCopy)), "{course:?}");
    for vm in ["vm-0", "vm-1"] {
        whole(&lab, vm).await?;
    }
    // Busy again, so that the successor has no reason to bring it back.
    overload(&lab).await?;
    let _successor = lab.another_operator(&crate::moves::programs(), "replica-1").await?;
    let plans: kube::Api<ConsolidationPlan> = kube::Api::all(lab.scene().admin());
    until("the successor says that the plan succeeded", SOON, || async {
        let all = plans.list(&ListParams::default()).await?.items;
        let phases: Vec<_> = all.iter().map(|plan| plan.status.clone().unwrap_or_default()).collect();
        Ok(Look::holds(phases.iter().any(|one| one.phase == Some(PlanPhase::Succeeded)), format!("{phases:?}")))
    })
    .await?;
    ensure!(last(&lab)?.uid == course.uid, "it was moved again");
    lab.end()
}

/// The agents die after the switch: nothing is decided blindly, and the migration ends well.
pub(crate) async fn agents_die_in_post_copy(scene: Arc<Scene>) -> anyhow::Result<()> {
    let lab = overloaded(&scene, SLOW_LINK, POST_COPY).await?;
    under_way(&lab, true).await?;
    for node in ["shared-0", "dedicated-0"] {
        lab.agent(node)?.kill()?;
    }
    let course = end_of(&lab).await?;
    ensure!(course.outcome == Some(Outcome::Completed(Mode::PostCopy)), "{course:?}");
    for vm in ["vm-0", "vm-1"] {
        whole(&lab, vm).await?;
    }
    ensure!(lab.log.courses().len() == 1, "something moved without anybody's eyes: {:?}", lab.log.courses());
    lab.end()
}

/// The pod in which the target's QEMU of the only migration is.
fn target_pod(lab: &LabStand) -> anyhow::Result<String> {
    let running = lab.machines.running();
    let target = running.iter().find(|(_, one)| one.vm() == "vm-0" && one.node().name() == "dedicated-0");
    target.map(|(pod, _)| pod.clone()).ok_or_else(|| anyhow::anyhow!("no target"))
}
