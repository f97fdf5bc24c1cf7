//! Reads the node and its VMs from the kernel.

use super::{
    Capacity, LoadReader, Measured, ReadError,
    cgroups::{Group, Hierarchies, PodUid, pod_groups},
    complaints::Complaints,
    files::Buffer,
    kernel_text::cgroup::virtual_majors,
    launcher_processes::LauncherProcesses,
    node::Node,
    pods::{Launcher, Launchers, VmIdentity},
    rapl::Rapl,
    usage::{Counters, usage},
};
use miyako_api::wire::load::{Usage, VmSample};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// How often pods without a control group are looked for at first: a launcher's group is there within moments.
const SEARCH_AGAIN: Duration = Duration::from_secs(1);

/// How often at last: a pod whose containers can't start stays without one.
const SEARCH_AGAIN_AT_MOST: Duration = Duration::from_secs(16);

/// What complaints are about that concern no single pod.
const OF_ALL: &str = "control groups";

/// What complaints are about that concern the energy counters.
const OF_ENERGY: &str = "energy counters";

/// Where the kernel's figures are, and whose they are.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Where `/proc` is.
    pub proc: PathBuf,
    /// Where the control groups are mounted: `/sys/fs/cgroup`.
    pub cgroup: PathBuf,
    /// The control group that stands for the node, as a path from the mount; none for the whole machine.
    pub node_cgroup: Option<PathBuf>,
    /// The node's interfaces; those that look physical if none are named.
    pub interfaces: Vec<String>,
    /// Where the energy counters are: `/sys/class/powercap`. They are the machine's, and not read where the node is a
    /// part of one.
    pub powercap: PathBuf,
}

/// Reads CPU, memory, network and disk of the node and of each VM on it.
#[derive(Debug)]
pub struct KernelReader {
    sources: Sources,
    launchers: Launchers,
    trees: Option<Hierarchies>,
    virtual_majors: Vec<u32>,
    node: Option<Node>,
    node_before: Option<(Duration, Counters)>,
    rapl: Rapl,
    vms: BTreeMap<PodUid, Vm>,
    search: Search,
    buffer: Buffer,
    complaints: Complaints,
}

/// When pods without a control group are looked for.
#[derive(Debug, Default)]
struct Search {
    next: Duration,
    pause: Duration,
    missing: Vec<PodUid>,
}

/// A launcher whose group was found.
#[derive(Debug)]
struct Vm {
    launcher: Launcher,
    group: Group,
    directory: PathBuf,
    processes: LauncherProcesses,
    /// Whether the group counts the bytes of disks; its processes are asked where it does not.
    group_counts_disk: bool,
    before: Option<(Duration, Counters)>,
}

impl KernelReader {
    /// Reads from `sources` what the `launchers` of this node use.
    #[must_use]
    pub fn new(sources: Sources, launchers: Launchers) -> Self {
        let trees = Hierarchies::below(&sources.cgroup);
        let devices = fs::read_to_string(sources.proc.join("devices")).unwrap_or_default();
        let mut complaints = Complaints::default();
        if trees.is_none() {
            complaints.say(
                OF_ALL,
                format!(
                    "{} holds no control groups, so no VM is seen; mount the node's /sys/fs/cgroup and name it with --cgroup",
                    sources.cgroup.display()
                ),
            );
        }
        let rapl = match &sources.node_cgroup {
            None => Rapl::open(&sources.powercap).unwrap_or_else(|error| {
                complaints.say(OF_ENERGY, format!("what the machine draws is not measured: {error}"));
                Rapl::default()
            }),
            Some(_) => Rapl::default(),
        };
        Self {
            sources,
            launchers,
            trees,
            virtual_majors: virtual_majors(&devices),
            node: None,
            node_before: None,
            rapl,
            vms: BTreeMap::new(),
            search: Search::default(),
            buffer: Buffer::default(),
            complaints,
        }
    }

    fn read_node(&mut self, now: Duration) -> Result<(Option<Usage>, Capacity, u32), ReadError> {
        if self.node.is_none() {
            let group = self.sources.node_cgroup.as_deref();
            let group = match (group, &self.trees) {
                (Some(group), Some(trees)) => Some((trees, group)),
                (Some(_), None) => return Err(ReadError::NoGroups(self.sources.cgroup.clone())),
                (None, _) => None,
            };
            self.node = Some(Node::open(&self.sources.proc, group, self.sources.interfaces.clone())?);
        }
        let Some(node) = &self.node else { return Err(ReadError::NoGroups(self.sources.cgroup.clone())) };
        let majors = &self.virtual_majors;
        let read = node.read(&mut self.buffer, |major| !majors.contains(&major));
        let (counters, capacity, cpus) = match read {
            Ok(read) => read,
            Err(error) => {
                // What was open may be of a group that is gone.
                (self.node, self.node_before) = (None, None);
                return Err(error);
            }
        };
        let before = self.node_before.replace((now, counters));
        let used = before
            .zip(self.node_before.as_ref())
            .and_then(|((then, before), (_, after))| usage(&before, after, now.saturating_sub(then), cpus));
        Ok((used, capacity, cpus))
    }

