//! Flags that say where the node's figures are, and which pods are VMs.

use clap::Args;
use futures::{FutureExt as _, future::BoxFuture};
use miyako_agent::load::{
    Sources,
    pods::{Launchers, follow_api_server, follow_file, list_api_server, read_file},
};
use std::path::{Path, PathBuf};

/// Where the figures are, and whose.
#[derive(Args)]
pub(crate) struct SourceFlags {
    /// The node's /proc. In a pod it must be the host's: set `hostPID: true`.
    #[arg(long, default_value = "/proc", value_name = "DIR")]
    proc: PathBuf,
    /// Where the node's control groups are mounted (version 1 or 2). In a pod, mount the host's /sys/fs/cgroup,
    /// read-only.
    #[arg(long, default_value = "/sys/fs/cgroup", value_name = "DIR")]
    cgroup: PathBuf,
    /// The control group that stands for the node, as in /proc/PID/cgroup: for test stands, where a node is a part of
    /// a machine. CPU, memory, disk and CPU quota are then the group's, the network is the agent's own, and only pods
    /// within the group are seen.
    #[arg(long, value_name = "PATH")]
    node_cgroup: Option<PathBuf>,
    /// An interface whose bytes are the node's; can be given several times. By default all that look physical by
    /// their name: no bridges, bonds, VLANs, tunnels or pods' ends.
    #[arg(long = "interface", value_name = "NAME", value_delimiter = ',')]
    interfaces: Vec<String>,
    /// Where the processors' energy counters (RAPL) are. In a pod, the host's.
    #[arg(long, default_value = "/sys/class/powercap", value_name = "DIR")]
    powercap: PathBuf,
    /// Which pod is which VM, from a file instead of the API server: a list (YAML or JSON) of
    /// {podUid, namespace, name, uid}, the last three of the VirtualMachineInstance. It is read again whenever it
    /// changes.
    #[arg(long, value_name = "FILE", conflicts_with = "kubeconfig")]
    pods_file: Option<PathBuf>,
    /// How to reach the API server. By default the pod's ServiceAccount, or what KUBECONFIG names.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl SourceFlags {
    /// Where to read.
    pub(crate) fn sources(&self) -> Sources {
        Sources {
            proc: self.proc.clone(),
            cgroup: self.cgroup.clone(),
            node_cgroup: self.node_cgroup.clone(),
            interfaces: self.interfaces.clone(),
            powercap: self.powercap.clone(),
        }
    }

    /// How the API server is to be reached, if not as usual.
    pub(crate) fn kubeconfig(&self) -> Option<PathBuf> {
        self.kubeconfig.clone()
    }

    /// Where `/proc` is.
    pub(crate) fn proc(&self) -> &Path {
        &self.proc
    }

    /// Follows the launchers of `node`, for ever.
    pub(crate) fn follow(&self, node: &str, launchers: Launchers, seed: u64) -> BoxFuture<'static, ()> {
        match &self.pods_file {
            Some(file) => follow_file(file.clone(), launchers).boxed(),
            None => follow_api_server(node.to_owned(), self.kubeconfig.clone(), launchers, seed).boxed(),
        }
    }

    /// The launchers of `node` as of now.
    pub(crate) async fn list(&self, node: &str) -> anyhow::Result<Launchers> {
        let launchers = Launchers::default();
        launchers.set(match &self.pods_file {
            Some(file) => read_file(file)?,
            None => list_api_server(node, self.kubeconfig.as_ref()).await?,
        });
        Ok(launchers)
    }
}
