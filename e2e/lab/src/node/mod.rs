//! Nodes: network namespaces with cgroups, links, launchers and a virt-handler's proxy.
//!
//! ```text
//! cgroups   miyako-lab-<slot>/<node>/                       frozen and killed as one
//!             machine/                                      the CPU quota: what the node has for VMs
//!               kubepods/burstable/pod<uid>/compute/        a launcher and its QEMU
//!             daemons/                                      virt-handler, the agent
//! network   miyako-lab-<slot>-<node>                        one link to the lab's bridge, limited in both directions
//! mounts    one namespace for each launcher, with its own /var/run
//! ```
//! As in the papers' racks, daemons have cores of their own and take nothing from the VMs: the quota is on `machine`
//! alone (Reactive Cloud §4: the first core of each node is for VMs, the second for control and monitoring).
//!
//! **Nothing outlives the lab.** Programs are started through [`crate::child`], so they end when their starter dies.
//! Namespaces, links and cgroups carry the number of the lab's [slot]; dropping the [`Lab`] removes them, and whoever
//! begins a lab first removes those of labs whose starter is dead.

pub mod launcher;
pub mod proxy;

mod certificates;
mod cgroups;
mod error;
mod handler;
mod network;
mod slot;

pub use error::NodeError;
pub use handler::Handler;
pub use launcher::{Launcher, LauncherSpec};
pub use slot::sweep_all;

use crate::child::Program;
use certificates::Authority;
use cgroups::{Cgroups, Group};
use network::{Link, Network};
use slot::Slot;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a virt-handler may take to listen on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A set of nodes on one network.
#[derive(Debug)]
pub struct Lab {
    // Before the slot: whatever still runs in it keeps the slot until it is gone.
    teardown: Teardown,
    network: Network,
    cgroups: Group,
    authority: Authority,
    folder: PathBuf,
    nodes: u8,
}

/// Removes what carries the slot's number, then lets go of the slot.
#[derive(Debug)]
struct Teardown {
    slot: Slot,
    done: bool,
}

/// What a node is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSpec {
    /// Its name: letters, digits and hyphens.
    pub name: String,
    /// How many cores all its VMs have together.
    pub cores: f64,
    /// Its link, in bits per second in each direction; none is as fast as the machine.
    pub link: Option<u64>,
}

/// One node.
#[derive(Debug)]
pub struct Node {
    name: String,
    folder: PathBuf,
    binary: PathBuf,
    whole: Group,
    machine: Group,
    daemons: Group,
    link: Link,
    handler: Handler,
}

impl Lab {
    /// Begins a lab. `binary` is the program `lab-node`; logs, sockets and certificates go to `folder`, whose path
    /// should be short: a Unix socket's has room for 107 bytes.
    ///
    /// # Errors
    /// When this machine can't make namespaces, cgroups or links, usually for want of root's rights.
    pub fn begin(binary: &Path, folder: &Path) -> Result<Self, NodeError> {
        let slot = Slot::take()?;
        let number = slot.number();
        let teardown = Teardown { slot, done: false };
        std::fs::create_dir_all(folder).map_err(NodeError::file("creating", folder))?;
        // By these names the programs know what they are, and people what they see.
        for role in ["virt-handler", "virt-launcher"] {
            let link = folder.join(role);
            symlink(binary, &link).map_err(NodeError::file("linking", link))?;
        }
        let network = Network::create(number)?;
        let cgroups = Cgroups::find()?.group(&slot::cgroup_name(number));
        cgroups.create()?;
        cgroups.set_first()?;
        let authority = Authority::new().map_err(|error| NodeError::Program(format!("certificates: {error}")))?;
        Ok(Self { teardown, network, cgroups, authority, folder: folder.to_owned(), nodes: 0 })
    }

    /// Where programs of this machine, such as the operator, are reached from the nodes.
    #[must_use]
    pub fn host_address(&self) -> Ipv4Addr {
        network::host_address(self.teardown.slot.number())
    }

    /// The number that everything of this lab carries.
    #[must_use]
    pub fn slot(&self) -> u8 {
        self.teardown.slot.number()
    }

