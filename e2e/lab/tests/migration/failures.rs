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
        let (stand, source) = Stand::boot(200, Intensity::MIXED).await?;
        Self::again(stand, source).await
    }

    /// Begins with a VM that has stayed where it was.
    async fn again(mut stand: Stand, source: Machine) -> anyhow::Result<Self> {
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

    /// Waits for the end, and sees that the VM runs on the source as if nothing had been.
    async fn stays(self) -> anyhow::Result<(Outcome, Stand, Machine)> {
        let outcome = outcome(&self.migration).await?;
        anyhow::ensure!(self.source.is_running().await?, "the source stands still: {outcome:?}");
        self.stand.is_whole().await?;
        Ok((outcome, self.stand, self.source))
    }
}

/// One VM for all three, which is part of the proof.
#[tokio::test]
async fn in_pre_copy_the_source_outlives_targets_and_links() -> anyhow::Result<()> {
    let vm = UnderWay::begin().await?;
    vm.target.process().kill()?;
    let (outcome, stand, source) = vm.stays().await?;
    assert_eq!(outcome, Outcome::Failed(Cause::TargetDied));

    let vm = UnderWay::again(stand, source).await?;
    vm.link.cut();
    let (outcome, stand, source) = vm.stays().await?;
    // A target that gets no more gives up by itself; which of the two is seen first is the kernel's choice.
    assert!(matches!(outcome, Outcome::Failed(Cause::Broken | Cause::TargetDied)), "{outcome:?}");

    // Nobody notices, so somebody has to give up.
    let vm = UnderWay::again(stand, source).await?;
    vm.link.stand_still();
    vm.migration.cancel().await?;
    let (outcome, ..) = vm.stays().await?;
    assert_eq!(outcome, Outcome::Cancelled);
    Ok(())
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
