//! A VM and the machines it moves between.

use anyhow::Context as _;
use miyako_lab::guest::channel::{Intensity, Permille};
use miyako_lab::guest::{Boot, Guest, Image};
use miyako_lab::qemu::migration::{Migration, Outcome, Phase, Route, Settings};
use miyako_lab::qemu::{Machine, Spec};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// Longer than anything takes on a machine that is shared with many.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// 24 MiB, so that a hop is quick and still takes several rounds.
pub(crate) const PAGES: u32 = 6144;

/// A VM, followed through its hops.
pub(crate) struct Stand {
    folder: TempDir,
    spec: Spec,
    pub(crate) guest: Guest,
    machines: usize,
}

impl Stand {
    /// A VM with this benchmark, booted.
    pub(crate) async fn boot(load: u64, intensity: Intensity) -> anyhow::Result<(Self, Machine)> {
        let image = tokio::task::spawn_blocking(Image::make).await??;
        let folder = tempfile::Builder::new().prefix("lab-").tempdir()?;
        let load = Permille::new(load).context("a load")?;
        let boot = Boot { pages: PAGES, seed: 42, load, intensity, ..Boot::default() };
        let spec = Spec::new("vm0", folder.path().join("0"), image, boot);
        let stand = Self { folder, spec, guest: Guest::new("vm0"), machines: 0 };
        let machine = Machine::launch(stand.spec.clone()).await?;
        stand.guest.attach(machine.spec().guest_socket());
        stand.guest.booted(PATIENCE).await.with_context(|| {
            let console = std::fs::read(machine.spec().console()).unwrap_or_default();
            format!("its console: {}", String::from_utf8_lossy(&console))
        })?;
        Ok((stand, machine))
    }

    /// One more machine that waits for the VM.
    pub(crate) async fn target(&mut self) -> anyhow::Result<Machine> {
        self.machines += 1;
        let machine = Machine::launch(self.spec.target(self.folder.path().join(self.machines.to_string()))).await?;
        self.guest.attach(machine.spec().guest_socket());
        Ok(machine)
    }

    /// Begins to migrate, over a socket between the two.
    pub(crate) async fn migrate(
        &self,
        source: &Machine,
        target: &Machine,
        settings: Settings,
    ) -> anyhow::Result<Migration> {
        let route = Route::direct(self.socket());
        Ok(Migration::start(source, target, &route, settings).await?)
    }

    /// Where targets listen.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join(format!("hop-{}.sock", self.machines))
    }

    /// The VM still runs, only once, and every page of its memory is what it should be.
    pub(crate) async fn is_whole(&self) -> anyhow::Result<()> {
        self.guest.reports(PATIENCE).await?;
        let check = self.guest.check(PATIENCE).await?;
        anyhow::ensure!(check.is_good() && check.pages == PAGES, "{check:?}");
        anyhow::ensure!(self.guest.ran_twice().is_none(), "report {:?} came from two machines", self.guest.ran_twice());
        Ok(())
    }
}

/// So slow that a hop takes seconds: time to interfere.
pub(crate) const SLOW: Settings = Settings {
    bandwidth: Some(8 << 20),
    downtime_limit: Duration::from_millis(1),
    post_copy: true,
    auto_converge: false,
    limited_cpu: false,
};

/// The end of a migration, unless it never comes.
pub(crate) async fn outcome(migration: &Migration) -> anyhow::Result<Outcome> {
    let end = tokio::time::timeout(PATIENCE, migration.outcome()).await;
    end.with_context(|| format!("no end of the migration; it stands at {:?}", migration.phase()))
}

/// Waits until memory is sent.
pub(crate) async fn sending(migration: &Migration) -> anyhow::Result<()> {
    let mut phase = migration.watch();
    let sent = |phase: &Phase| match phase {
        Phase::PreCopy(progress) | Phase::PostCopy(progress) => progress.transferred > 0,
        Phase::Connecting => false,
        Phase::Ended(_) => true,
    };
    let reached = *tokio::time::timeout(PATIENCE, phase.wait_for(sent)).await??;
    anyhow::ensure!(!matches!(reached, Phase::Ended(_)), "it ended too soon: {reached:?}");
    Ok(())
}