    /// Adds a node and waits until its virt-handler listens.
    ///
    /// # Errors
    /// When any part of it can't be made.
    pub fn add_node(&mut self, spec: &NodeSpec) -> Result<Node, NodeError> {
        let index = self.nodes;
        self.nodes += 1;
        let folder = self.folder.join(&spec.name);
        std::fs::create_dir_all(&folder).map_err(NodeError::file("creating", &folder))?;
        let whole = self.cgroups.child(&spec.name);
        let (machine, daemons) = (whole.child("machine"), whole.child("daemons"));
        machine.child("kubepods").child("burstable").create()?;
        daemons.create()?;
        machine.set_quota(spec.cores)?;
        machine.show_as_root(&folder.join("cgroup"))?;
        let link = self.network.add_node(index, &spec.name)?;
        link.set_rate(spec.link)?;
        let equipped = self.authority.equip(&folder);
        equipped.map_err(|error| NodeError::Program(format!("certificates of {}: {error:#}", spec.name)))?;
        let handler = start_handler(&spec.name, &self.folder.join("virt-handler"), &folder, &daemons, &link)?;
        let binary = self.folder.join("virt-launcher");
        Ok(Node { name: spec.name.clone(), folder, binary, whole, machine, daemons, link, handler })
    }

    /// Removes everything and says whether it worked, which dropping the lab does not.
    ///
    /// # Errors
    /// When something stays.
    pub fn end(mut self) -> Result<(), NodeError> {
        self.teardown.done = true;
        slot::sweep(self.slot())
    }
}

impl Drop for Teardown {
    fn drop(&mut self) {
        if !self.done
            && let Err(error) = slot::sweep(self.slot.number())
        {
            eprintln!("the lab in slot {} was not removed: {error}", self.slot.number());
        }
    }
}

impl Node {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address in the lab's network.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.link.address()
    }

    /// A folder for its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The CPU time that its VMs have used.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn cpu_time(&self) -> Result<Duration, NodeError> {
        self.machine.cpu_time()
    }

    /// How many processes are in its share for VMs.
    #[must_use]
    pub fn programs(&self) -> usize {
        self.machine.members().len()
    }

    /// The cgroup that stands for the node, as `/proc/<pid>/cgroup` has it.
    #[must_use]
    pub fn cgroup(&self) -> PathBuf {
        self.machine.path()
    }

    /// What the node would find in `/sys/fs/cgroup`, for its agent: a folder in which each hierarchy begins at the
    /// node's own.
    #[must_use]
    pub fn cgroup_root(&self) -> PathBuf {
        self.folder.join("cgroup")
    }

    /// Its virt-handler.
    #[must_use]
    pub fn handler(&self) -> &Handler {
        &self.handler
    }

    /// Starts a launcher and waits until its mounts are in place.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_launcher(&self, spec: LauncherSpec) -> Result<Launcher, NodeError> {
        let folder = self.folder.join(&spec.pod);
        std::fs::create_dir_all(&folder).map_err(NodeError::file("creating", &folder))?;
        let pods = self.machine.child("kubepods").child("burstable");
        Launcher::start(spec, &self.binary, &pods, self.link.namespace_file(), folder)
    }

    /// What to put before a command to run it as one of the node's daemons: in its network, outside of the quota.
    #[must_use]
    pub fn daemon_prefix(&self) -> Vec<OsString> {
        launcher::enter(&self.daemons, &self.link.namespace_file(), None)
    }

    /// Changes how many cores its VMs have together.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_cores(&self, cores: f64) -> Result<(), NodeError> {
        self.machine.set_quota(cores)
    }

    /// Limits its link to so many bits per second in each direction; none lifts the limit.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_link(&self, bits_per_second: Option<u64>) -> Result<(), NodeError> {
        self.link.set_rate(bits_per_second)
    }

    /// Pulls its cable.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn cut_off(&self) -> Result<(), NodeError> {
        self.link.set_up(false)
    }

    /// Plugs its cable in again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn reconnect(&self) -> Result<(), NodeError> {
        self.link.set_up(true)
    }

    /// Stops everything on it where it is, as if the machine hung.
    pub fn freeze(&self) {
        self.whole.set_stopped(true);
    }

    /// Lets everything go on.
    pub fn thaw(&self) {
        self.whole.set_stopped(false);
    }

    /// Kills everything on it, as if its power failed.
    ///
    /// # Errors
    /// When something does not die.
    pub fn kill(&self) -> Result<(), NodeError> {
        self.whole.kill()
    }
}

fn start_handler(node: &str, binary: &Path, folder: &Path, daemons: &Group, link: &Link) -> Result<Handler, NodeError> {
    let control = folder.join("handler.sock");
    let process = Program::new("virt-handler", binary)
        .flag("address", link.address().to_string())
        .flag("control", &control)
        .flag("certificates", folder)
        .behind(launcher::enter(daemons, &link.namespace_file(), None))
        .start(folder)
        .map_err(|error| NodeError::Program(format!("{error:#}")))?;
    let begin = Instant::now();
    while !control.exists() {
        if begin.elapsed() > READY_WITHIN || !matches!(process.ended(), Ok(None)) {
            return Err(NodeError::Program(format!("virt-handler of {node} did not start: {}", process.tail(5))));
        }
        sleep(Duration::from_millis(5));
    }
    Ok(Handler::new(node, control, process))
}
