//! QEMUs that die at the worst moments.

use crate::stand::{SLOW, Stand, outcome, sending};
use miyako_lab::guest::channel::Intensity;
use miyako_lab::qemu::migration::{Cause, Outcome, Phase};
use miyako_lab::qemu::qmp::QmpError;

#[tokio::test]
async fn a_target_killed_in_pre_copy_leaves_the_source_running() -> anyhow::Result<()> {
    let (mut stand, source) = Stand::boot(200, Intensity::MIXED).await?;
    let target = stand.target().await?;
    let migration = stand.migrate(&source, &target, SLOW).await?;
    sending(&migration).await?;
    target.process().kill();
    assert_eq!(outcome(&migration).await?, Outcome::Failed(Cause::TargetDied));
    assert!(source.is_running().await?);
    stand.is_whole().await
}

#[tokio::test]
async fn a_source_killed_in_pre_copy_takes_the_vm_with_it() -> anyhow::Result<()> {
    let (mut stand, source) = Stand::boot(200, Intensity::MIXED).await?;
    let target = stand.target().await?;
    let migration = stand.migrate(&source, &target, SLOW).await?;
    sending(&migration).await?;
    source.process().kill();
    assert_eq!(outcome(&migration).await?, Outcome::Lost(Cause::SourceDied));
    assert_eq!(source.is_running().await, Err(QmpError::Gone));
    assert_eq!(migration.switch_to_post_copy().await, Err(QmpError::Gone));
    Ok(())
}

#[tokio::test]
async fn either_end_killed_in_post_copy_loses_the_vm() -> anyhow::Result<()> {
    for (victim, cause) in [("source", Cause::SourceDied), ("target", Cause::TargetDied)] {
        let (mut stand, source) = Stand::boot(0, Intensity::BUSY_LOOP).await?;
        let target = stand.target().await?;
        let migration = stand.migrate(&source, &target, SLOW).await?;
        sending(&migration).await?;
        // The second phase has no limit of its own, as with KubeVirt; here it must last until someone dies.
        migration.switch_to_post_copy().await?;
        migration.watch().wait_for(|phase| matches!(phase, Phase::PostCopy(_))).await?;
        if victim == "source" {
            source.process().kill()
        } else {
            target.process().kill()
        }
        assert_eq!(outcome(&migration).await?, Outcome::Lost(cause), "the {victim} was killed");
    }
    Ok(())
}