    /// Finds the groups of launchers that are new, and lets go of those that are no more.
    fn follow_launchers(&mut self, now: Duration) {
        let Some(trees) = &self.trees else { return };
        let launchers = self.launchers.now();
        self.vms.retain(|pod, vm| launchers.get(pod) == Some(&vm.launcher));
        self.complaints.keep(|subject| [OF_ALL, OF_ENERGY].contains(&subject) || launchers.contains_key(subject));
        let missing: Vec<_> = launchers.keys().filter(|pod| !self.vms.contains_key(*pod)).cloned().collect();
        if missing != self.search.missing {
            self.search = Search { next: now, pause: SEARCH_AGAIN, missing };
        }
        if self.search.missing.is_empty() || now < self.search.next {
            return;
        }
        self.search.next = now + self.search.pause;
        self.search.pause = (self.search.pause * 2).min(SEARCH_AGAIN_AT_MOST);
        let node_group = self.sources.node_cgroup.as_deref().unwrap_or(Path::new(""));
        let root = trees.processes_of(node_group);
        let found = match pod_groups(&root) {
            Ok(found) => found,
            Err(error) => {
                self.complaints.say(OF_ALL, format!("could not list {}: {error}", root.display()));
                return;
            }
        };
        self.complaints.settle(OF_ALL);
        for pod in &self.search.missing {
            let (Some(below), Some(launcher)) = (found.get(pod), launchers.get(pod)) else { continue };
            let path = node_group.join(below);
            match Group::open(trees, &path) {
                Ok(group) => {
                    self.complaints.settle(pod);
                    let vm = Vm {
                        launcher: launcher.clone(),
                        group,
                        directory: trees.processes_of(&path),
                        processes: LauncherProcesses::default(),
                        group_counts_disk: false,
                        before: None,
                    };
                    tracing::debug!(vm = %launcher.vm, group = %path.display(), "found a launcher's control group");
                    self.vms.insert(pod.clone(), vm);
                }
                Err(error) if error.vanished() => {}
                Err(error) => self.complaints.say(pod, format!("can't measure VM {}: {error}", launcher.vm)),
            }
        }
    }

    fn read_vms(&mut self, now: Duration, cpus: u32) -> Vec<VmSample> {
        let node_network = self.node.as_ref().and_then(Node::network_identity);
        let Self { sources, vms, buffer, complaints, virtual_majors, .. } = self;
        // The newest launcher of each VM: an older one is what a migration left behind.
        let mut samples: BTreeMap<VmIdentity, (i64, Usage)> = BTreeMap::new();
        vms.retain(|pod, vm| {
            vm.processes.look(now, &sources.proc, &vm.directory, node_network);
            match vm.read(buffer, virtual_majors) {
                Ok(counters) => {
                    complaints.settle(pod);
                    let before = vm.before.replace((now, counters));
                    let used = before
                        .zip(vm.before.as_ref())
                        .and_then(|((then, before), (_, after))| usage(&before, after, now.saturating_sub(then), cpus));
                    let created = vm.launcher.created;
                    if let Some(used) = used
                        && samples.get(&vm.launcher.vm).is_none_or(|(other, _)| *other <= created)
                    {
                        samples.insert(vm.launcher.vm.clone(), (created, used));
                    }
                    true
                }
                // Its group is gone. If the pod stays, the next search finds its new one.
                Err(ReadError::File(error)) if error.vanished() => false,
                Err(error) => {
                    complaints.say(pod, format!("can't measure VM {}: {error}", vm.launcher.vm));
                    vm.before = None;
                    true
                }
            }
        });
        let sample = |(vm, (_, usage)): (VmIdentity, (i64, Usage))| VmSample {
            namespace: vm.namespace,
            name: vm.name,
            uid: vm.uid,
            usage: Some(usage),
            ..VmSample::default()
        };
        samples.into_iter().map(sample).collect()
    }
}

impl Vm {
    fn read(&mut self, buffer: &mut Buffer, virtual_majors: &[u32]) -> Result<Counters, ReadError> {
        let counters = self.group.read(buffer, |major| !virtual_majors.contains(&major))?;
        let network = self.processes.read_network(buffer)?;
        let waits = self.processes.read_waits(buffer)?;
        if counters.disk.is_some() != self.group_counts_disk {
            self.group_counts_disk = counters.disk.is_some();
            // The counters of one can't be compared with those of the other.
            if let Some((_, before)) = &mut self.before {
                before.disk = None;
            }
        }
        let disk = counters.disk.or_else(|| self.processes.read_disk(buffer));
        Ok(Counters { network, disk, waits, ..counters })
    }
}

impl LoadReader for KernelReader {
    fn read(&mut self, now: Duration) -> Result<Option<Measured>, ReadError> {
        let (node, capacity, cpus) = self.read_node(now)?;
        self.follow_launchers(now);
        let vms = self.read_vms(now, cpus);
        let Some(mut usage) = node else { return Ok(None) };
        // A node's tasks waited at least as long as its VMs' did, and its disks had at least their bytes.
        usage.cpu_wait_cores = at_least(usage.cpu_wait_cores, sum(&vms, |usage| usage.cpu_wait_cores));
        if usage.disk_read_bytes_per_second.is_none() {
            usage.disk_read_bytes_per_second = sum(&vms, |usage| usage.disk_read_bytes_per_second);
            usage.disk_write_bytes_per_second = sum(&vms, |usage| usage.disk_write_bytes_per_second);
        }
        let watts = self.rapl.read(now, &mut self.buffer);
        Ok(Some(Measured { usage, capacity, watts, vms }))
    }
}

/// The sum over all VMs whose figure is known; none if that is none of them.
fn sum(vms: &[VmSample], figure: impl Fn(&Usage) -> Option<f64>) -> Option<f64> {
    vms.iter().filter_map(|vm| figure(vm.usage.as_ref()?)).reduce(|sum, figure| sum + figure)
}

fn at_least(measured: Option<f64>, bound: Option<f64>) -> Option<f64> {
    measured.into_iter().chain(bound).reduce(f64::max)
}
