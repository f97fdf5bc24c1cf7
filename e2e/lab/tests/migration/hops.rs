//! Migrations that succeed.

use crate::stand::{PAGES, PATIENCE, SLOW, Stand, outcome, sending};
use miyako_lab::guest::channel::{Intensity, Permille, Spoil};
use miyako_lab::qemu::migration::{Mode, Outcome, Phase, Settings};

#[tokio::test]
async fn a_guest_boots_obeys_counts_and_finds_its_spoiled_pages() -> anyhow::Result<()> {
    let (stand, machine) = Stand::boot(100, Intensity::MIXED).await?;
    let state = stand.guest.booted(PATIENCE).await?;
    assert_eq!((state.pages, state.seed, state.workers), (PAGES, 42, 1));
    assert_eq!((state.load, state.intensity), (Permille::new(100).unwrap(), Intensity::MIXED));

    stand.guest.set_load(Permille::new(300).unwrap(), PATIENCE).await?;
    stand.guest.set_intensity(Intensity::WRITE_HEAVY, PATIENCE).await?;
    let before = stand.guest.reports(PATIENCE).await?;
    stand.is_whole().await?;
    let after = stand.guest.reports(PATIENCE).await?;
    assert_eq!(after.target_millis, 300_000, "a third of a thousand operations");
    assert!(after.operations > before.operations && after.writes > before.writes, "{before:?} {after:?}");

    // Nothing writes from now on, so a page stays as it is spoiled.
    stand.guest.set_load(Permille::default(), PATIENCE).await?;
    stand.guest.spoil(17, Spoil::Damage, PATIENCE).await?;
    let check = stand.guest.check(PATIENCE).await?;
    assert_eq!((check.damaged, check.outdated, check.first_bad), (1, 0, Some(17)));
    stand.guest.spoil(PAGES - 1, Spoil::Outdate, PATIENCE).await?;
    let check = stand.guest.check(PATIENCE).await?;
    assert_eq!((check.damaged, check.outdated, check.first_bad), (1, 1, Some(17)));
    // Damage undoes damage.
    stand.guest.spoil(17, Spoil::Damage, PATIENCE).await?;
    let check = stand.guest.check(PATIENCE).await?;
    assert_eq!((check.damaged, check.outdated, check.first_bad), (0, 1, Some(PAGES - 1)));

    stand.guest.power_off().await?;
    let end = tokio::time::timeout(PATIENCE, machine.ended()).await??;
    assert!(end.success(), "{end}: {}", machine.process().tail(10));
    Ok(())
}

#[tokio::test]
async fn there_by_pre_copy_and_back_by_post_copy() -> anyhow::Result<()> {
    let (mut stand, first) = Stand::boot(200, Intensity::MIXED).await?;
    let second = stand.target().await?;
    let there = stand.migrate(&first, &second, Settings::default()).await?;
    assert_eq!(outcome(&there).await?, Outcome::Completed(Mode::PreCopy));
    assert!(!first.is_running().await? && second.is_running().await?);
    stand.is_whole().await?;
    let times = there.times();
    assert!(times.started <= times.rounds[0] && times.rounds[0] <= times.stopped.unwrap(), "{times:?}");
    assert!(times.stopped <= times.resumed && times.resumed <= times.ended, "{times:?}");

    drop(first);
    let third = stand.target().await?;
    let settings = Settings { downtime_limit: SLOW.downtime_limit, bandwidth: Some(64 << 20), ..SLOW };
    let back = stand.migrate(&second, &third, settings).await?;
    sending(&back).await?;
    back.switch_to_post_copy().await?;
    assert_eq!(outcome(&back).await?, Outcome::Completed(Mode::PostCopy));
    assert!(!second.is_running().await? && third.is_running().await?);
    stand.is_whole().await?;
    drop(second);
    stand.is_whole().await?;
    Ok(())
}

#[tokio::test]
async fn a_guest_that_is_paused_to_finish_runs_on_at_the_target() -> anyhow::Result<()> {
    let (mut stand, source) = Stand::boot(500, Intensity::WRITE_HEAVY).await?;
    let target = stand.target().await?;
    let migration = stand.migrate(&source, &target, Settings { post_copy: false, ..SLOW }).await?;
    sending(&migration).await?;
    migration.pause_guest().await?;
    assert_eq!(outcome(&migration).await?, Outcome::Completed(Mode::Paused));
    stand.is_whole().await
}

#[tokio::test]
async fn a_cancelled_migration_leaves_the_source_running() -> anyhow::Result<()> {
    let (mut stand, source) = Stand::boot(200, Intensity::MIXED).await?;
    let target = stand.target().await?;
    let migration = stand.migrate(&source, &target, SLOW).await?;
    sending(&migration).await?;
    assert!(matches!(migration.phase(), Phase::PreCopy(_)), "{:?}", migration.phase());
    migration.cancel().await?;
    assert_eq!(outcome(&migration).await?, Outcome::Cancelled);
    assert!(source.is_running().await?);
    stand.is_whole().await?;

    // And it can still migrate.
    drop(target);
    let target = stand.target().await?;
    let migration = stand.migrate(&source, &target, Settings::default()).await?;
    assert_eq!(outcome(&migration).await?, Outcome::Completed(Mode::PreCopy));
    stand.is_whole().await
}
