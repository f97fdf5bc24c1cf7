//! Nothing outlives its owner.

use crate::stand::PATIENCE;
use anyhow::Context as _;
use miyako_lab::guest::{Boot, Image};
use miyako_lab::qemu::{LaunchError, Machine, Spec};
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

/// Tells this test's second self, in whose folder it is to start a QEMU and crash.
const FOLDER: &str = "MIYAKO_LAB_CRASH_IN";

async fn launch(folder: &Path, prefix: &[&str]) -> anyhow::Result<Machine> {
    let image = tokio::task::spawn_blocking(Image::make).await??;
    let mut spec = Spec::new("vm0", folder, image, Boot::default());
    spec.prefix = prefix.iter().map(OsString::from).collect();
    Ok(Machine::launch(spec).await?)
}

/// Whether a process is there and more than an entry in a table.
fn lives(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z') && !line.contains('X'))
}

async fn ends(pid: u32) -> anyhow::Result<()> {
    let gone = async {
        while lives(pid) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.with_context(|| format!("process {pid} is still there"))
}

/// The QEMU that works in this folder.
fn qemu_in(folder: &Path) -> anyhow::Result<u32> {
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        if command.starts_with("qemu-system") && command.contains(&*folder.to_string_lossy()) {
            return Ok(entry.file_name().to_string_lossy().parse()?);
        }
    }
    anyhow::bail!("no QEMU in {}", folder.display())
}

#[tokio::test]
async fn a_crash_leaves_nothing_behind() -> anyhow::Result<()> {
    // As a launcher's prefix does, which enters namespaces and cgroups on the way.
    const PREFIX: [&str; 4] = ["sh", "-c", "exec \"$@\"", "sh"];
    if let Some(folder) = std::env::var_os(FOLDER) {
        let _machine = launch(Path::new(&folder), &PREFIX).await?;
        eprintln!("launched");
        std::future::pending::<()>().await;
    }
    let folder = tempfile::Builder::new().prefix("lab-").tempdir()?;
    let mut myself = Command::new(std::env::current_exe()?)
        .args(["--exact", "leftovers::a_crash_leaves_nothing_behind", "--nocapture"])
        .env(FOLDER, folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(myself.stderr.take().context("its standard error")?).lines();
    while lines.next_line().await?.context("it ended too soon")? != "launched" {}
    let qemu = qemu_in(folder.path())?;
    myself.start_kill()?;
    ends(qemu).await
}

#[tokio::test]
async fn a_machine_that_is_dropped_is_gone() -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("lab-").tempdir()?;
    let machine = launch(folder.path(), &[]).await?;
    let pid = machine.process().pid();
    assert!(lives(pid));
    drop(machine);
    assert!(!lives(pid), "dropping waits for the end");
    Ok(())
}

#[tokio::test]
async fn a_qemu_that_can_not_start_says_why() -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("lab-").tempdir()?;
    let image = Image { kernel: "/no/kernel".into(), initramfs: "/no/initramfs".into() };
    let error = Machine::launch(Spec::new("vm0", folder.path(), image, Boot::default())).await.unwrap_err();
    assert!(matches!(error, LaunchError::Ended { .. }) && error.to_string().contains("/no/kernel"), "{error}");
    Ok(())
}
