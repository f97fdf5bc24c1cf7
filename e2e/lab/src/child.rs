//! Programs whose life is tied to ours.
//!
//! 1. Dropping a [`Child`] kills it and waits for it.
//! 2. The kernel kills it when we die without dropping anything (`setpriv --pdeathsig KILL`). That signal follows the
//!    *thread* that started the child, so one thread starts them all and lives as long as the process.
//! 3. Each carries [`MARK`] in its environment, by which [`survivors`] finds whatever is left.
//!
//! Each child has a process group of its own, so that an interrupt at the terminal ends us first and the order in
//! which things stop is ours.

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// The environment variable that every child carries; its value is the stand's folder.
pub const MARK: &str = "MIYAKO_STAND";

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    name: String,
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
}

impl Program {
    /// A program under the name by which messages and its log file speak of it.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), path: path.into(), arguments: Vec::new(), environment: BTreeMap::new() }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// A flag with a value, as `--name=value`.
    #[must_use]
    pub fn flag(self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let mut argument = OsString::from(format!("--{name}="));
        argument.push(value);
        self.arg(argument)
    }

    /// An environment variable. Nothing of our own environment is passed on but `PATH` and `HOME`.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Runs it through another command line, which ends by executing what follows it: `nsenter … --` and the like.
    #[must_use]
    pub fn behind(mut self, prefix: impl IntoIterator<Item = OsString>) -> Self {
        let mut words = prefix.into_iter();
        if let Some(first) = words.next() {
            let own = std::mem::replace(&mut self.path, first.into());
            let arguments = words.chain([own.into_os_string()]).chain(std::mem::take(&mut self.arguments));
            self.arguments = arguments.collect();
        }
        self
    }

    /// Starts it, with its output appended to `<name>.log` in `folder`.
    ///
    /// # Errors
    /// When its log can't be written or it can't be started.
    pub fn start(&self, folder: &Path) -> anyhow::Result<Child> {
        let log = folder.join(format!("{}.log", self.name));
        let begin = std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.path)
            .args(&self.arguments)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "HOME"))
            .envs(&self.environment)
            .env(MARK, folder)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        let process = spawn(command).with_context(|| format!("starting {} ({})", self.name, self.path.display()))?;
        Ok(Child { name: self.name.clone(), pid: process.id(), process: Mutex::new(process), log, begin })
    }
}

type Order = (Command, mpsc::Sender<io::Result<std::process::Child>>);

/// Starts a program from the one thread that never ends before the process does.
fn spawn(command: Command) -> io::Result<std::process::Child> {
    static ORDERS: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in receiver {
                // A caller that is gone drops the child's handle; the parent-death signal still ends the child.
                let _ = reply.send(command.spawn());
            }
        });
        sender
    });
    let (reply, answer) = mpsc::channel();
    orders.send((command, reply)).map_err(|_| io::Error::other("the thread that starts programs is gone"))?;
    answer.recv().map_err(|_| io::Error::other("the thread that starts programs is gone"))?
}

/// A running program.
#[derive(Debug)]
pub struct Child {
    name: String,
    pid: u32,
    process: Mutex<std::process::Child>,
    log: PathBuf,
    /// Where its output begins in the log, which an earlier program of the same name may have begun.
    begin: u64,
}

impl Child {
    /// The name it was started under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, or `None` while it runs.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn ended(&self) -> io::Result<Option<ExitStatus>> {
        self.process().try_wait()
    }

    /// Stops it where it is (SIGSTOP), as if its machine stood still.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`Self::pause`].
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Kills it at once (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn kill(&self) -> io::Result<()> {
        let mut process = self.process();
        if process.try_wait()?.is_none() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Asks it to end (SIGTERM), waits for at most `grace`, then kills it. Returns how it ended.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub async fn stop(&self, grace: Duration) -> anyhow::Result<ExitStatus> {
        let begin = Instant::now();
        if self.ended()?.is_none() {
            self.signal(Signal::TERM)?;
        }
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if begin.elapsed() > grace {
                self.kill()?;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The last lines that it wrote.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// Everything that it wrote.
    ///
    /// # Errors
    /// When its log can't be read.
    pub fn output(&self) -> io::Result<String> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.begin))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        // Held until the signal is sent: while nobody has waited for the child, its process id can't be another's.
        let mut process = self.process();
        if let Some(status) = process.try_wait()? {
            anyhow::bail!("{} has ended already ({status}):\n{}", self.name, self.tail(20));
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("a process id out of range")?;
        kill_process(pid, signal).with_context(|| format!("signalling {}", self.name))
    }

    fn process(&self) -> MutexGuard<'_, std::process::Child> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("{} could not be killed: {error}", self.name);
        }
    }
}

/// The last lines of a file, or why there are none.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> String {
    /// More than any sensible number of lines.
    const MOST: u64 = 1 << 18;
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MOST)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = text.lines().collect();
        Ok(all[all.len().saturating_sub(lines)..].join("\n"))
    };
    read().unwrap_or_else(|error| format!("(no log: {error})"))
}

/// The processes, other than zombies, that carry the [`MARK`] of a stand in this folder: process id and command line.
///
/// # Errors
/// When `/proc` can't be read.
pub fn survivors(folder: &Path) -> io::Result<Vec<(u32, String)>> {
    marked(|place| place == folder)
}

/// The same for every folder below this one too.
///
/// # Errors
/// When `/proc` can't be read.
pub fn survivors_below(folder: &Path) -> io::Result<Vec<(u32, String)>> {
    marked(|place| place.starts_with(folder))
}

fn marked(belongs: impl Fn(&Path) -> bool) -> io::Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end while we look, and others' are not ours to read.
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
        let mut entries = environment.split(|byte| *byte == 0).filter_map(|entry| entry.strip_prefix(MARK.as_bytes()));
        let folder = entries.find_map(|rest| rest.strip_prefix(b"=")).map(OsStr::from_bytes);
        if folder.is_some_and(|folder| belongs(Path::new(folder))) {
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
        }
    }
    Ok(found)
}
