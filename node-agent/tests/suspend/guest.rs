//! A QEMU and the shell in it.

use super::initramfs;
use anyhow::{Context as _, bail};
use miyako_lab::{guest::Image, qemu::qmp::Qmp};
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::OnceLock,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

/// How long anything may take, on a machine that emulates several of these at once.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);

/// How a command in the guest ended.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) succeeded: bool,
    /// What it printed, standard error included.
    pub(super) output: String,
}

/// A machine with our agent on it. It ends with the test.
pub(super) struct Guest {
    qmp: Qmp,
    write: OwnedWriteHalf,
    lines: BufReader<OwnedReadHalf>,
    /// What the command that was begun has printed, and of the line that it is printing.
    output: String,
    line: Vec<u8>,
    early: Option<Answer>,
    folder: TempDir,
    _process: Child,
}

impl Guest {
    /// Boots a machine of this type until its shell answers.
    pub(super) async fn boot(machine: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let process = start(machine, folder.path())?;
        let connect = async {
            loop {
                if let Ok(qmp) = Qmp::connect(&folder.path().join("qmp")).await {
                    return (qmp, UnixStream::connect(folder.path().join("shell")).await);
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let (qmp, shell) = timeout(PATIENCE, connect).await.context("QEMU does not listen")?;
        let (read, write) = shell?.into_split();
        let lines = BufReader::new(read);
        let (output, line) = (String::new(), Vec::new());
        let mut guest = Self { qmp: qmp?, write, lines, output, line, early: None, folder, _process: process };
        guest.answer().await.context("it does not boot")?;
        Ok(guest)
    }

    /// Runs a command to its end.
    pub(super) async fn run(&mut self, command: &str) -> anyhow::Result<Answer> {
        self.begin(command).await?;
        self.answer().await
    }

    /// Begins a command.
    pub(super) async fn begin(&mut self, command: &str) -> anyhow::Result<()> {
        self.write.write_all(format!("{command}\n").as_bytes()).await?;
        Ok(())
    }

    /// Waits until the command that was begun has ended.
    pub(super) async fn answer(&mut self) -> anyhow::Result<Answer> {
        if let Some(answer) = self.early.take() {
            return Ok(answer);
        }
        match timeout(PATIENCE, self.next_answer()).await {
            Ok(answer) => answer.with_context(|| self.last_words()),
            Err(_) => bail!("no answer from the guest; its console: {}", self.last_words()),
        }
    }

    /// Every line that the command which was begun prints, and when it came, until it has ended.
    #[allow(dead_code, reason = "the benchmark's alone")]
    pub(super) async fn timed_lines(&mut self) -> anyhow::Result<Vec<(Instant, String)>> {
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            let read = timeout(PATIENCE, self.lines.read_until(b'\n', &mut line)).await;
            if read.with_context(|| self.last_words())?? == 0 {
                bail!("the guest is gone; its console: {}", self.last_words());
            }
            let line = String::from_utf8_lossy(&line).trim().to_owned();
            match line.strip_prefix("=ended ") {
                Some("0") => return Ok(lines),
                Some(_) => bail!("it failed: {lines:?}"),
                None => lines.push((Instant::now(), line)),
            }
        }
    }

    /// A connection to the machine's QEMU.
    #[allow(dead_code, reason = "the benchmark's alone")]
    pub(super) fn qemu(&self) -> Qmp {
        self.qmp.clone()
    }

    /// Waits until QEMU says that the machine sleeps.
    pub(super) async fn until_asleep(&mut self) -> anyhow::Result<()> {
        if self.until_asleep_or_answered().await? {
            return Ok(());
        }
        bail!("it does not sleep: {}", self.answer().await?.output)
    }

    /// Waits until the machine sleeps (true), or the command that was begun has ended without (false).
    pub(super) async fn until_asleep_or_answered(&mut self) -> anyhow::Result<bool> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if self.sleeps().await? {
                return Ok(true);
            }
            // What it says before it sleeps is kept for its answer.
            if let Ok(answer) = timeout(Duration::from_millis(50), self.next_answer()).await {
                self.early = Some(answer.with_context(|| self.last_words())?);
                return Ok(false);
            }
        }
        bail!("it neither sleeps nor answers; its console: {}", self.last_words())
    }

    /// Whether QEMU says that the machine sleeps.
    pub(super) async fn sleeps(&self) -> anyhow::Result<bool> {
        Ok(self.qmp.execute("query-status", json!({})).await?["status"] == "suspended")
    }

    /// Wakes the machine, as a management controller does.
    pub(super) async fn wake(&self) -> anyhow::Result<()> {
        self.qmp.execute("system_wakeup", json!({})).await?;
        Ok(())
    }

    /// Nothing is lost when this is given up and asked again.
    async fn next_answer(&mut self) -> anyhow::Result<Answer> {
        loop {
            if self.lines.read_until(b'\n', &mut self.line).await? == 0 {
                bail!("the guest is gone");
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            if let Some(status) = line.trim().strip_prefix("=ended ") {
                let output = std::mem::take(&mut self.output);
                return Ok(Answer { succeeded: status == "0", output });
            }
            self.output.push_str(&line);
        }
    }

    fn last_words(&self) -> String {
        let console = std::fs::read(self.folder.path().join("console")).unwrap_or_default();
        let text = String::from_utf8_lossy(&console).into_owned();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

fn start(machine: &str, folder: &Path) -> anyhow::Result<Child> {
    let kernel = Image::make()?.kernel;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64", "-machine", machine]);
    command.args([
        "-accel",
        "tcg,thread=multi,tb-size=64",
        "-m",
        "384",
        "-nodefaults",
        "-nographic",
        "-no-user-config",
    ]);
    command.arg("-no-reboot");
    command.arg("-chardev").arg(format!("file,id=console,path={}", folder.join("console").display()));
    for (id, name) in [("shell", "shell"), ("qmp", "qmp")] {
        let path = folder.join(name);
        command.arg("-chardev").arg(format!("socket,id={id},path={},server=on,wait=off", path.display()));
    }
    command.args(["-serial", "chardev:console", "-serial", "chardev:shell", "-mon", "chardev=qmp,mode=control"]);
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs()?);
    command.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command.spawn().context("is the package qemu-system-x86 installed? (e2e/tools/apt)")
}

/// Made once for all tests.
fn initramfs() -> anyhow::Result<&'static Path> {
    static IMAGE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("suspend");
    let made = IMAGE.get_or_init(|| initramfs::make(&folder).map_err(|error| format!("{error:#}")));
    made.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}
