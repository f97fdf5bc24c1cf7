//! VMs that are none: processes in real control groups, laid out as a kubelet lays them out, that use known amounts of
//! CPU, disk and network, and tell what they used by their own count. Needs root.

#![allow(dead_code, missing_docs, unreachable_pub)] // shared by a test and a benchmark, each of which uses a part

mod burner;
mod groups;

pub use burner::{Burn, Burnt, run_if_burner};
pub use groups::Groups;

use anyhow::Context as _;
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// A process that burns in a control group and a network of its own.
pub struct Burner {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Burner {
    /// Starts one, idle.
    pub fn start(burn: &Burn, groups: &Groups, pod: &str) -> anyhow::Result<Self> {
        let this = std::env::current_exe()?;
        let mut command = if burn.bytes_sent > 0 {
            // An interface with a peer that nobody reads from; the peer's name is one of those that are not counted.
            let script = "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1; \
                ip link add eth0 type veth peer name tap0 && ip addr add 10.9.0.1/24 dev eth0 && \
                ip link set eth0 up && ip link set tap0 up && \
                ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev eth0 && exec \"$0\"";
            let mut command = Command::new("unshare");
            command.args(["--net", "sh", "-c", script]).arg(this);
            command
        } else {
            Command::new(this)
        };
        command.env("MIYAKO_BURN", serde_json::to_string(burn)?).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("could not start a burner")?;
        let orders = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut burner = Self { child, orders, answers };
        burner.line().context("a burner did not start: are `ip` and `unshare` here, and are we root?")?;
        groups.add(pod, burner.child.id())?;
        Ok(burner)
    }

    /// Lets it burn.
    pub fn go(&mut self) -> anyhow::Result<()> {
        Ok(self.orders.write_all(b"go\n")?)
    }

    /// Makes it idle again, and asks what it used since it went.
    pub fn stop(&mut self) -> anyhow::Result<Burnt> {
        self.orders.write_all(b"stop\n")?;
        Ok(serde_json::from_str(&self.line()?)?)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        anyhow::ensure!(self.answers.read_line(&mut line)? > 0, "it ended");
        Ok(line)
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether this machine lets us make control groups.
pub fn can_burn() -> Result<(), String> {
    if !Path::new("/sys/fs/cgroup").is_dir() {
        return Err("there are no control groups".to_owned());
    }
    Groups::new().map(drop).map_err(|error| format!("can't make control groups: {error:#}"))
}
