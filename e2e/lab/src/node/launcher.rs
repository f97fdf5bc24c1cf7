//! Launchers: what KubeVirt's virt-launcher pods are to their node. A process in a mount namespace of its own, with its
//! own `/var/run/kubevirt`, in the cgroups where a kubelet would have put it.

use super::cgroups::Group;
use super::error::NodeError;
use super::proxy::{DIRECT_PORT, Port};
use crate::child::{Child, Program};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where KubeVirt keeps migration sockets in a launcher.
pub const SOCKETS: &str = "/var/run/kubevirt/migrationproxy";

/// How long a launcher may take to set up its mounts on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// Gives the launcher a `/var` with the machine's own content but for `run`, and a `/var/run` of its own, which is a
/// folder and no link, so that `/proc/<pid>/root/var/run` leads into it. The first argument is an empty folder.
const MOUNTS: &str = r#"set -e
stash=$1; shift
mount --rbind /var "$stash"
mount -t tmpfs -o mode=755 tmpfs /var
for path in "$stash"/*; do
  name=${path##*/}
  if [ "$name" != run ] && [ -d "$path" ] && [ ! -L "$path" ]; then
    mkdir "/var/$name"
    mount --rbind "$path" "/var/$name"
  fi
done
umount --lazy "$stash"
mkdir -p /var/run/kubevirt/migrationproxy
exec "$@""#;

/// Whose launcher it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LauncherSpec {
    /// The VM's namespace.
    pub namespace: String,
    /// The VM's name.
    pub name: String,
    /// The VMI's uid.
    pub vmi_uid: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid.
    pub pod_uid: String,
}

/// A running launcher. Dropping it kills everything inside.
#[derive(Debug)]
pub struct Launcher {
    spec: LauncherSpec,
    holder: Child,
    pod: Group,
    container: Group,
    network: String,
    folder: PathBuf,
}

impl Launcher {
    /// Starts it. `pods` is the cgroup of a node's burstable pods, `network` the file of its network namespace.
    pub(super) fn start(
        spec: LauncherSpec,
        binary: &Path,
        pods: &Group,
        network: String,
        folder: PathBuf,
    ) -> Result<Self, NodeError> {
        let pod = pods.child(&format!("pod{}", spec.pod_uid));
        let container = pod.child("compute");
        container.create()?;
        let stash = folder.join("var");
        std::fs::create_dir_all(&stash).map_err(NodeError::file("creating", &stash))?;
        let mounts = ["unshare", "--mount", "--propagation", "slave", "--", "sh", "-c", MOUNTS, "sh"];
        let prefix = enter(&container, &network, None).into_iter().chain(mounts.map(Into::into)).chain([stash.into()]);
        // The flags of KubeVirt's own by which an agent learns whose launcher it is.
        let holder = Program::new("virt-launcher", binary)
            .flag("name", &spec.name)
            .flag("uid", &spec.vmi_uid)
            .flag("namespace", &spec.namespace)
            .behind(prefix)
            .start(&folder)
            .map_err(|error| NodeError::Program(format!("{error:#}")))?;
        let launcher = Self { spec, holder, pod, container, network, folder };
        launcher.wait_ready()?;
        Ok(launcher)
    }

    fn wait_ready(&self) -> Result<(), NodeError> {
        let begin = Instant::now();
        let command_line = PathBuf::from(format!("/proc/{}/comm", self.holder.pid()));
        while std::fs::read_to_string(&command_line).is_ok_and(|name| name.trim() != "virt-launcher") {
            if begin.elapsed() > READY_WITHIN {
                break;
            }
            sleep(Duration::from_millis(5));
        }
        if self.on_host(Path::new(SOCKETS)).is_dir() && matches!(self.holder.ended(), Ok(None)) {
            return Ok(());
        }
        Err(NodeError::Program(format!("the launcher {} did not start: {}", self.spec.pod, self.holder.tail(5))))
    }

    /// Whose it is.
    #[must_use]
    pub fn spec(&self) -> &LauncherSpec {
        &self.spec
    }

    /// The process id of its first process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.holder.pid()
    }

    /// A folder of its own, visible inside and outside by the same path: for consoles, control sockets, logs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What to put before a command to run it inside: in the launcher's cgroups, network and mounts.
    #[must_use]
    pub fn prefix(&self) -> Vec<OsString> {
        enter(&self.container, &self.network, Some(self.holder.pid()))
    }

    /// QEMU's migration socket, as seen inside.
    #[must_use]
    pub fn migration_socket(&self) -> PathBuf {
        self.socket(DIRECT_PORT)
    }

    /// All migration sockets, as seen from the host.
    #[must_use]
    pub fn sockets_on_host(&self) -> BTreeMap<Port, PathBuf> {
        [0, DIRECT_PORT].into_iter().map(|port| (port, self.on_host(&self.socket(port)))).collect()
    }

    /// A path inside, as seen from the host.
    #[must_use]
    pub fn on_host(&self, inside: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.pid()));
        inside.strip_prefix("/").map_or_else(|_| inside.to_owned(), |relative| root.join(relative))
    }

    /// The CPU time that everything inside has used.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn cpu_time(&self) -> Result<Duration, NodeError> {
        self.pod.cpu_time()
    }

    /// The processes inside.
    #[must_use]
    pub fn members(&self) -> Vec<i32> {
        self.pod.members().into_iter().collect()
    }

    /// Kills everything inside and removes its cgroups, as a kubelet does when a pod is over.
    ///
    /// # Errors
    /// When something does not die.
    pub fn end(&self) -> Result<(), NodeError> {
        self.pod.remove()
    }

    /// `<vmi uid>-49152-source.sock` is QEMU's, `<vmi uid>-source.sock` libvirt's (`pkg/virt-handler/migration-proxy/`).
    fn socket(&self, port: Port) -> PathBuf {
        let uid = &self.spec.vmi_uid;
        let name = if port == 0 { format!("{uid}-source.sock") } else { format!("{uid}-{port}-source.sock") };
        Path::new(SOCKETS).join(name)
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // Whoever wants to know whether it worked calls `end`; the lab's own teardown tries again.
        let _ = self.pod.remove();
    }
}

/// The command prefix that puts a program into cgroups, a network and, if a process is given, its mounts.
pub(super) fn enter(group: &Group, network: &str, mounts_of: Option<u32>) -> Vec<OsString> {
    let mut script = String::new();
    for door in group.doors() {
        script.push_str(&format!("echo $$ > '{}' && ", door.display()));
    }
    script.push_str(r#"exec "$@""#);
    let mut prefix: Vec<OsString> = ["sh", "-c", &script, "sh", "nsenter"].map(Into::into).to_vec();
    prefix.push(format!("--net={network}").into());
    prefix.extend(mounts_of.map(|pid| format!("--mount=/proc/{pid}/ns/mnt").into()));
    prefix.push("--".into());
    prefix
}
