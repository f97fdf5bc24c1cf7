//! QEMUs that die and links that break, at the worst moments.

use crate::link::Link;
use crate::stand::{PATIENCE, SLOW, Stand, outcome, sending};
use anyhow::Context as _;
use miyako_lab::guest::channel::Intensity;
use miyako_lab::qemu::Machine;
use miyako_lab::qemu::migration::{Cause, Migration, Outcome, Phase, Route};
use miyako_lab::qemu::qmp::QmpError;
use std::time::Duration;

/// A VM whose memory is on its way over a slow link.
struct UnderWay {
    stand: Stand,
    source: Machine,
    target: Machine,
    link: Link,
    migration: Migration,
}

impl UnderWay {
    async fn begin() -> anyhow::Result<Self> {
        let (mut stand, source) = Stand::boot(200, Intensity::MIXED).await?;
        let target = stand.target().await?;
        let route = Route { listen: stand.socket(), connect: stand.socket().with_extension("link") };
        let link = Link::new(&route.connect, &route.listen)?;
        let migration = Migration::start(&source, &target, &route, SLOW).await?;
        sending(&migration).await?;
        Ok(Self { stand, source, target, link, migration })
    }

    /// Switches to post-copy, and returns when the target runs.
    async fn switch(&self) -> anyhow::Result<()> {
        self.migration.switch_to_post_copy().await?;
        let runs = async {
            while self.migration.times().resumed.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, runs).await;
        waited.with_context(|| format!("the target does not run; {:?}", self.migration.phase()))?;
        anyhow::ensure!(matches!(self.migration.phase(), Phase::PostCopy(_)), "{:?}", self.migration.phase());
        Ok(())
    }

    async fn stays_at_the_source(&self, expected: Outcome) -> anyhow::Result<()> {
        anyhow::ensure!(outcome(&self.migration).await? == expected, "{:?}", self.migration.phase());
        anyhow::ensure!(self.source.is_running().await?, "the source stands still");
        self.stand.is_whole().await
    }
}

#[tokio::test]
async fn a_target_killed_in_pre_copy_leaves_the_source_running() -> anyhow::Result<()> {
    let vm = UnderWay::begin().await?;
    vm.target.process().kill()?;
    vm.stays_at_the_source(Outcome::Failed(Cause::TargetDied)).await
}

#[tokio::test]
async fn a_link_cut_in_pre_copy_leaves_the_source_running() -> anyhow::Result<()> {
    let vm = UnderWay::begin().await?;
    vm.link.cut();
    // A target that gets no more gives up by itself; which of the two is seen first is the kernel's choice.
    let outcome = outcome(&vm.migration).await?;
    assert!(matches!(outcome, Outcome::Failed(Cause::Broken | Cause::TargetDied)), "{outcome:?}");
    vm.stays_at_the_source(outcome).await
}

#[tokio::test]
async fn a_link_that_stands_still_in_pre_copy_can_be_given_up() -> anyhow::Result<()> {
    let vm = UnderWay::begin().await?;
    vm.link.stand_still();
    vm.migration.cancel().await?;
    vm.stays_at_the_source(Outcome::Cancelled).await
}

#[tokio::test]
async fn a_source_killed_in_pre_copy_takes_the_vm_with_it() -> anyhow::Result<()> {
    let vm = UnderWay::begin().await?;
    vm.source.process().kill()?;
    assert_eq!(outcome(&vm.migration).await?, Outcome::Lost(Cause::SourceDied));
    assert_eq!(vm.source.is_running().await, Err(QmpError::Gone));
    assert_eq!(vm.migration.switch_to_post_copy().await, Err(QmpError::Gone));
    Ok(())
}

#[tokio::test]
async fn a_source_killed_in_post_copy_loses_the_vm() -> anyhow::Result<()> {
    let vm = UnderWay::begin().await?;
    vm.switch().await?;
    vm.source.process().kill()?;
    assert_eq!(outcome(&vm.migration).await?, Outcome::Lost(Cause::SourceDied));
    Ok(())
}

#[tokio::test]
async fn a_target_killed_in_post_copy_loses_the_vm() -> anyhow::Result<()> {
    let vm = UnderWay::begin().await?;
    vm.switch().await?;
    vm.target.process().kill()?;
    assert_eq!(outcome(&vm.migration).await?, Outcome::Lost(Cause::TargetDied));
    assert!(!vm.source.is_running().await?, "its memory went on without it");
    Ok(())
}

#[tokio::test]
async fn a_link_cut_in_post_copy_loses_the_vm() -> anyhow::Result<()> {
    let vm = UnderWay::begin().await?;
    vm.switch().await?;
    vm.link.cut();
    assert_eq!(outcome(&vm.migration).await?, Outcome::Lost(Cause::Broken));
    assert!(!vm.source.is_running().await?, "its memory went on without it");
    Ok(())
}
