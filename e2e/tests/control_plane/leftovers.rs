//! Nothing outlives a run, not even one that is killed. (That nothing outlives a run that ends is checked whenever a
//! stand stops.)

use anyhow::{Context as _, ensure};
use miyako_e2e::child::{Program, survivors};
use miyako_e2e::control_plane::servers::free_ports;
use miyako_e2e::scene::Scene;
use miyako_e2e::tools::Tools;
use miyako_e2e::wait::{Look, until};
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// In the environment of the run that is to be killed: where it keeps its files.
pub(crate) const KILLED_RUN: &str = "MIYAKO_KILLED_RUN";

/// A second run starts a server; the run is killed, and the server is gone with it.
pub(crate) async fn killed_run_leaves_nothing(scene: Arc<Scene>) -> anyhow::Result<()> {
    let folder = scene.stand().folder().join("killed-run");
    std::fs::create_dir(&folder)?;
    let mut run = Command::new(std::env::current_exe()?)
        .env(KILLED_RUN, &folder)
        .stdin(Stdio::null())
        .spawn()
        .context("starting a second run")?;
    // etcd, and not the program that ties it to its parent and then becomes it.
    let etcd = until("the second run has a server", Duration::from_secs(30), || async {
        let is_etcd = |command: &str| command.contains("--data-dir") && !command.starts_with("setpriv");
        let found = survivors(&folder)?.into_iter().find(|(_, command)| is_etcd(command));
        Ok(Look::some(found, "none"))
    })
    .await;
    run.kill()?;
    run.wait()?;
    let (pid, _) = etcd?;
    ensure!(pid != run.id(), "the run and its server are one process");
    until("nothing is left of the second run", Duration::from_secs(10), || async {
        let left = survivors(&folder)?;
        Ok(Look::holds(left.is_empty(), format!("{left:?}")))
    })
    .await
}

/// The run that is to be killed.
pub(crate) fn be_killed(folder: &OsStr) -> ExitCode {
    let folder = Path::new(folder);
    let started = Tools::build().and_then(|tools| {
        let [client, peer] = free_ports()?.map(|port| format!("http://127.0.0.1:{port}"));
        Program::new("etcd", tools.path("etcd"))
            .flag("data-dir", folder.join("data"))
            .flag("listen-client-urls", &client)
            .flag("advertise-client-urls", &client)
            .flag("listen-peer-urls", &peer)
            .start(folder)
    });
    match started {
        Ok(_server) => loop {
            std::thread::park();
        },
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
