//! Which launcher and which QEMU is where, and which guest is in it.

use anyhow::Context as _;
use miyako_lab::guest::{Boot, Guest, Image};
use miyako_lab::node::{Launcher, LauncherSpec, Node};
use miyako_lab::qemu::{Machine, Spec};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// A VM as the lab starts it.
#[derive(Debug, Clone)]
pub struct Vm {
    /// How its benchmark begins.
    pub boot: Boot,
    /// Virtual CPUs.
    pub vcpus: u32,
}

/// A launcher on its node, with its QEMU once that has been started.
#[derive(Debug)]
pub struct Running {
    vm: String,
    node: Arc<Node>,
    launcher: Launcher,
    machine: OnceLock<Arc<Machine>>,
}

impl Running {
    /// The VM's name.
    #[must_use]
    pub fn vm(&self) -> &str {
        &self.vm
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// The launcher.
    #[must_use]
    pub fn launcher(&self) -> &Launcher {
        &self.launcher
    }

    /// Its QEMU.
    ///
    /// # Errors
    /// When none was started yet.
    pub fn machine(&self) -> anyhow::Result<Arc<Machine>> {
        self.machine.get().cloned().with_context(|| format!("no QEMU of {} on {}", self.vm, self.node.name()))
    }
}

/// All launchers, by the names of their pods, and all guests, by the names of their VMs. Clones are the same.
#[derive(Debug, Clone)]
pub struct Machines {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    image: Image,
    nodes: BTreeMap<String, Arc<Node>>,
    vms: BTreeMap<String, Vm>,
    guests: BTreeMap<String, Guest>,
    running: Mutex<BTreeMap<String, Arc<Running>>>,
    /// Where each VM runs: the pod of its launcher.
    homes: Mutex<BTreeMap<String, String>>,
    /// Targets of these VMs never come up.
    withheld: Mutex<Vec<String>>,
    news: watch::Sender<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machines {
    /// No launchers yet.
    #[must_use]
    pub fn new(image: Image, nodes: Vec<Arc<Node>>, vms: BTreeMap<String, Vm>) -> Self {
        let guests = vms.keys().map(|name| (name.clone(), Guest::new(name))).collect();
        let nodes = nodes.into_iter().map(|node| (node.name().to_owned(), node)).collect();
        let inner = Inner {
            image,
            nodes,
            vms,
            guests,
            running: Mutex::default(),
            homes: Mutex::default(),
            withheld: Mutex::default(),
            news: watch::channel(()).0,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The nodes by name.
    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<String, Arc<Node>> {
        &self.inner.nodes
    }

    /// The guests by the names of their VMs.
    #[must_use]
    pub fn guests(&self) -> &BTreeMap<String, Guest> {
        &self.inner.guests
    }

    /// The launchers that run now, by pod.
    #[must_use]
    pub fn running(&self) -> BTreeMap<String, Arc<Running>> {
        lock(&self.inner.running).clone()
    }

    /// The launcher in which a VM runs.
    ///
    /// # Errors
    /// When it runs nowhere.
    pub fn home(&self, vm: &str) -> anyhow::Result<Arc<Running>> {
        let pod = lock(&self.inner.homes).get(vm).cloned();
        let running = pod.and_then(|pod| lock(&self.inner.running).get(&pod).cloned());
        running.with_context(|| format!("{vm} runs nowhere"))
    }

    /// Where each VM runs: VM to node.
    #[must_use]
    pub fn places(&self) -> BTreeMap<String, String> {
        let running = lock(&self.inner.running);
        let place = |(vm, pod): (&String, &String)| Some((vm.clone(), running.get(pod)?.node.name().to_owned()));
        lock(&self.inner.homes).iter().filter_map(place).collect()
    }

    /// From now on targets for a VM never come up, as if their images could not be pulled.
    pub fn withhold_targets(&self, vm: &str) {
        lock(&self.inner.withheld).push(vm.to_owned());
    }

    /// Starts the launcher of a pod. That of a migration's target waits for its QEMU; any other boots its VM.
    ///
    /// # Errors
    /// When the node or the VM is not the lab's, or the launcher or QEMU does not start.
    pub async fn start(&self, node: &str, spec: LauncherSpec, target: bool) -> anyhow::Result<()> {
        let node = self.inner.nodes.get(node).with_context(|| format!("{node} is no node of the lab"))?;
        let vm = spec.name.clone();
        if target && lock(&self.inner.withheld).contains(&vm) {
            return Ok(());
        }
        let (node, pod) = (Arc::clone(node), spec.pod.clone());
        let launcher = {
            let node = Arc::clone(&node);
            tokio::task::spawn_blocking(move || node.start_launcher(spec)).await??
        };
        let running = Arc::new(Running { vm: vm.clone(), node, launcher, machine: OnceLock::new() });
        if !target {
            self.launch(&running, false).await?;
            self.settle(&vm, &pod);
        }
        lock(&self.inner.running).insert(pod, running);
        self.inner.news.send_replace(());
        Ok(())
    }

    /// Starts QEMU in a launcher: waiting for a migration, or booting.
    ///
    /// # Errors
    /// When it does not start, or there is one already.
    pub async fn launch(&self, running: &Running, incoming: bool) -> anyhow::Result<Arc<Machine>> {
        let vm = self.inner.vms.get(&running.vm).with_context(|| format!("{} is no VM of the lab", running.vm))?;
        let folder = running.launcher.folder().join("qemu");
        let mut spec = Spec::new(&running.vm, folder, self.inner.image.clone(), vm.boot);
        spec.vcpus = vm.vcpus;
        spec.incoming = incoming;
        spec.prefix = running.launcher.prefix();
        let machine = Arc::new(Machine::launch(spec).await?);
        self.inner.guests[&running.vm].attach(machine.spec().guest_socket());
        anyhow::ensure!(running.machine.set(Arc::clone(&machine)).is_ok(), "{} has a QEMU already", running.vm);
        Ok(machine)
    }

    /// From now on a VM runs in the launcher of this pod.
    pub fn settle(&self, vm: &str, pod: &str) {
        lock(&self.inner.homes).insert(vm.to_owned(), pod.to_owned());
    }

    /// The launcher of a pod, as soon as it is up.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn up(&self, pod: &str, within: Duration) -> anyhow::Result<Arc<Running>> {
        let mut news = self.inner.news.subscribe();
        let looking = async {
            loop {
                news.mark_unchanged();
                if let Some(running) = lock(&self.inner.running).get(pod).cloned() {
                    return running;
                }
                // The sender lives as long as we do.
                let _ = news.changed().await;
            }
        };
        let found = tokio::time::timeout(within, looking).await;
        found.with_context(|| format!("the launcher {pod} is not up after {} s", within.as_secs()))
    }

    /// Ends the launcher of a pod with everything inside. One that is not there is fine.
    ///
    /// # Errors
    /// When something inside does not die.
    pub async fn end(&self, pod: &str) -> anyhow::Result<()> {
        let running = lock(&self.inner.running).remove(pod);
        let Some(running) = running else { return Ok(()) };
        // Whoever still looks at it sees it die; its memory goes with the last of them.
        tokio::task::spawn_blocking(move || running.launcher.end()).await??;
        Ok(())
    }

    /// What the nodes' agents are told of the pods: which is which VM.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn tell_agents(&self) -> anyhow::Result<()> {
        for (name, node) in &self.inner.nodes {
            let running = self.running();
            let pods: Vec<serde_json::Value> = running
                .values()
                .filter(|running| running.node.name() == name)
                .map(|running| {
                    let spec = running.launcher.spec();
                    serde_json::json!({
                        "podUid": spec.pod_uid, "namespace": spec.namespace, "name": spec.name, "uid": spec.vmi_uid,
                    })
                })
                .collect();
            replace(&node.folder().join("pods.json"), &serde_json::to_string(&pods)?)?;
        }
        Ok(())
    }
}

/// Replaces a file in one step, so that nobody reads half of it.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text).with_context(|| partial.display().to_string())?;
    std::fs::rename(&partial, path).with_context(|| path.display().to_string())
}
