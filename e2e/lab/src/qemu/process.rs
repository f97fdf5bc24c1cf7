//! A process whose life is tied to ours.
//!
//! 1. Dropping a [`Process`] kills it and waits for it.
//! 2. The kernel kills it when we die without dropping anything (`setpriv --pdeathsig KILL`). That signal follows the
//!    *thread* that started the process, so one thread starts them all and lives as long as we do. A prefix such as
//!    `nsenter` that forks is covered too: the prefix dies with us, and the program dies with the prefix.
//! 3. It is signalled through a pidfd, so never another that got its number.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus};
use std::sync::{OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use tokio::sync::watch;

/// A running program.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    handle: OwnedFd,
    ended: watch::Receiver<Option<ExitStatus>>,
    waiter: Option<JoinHandle<()>>,
}

/// The command for a program behind a prefix (which may be empty), so that neither outlives the thread that starts it.
pub(crate) fn mortal(prefix: &[impl AsRef<OsStr>], program: impl AsRef<OsStr>) -> Command {
    let deadly = ["--pdeathsig", "KILL", "--"];
    let mut command = Command::new("setpriv");
    command.args(deadly);
    if !prefix.is_empty() {
        command.args(prefix).arg("setpriv").args(deadly);
    }
    command.arg(program);
    command
}

impl Process {
    /// Starts a command made by [`mortal`].
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn start(command: Command) -> io::Result<Self> {
        let mut child = spawn(command)?;
        let pid = child.id();
        // The child is not waited for yet, so the number is still its own.
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let handle = number
            .ok_or_else(|| io::Error::other("a process id out of range"))
            .and_then(|number| pidfd_open(number, PidfdFlags::empty()).map_err(io::Error::from));
        let handle = match handle {
            Ok(handle) => handle,
            Err(error) => {
                child.kill()?;
                child.wait()?;
                return Err(error);
            }
        };
        let (sender, ended) = watch::channel(None);
        let waiter = thread::spawn(move || {
            // Waiting fails only for what is not our child.
            if let Ok(status) = child.wait() {
                sender.send_replace(Some(status));
            }
        });
        Ok(Self { pid, handle, ended, waiter: Some(waiter) })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, or `None` while it runs.
    #[must_use]
    pub fn ended(&self) -> Option<ExitStatus> {
        *self.ended.borrow()
    }

    /// Shows how it ended once it has.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Option<ExitStatus>> {
        self.ended.clone()
    }

    /// Waits for its end.
    pub async fn wait(&self) -> Option<ExitStatus> {
        let mut ended = self.ended.clone();
        ended.wait_for(Option::is_some).await.ok().and_then(|status| *status)
    }

    /// Stops it where it is, as if its machine stood still (SIGSTOP).
    ///
    /// # Errors
    /// When it has ended.
    pub fn freeze(&self) -> io::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`Self::freeze`] (SIGCONT).
    ///
    /// # Errors
    /// When it has ended.
    pub fn thaw(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Ends it at once (SIGKILL). It may take a moment until [`Self::ended`] knows.
    pub fn kill(&self) {
        // It may have ended already, which is as good.
        let _ = self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.handle, signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if let Some(waiter) = self.waiter.take() {
            // The thread does nothing that could panic.
            let _ = waiter.join();
        }
    }
}

type Order = (Command, mpsc::Sender<io::Result<std::process::Child>>);

/// Starts a program from the one thread that never ends before we do.
fn spawn(command: Command) -> io::Result<std::process::Child> {
    static ORDERS: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let gone = || io::Error::other("the thread that starts programs is gone");
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
    orders.send((command, reply)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}
