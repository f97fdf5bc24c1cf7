//! A stand-in for KubeVirt: virt-api, virt-controller and every virt-handler
//! (`docs/design/0006-stand-in-for-kubevirt.md`).
//! `tests/recorded` holds it to what the real ones did, and says what is left different.
//!
//! One piece of code plays KubeVirt on the in-memory API server and on a real one, because it knows the cluster through
//! `kube::Client` alone. Only what carries a migration out differs: [`Hands`], whose first kind is [`Clock`].
//!
//! * virt-api: [`admission`], pure functions for the API server's admission or a webhook.
//! * virt-controller: [`phases`] and [`policy`] (pure), [`controller`], [`retention`], [`evacuation`], [`lifecycle`].
//! * virt-controller's VirtualMachines: [`virtual_machine`]; what of Events is written at all: [`correlator`].
//! * virt-handler: [`handler`].
//! * [`Outages`] takes virt-controller or virt-api away.
//! * [`create`] makes VMs and the KubeVirt CR, for stands.
//!
//! It acts in steps. A step takes in what the watches say, then looks at every unfinished migration, in the order of
//! KubeVirt's queue, and does at most one thing for each. Nothing depends on tasks, hash order or the wall clock, so
//! one seed gives one sequence of writes.

pub mod admission;
mod clock;
mod controller;
mod correlator;
pub mod create;
mod evacuation;
mod events;
mod handler;
mod hands;
mod in_memory;
pub mod launcher;
mod lifecycle;
mod names;
mod outage;
mod phases;
mod policy;
mod retention;
mod shared_hands;
mod slots;
mod targets;
mod virtual_machine;
mod writes;

#[cfg(test)]
mod tests;

pub use clock::{Clock, ClockSettings, Dirtying, Fault};
pub use hands::{Hands, Job, Mode, Stage};
pub use in_memory::VirtApi;
pub use names::{NAMESPACE, VIRT_API, VIRT_CONTROLLER, VIRT_HANDLER, VIRT_OPERATOR, is_kubevirt_account};
pub use outage::Outages;

use super::watched::{self, Index, ObjectKey, Watched};
use events::Recorder;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Pod, ResourceQuota},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{Api, Client, ResourceExt, api::DynamicObject};
use miyako_api::{
    kubevirt::{KubeVirt, MigrationPolicy, VirtualMachineInstance, VirtualMachineInstanceMigration},
    names::kubevirt::{APP, CREATED_BY, LAUNCHER, MIGRATION_FINALIZER, MIGRATION_JOB_UID, MIGRATION_TARGET_NODE},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    task::Poll,
    time::Duration,
};

/// The clock that stamps what is written: the stand's own, shared with its API server.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Clients of KubeVirt's accounts, so that admission and RBAC see who is who.
#[derive(Clone)]
pub struct Clients {
    /// virt-controller's.
    pub virt_controller: Client,
    /// The virt-handlers'.
    pub virt_handler: Client,
    /// The kubelets': they tell that a launcher's processes are gone.
    pub kubelet: Client,
}

/// How long things take that KubeVirt's controllers do.
#[derive(Debug, Clone)]
pub struct Timing {
    /// From one look to the next while a migration is under way; each look moves it on by one phase at most. With
    /// 50 ms a new VMIM runs after 0.5 to 0.7 s, as seen live.
    pub pace: Duration,
    /// From one look to the next while nothing changes but time: QEMU's progress, time-outs.
    pub watch: Duration,
    /// Until a broken connection, or a write that failed, is tried again.
    pub retry: Duration,
    /// The longest that one step may take; an answer that never comes must not stop everything.
    pub patience: Duration,
    /// From the end of a migration until the launcher that is not needed any more has exited.
    pub launcher_exit: Duration,
    /// From the deletion of a VMI until its guest has shut down.
    pub shutdown: Duration,
    /// Who wins where KubeVirt's own order is a race follows from this: a freed slot, above all.
    pub chance: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            pace: Duration::from_millis(50),
            watch: Duration::from_millis(250),
            retry: Duration::from_secs(1),
            patience: Duration::from_secs(30),
            launcher_exit: Duration::from_millis(500),
            shutdown: Duration::ZERO,
            chance: 0,
        }
    }
}

/// When the next step is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rest {
    /// When there are [news](KubeVirtStandIn::news).
    UntilNews,
    /// Then, or after [`Timing::retry`].
    Retry,
    /// Then, or after [`Timing::watch`].
    Watching,
    /// After [`Timing::pace`].
    Soon,
}

/// KubeVirt, as far as VMs and migrations go.
pub struct KubeVirtStandIn<H> {
    clients: Clients,
    hands: H,
    now: Now,
    timing: Timing,
    vmis: Watched<VirtualMachineInstance>,
    migrations: Watched<VirtualMachineInstanceMigration>,
    launchers: Watched<Pod>,
    policies: Watched<MigrationPolicy>,
    installation: Watched<KubeVirt>,
    quotas: Watched<ResourceQuota>,
    nodes: Watched<Node>,
    machines: Watched<DynamicObject>,
    memos: BTreeMap<String, controller::Memo>,
    /// VirtualMachines whose VMI was seen.
    tended: BTreeMap<ObjectKey, virtual_machine::Tended>,
    watches: BTreeMap<String, handler::Watch>,
    /// VMs to be looked at although they did not change, because the last time something failed.
    again: BTreeSet<ObjectKey>,
    /// Something was written, or will be very soon.
    acted: bool,
    outages: Outages,
    /// virt-controller was away at the last look.
    was_away: bool,
    /// Each of virt-controller's controllers has a recorder of its own.
    controller_events: Recorder,
    vmi_events: Recorder,
    handler_events: Recorder,
}

impl<H: Hands> KubeVirtStandIn<H> {
    /// A stand-in that acts through these clients and these hands.
    pub fn new(clients: Clients, hands: H, now: Now, timing: Timing) -> Self {
        let client = clients.virt_controller.clone();
        Self {
            vmis: Watched::new(
                Api::all(client.clone()),
                None,
                Index { tags: vmi_tags, prune: |vmi| vmi.metadata.managed_fields = None },
            ),
            migrations: Watched::new(
                Api::all(client.clone()),
                None,
                Index { tags: migration_tags, prune: |migration| migration.metadata.managed_fields = None },
            ),
            launchers: Watched::new(
                Api::all(client.clone()),
                Some(&format!("{APP}={LAUNCHER}")),
                Index { tags: launcher_tags, prune: prune_launcher },
            ),
            policies: Watched::new(Api::all(client.clone()), None, Index { tags: |_| Vec::new(), prune: |_| {} }),
            installation: Watched::new(Api::all(client.clone()), None, Index { tags: |_| Vec::new(), prune: |_| {} }),
            quotas: Watched::new(Api::all(client.clone()), None, Index { tags: |_| Vec::new(), prune: |_| {} }),
            nodes: Watched::new(Api::all(client.clone()), None, Index { tags: |_| Vec::new(), prune: prune_node }),
            machines: Watched::new(
                virtual_machine::whole(client.clone(), None),
                None,
                Index { tags: |_| Vec::new(), prune: |machine| machine.metadata.managed_fields = None },
            ),
            memos: BTreeMap::new(),
            tended: BTreeMap::new(),
            watches: BTreeMap::new(),
            again: BTreeSet::new(),
            acted: false,
            outages: Outages::default(),
            was_away: false,
            controller_events: Recorder::new(client.clone(), "virtualmachine-controller"),
            vmi_events: Recorder::new(client, "virtualmachine-controller"),
            handler_events: Recorder::new(clients.virt_handler.clone(), "virt-handler"),
            clients,
            hands,
            now,
            timing,
        }
    }

    /// With parts that may be away.
    #[must_use]
    pub fn with_outages(mut self, outages: Outages) -> Self {
        self.outages = outages;
        self
    }

    /// Plays KubeVirt until it is dropped.
    pub async fn run(mut self) {
        loop {
            let rest = match tokio::time::timeout(self.timing.patience, self.step()).await {
                Ok(Ok(rest)) => rest,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the stand-in for KubeVirt can't see the cluster");
                    tokio::time::sleep(self.timing.retry).await;
                    continue;
                }
                Err(_) => {
                    tracing::debug!("an answer never came");
                    // Whatever the step had taken up is looked at again.
                    self.again.extend(self.vmis.all().map(watched::key_of));
                    continue;
                }
            };
            let at_most = match rest {
                Rest::Soon => None,
                Rest::Watching => Some(self.timing.watch),
                Rest::Retry => Some(self.timing.retry),
                Rest::UntilNews => Some(Duration::MAX),
            };
            if let Some(at_most) = at_most {
                // Either way the next step is due.
                let _ = tokio::time::timeout(at_most, self.news()).await;
            }
            tokio::time::sleep(self.timing.pace).await;
        }
    }

    /// Takes in what happened and does what is to be done now. Says when the next step is due.
    ///
    /// # Errors
    /// When the cluster can't be seen. What fails for one VM alone is tried again at a later step.
    pub async fn step(&mut self) -> kube::Result<Rest> {
        self.acted = false;
        self.installation.refresh().await?;
        self.policies.refresh().await?;
        self.quotas.refresh().await?;
        self.nodes.refresh().await?;
        self.machines.refresh().await?;
        self.vmis.refresh().await?;
        self.launchers.refresh().await?;
        self.migrations.refresh().await?;
        let now = (self.now)();
        let controlled = self.play_controller(now).await;
        let moving = self.play_handlers(now).await;
        let acted = if self.acted { Rest::Soon } else { Rest::UntilNews };
        Ok([controlled, moving, acted].into_iter().max().unwrap_or(Rest::UntilNews))
    }

    /// virt-controller's part of a step. One that comes back knows nothing but what the objects say.
    async fn play_controller(&mut self, now: Timestamp) -> Rest {
        if self.outages.is_virt_controller_away() {
            self.was_away = true;
            // Nothing in the cluster tells that it is back.
            return Rest::Retry;
        }
        if std::mem::take(&mut self.was_away) {
            self.memos.clear();
            self.controller_events.forget();
            self.vmi_events.forget();
            self.again.extend(self.vmis.all().map(watched::key_of));
        }
        let tended = self.tend_vms(now).await;
        let kept = self.tend_machines(now).await;
        let evacuated = self.evacuate().await;
        let migrating = self.tend_migrations(now).await;
        [tended, kept, evacuated, migrating].into_iter().max().unwrap_or(Rest::UntilNews)
    }

    /// Waits until one of the watches has something to say.
    pub async fn news(&mut self) {
        std::future::poll_fn(|context| {
            let polls = [
                self.vmis.poll_news(context),
                self.migrations.poll_news(context),
                self.launchers.poll_news(context),
                self.policies.poll_news(context),
                self.quotas.poll_news(context),
                self.nodes.poll_news(context),
                self.machines.poll_news(context),
                self.installation.poll_news(context),
            ];
            if polls.iter().any(Poll::is_ready) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// The launchers of a VMI that still run or will.
    fn active_launchers<'a>(&'a self, vmi_uid: &str) -> impl Iterator<Item = &'a Pod> + use<'a, H> {
        self.launchers.tagged(&created_by(vmi_uid)).filter(|pod| !phases::is_down(pod))
    }

    /// The launcher that the VM runs in now.
    fn current_launcher(&self, vmi: &VirtualMachineInstance) -> Option<&Pod> {
        let node = vmi.status.as_ref()?.node_name.as_deref()?;
        let on_node = |pod: &&Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node);
        self.active_launchers(vmi.metadata.uid.as_deref()?).find(on_node)
    }
}

/// A moment as KubeVirt writes it: whole seconds.
pub(crate) fn time(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

fn created_by(vmi_uid: &str) -> String {
    format!("of {vmi_uid}")
}

fn target_of(migration_uid: &str) -> String {
    format!("target {migration_uid}")
}

fn moves(namespace: &str, vmi: &str) -> String {
    format!("moves {namespace}/{vmi}")
}

/// Migrations that virt-controller is not done with.
const OPEN: &str = "open";
/// VMIs that ask to be moved away.
const EVACUATING: &str = "evacuating";
/// VMIs that a migration was handed off for, and that tells of its end only when all is tidy.
const HANDED_OFF: &str = "handed off";

fn migration_tags(migration: &VirtualMachineInstanceMigration) -> Vec<String> {
    let unfinished = !phases::is_final(migration);
    let open = unfinished || migration.finalizers().iter().any(|name| name == MIGRATION_FINALIZER);
    let mut tags = vec![moves(&migration.namespace().unwrap_or_default(), &migration.spec.vmi_name)];
    tags.extend(open.then(|| OPEN.to_owned()));
    tags
}

fn vmi_tags(vmi: &VirtualMachineInstance) -> Vec<String> {
    let evacuating = vmi.status.as_ref().is_some_and(|status| status.evacuation_node_name.is_some());
    let handed_off = vmi.labels().contains_key(MIGRATION_TARGET_NODE);
    let tag = |holds: bool, tag: &str| holds.then(|| tag.to_owned());
    [tag(evacuating, EVACUATING), tag(handed_off, HANDED_OFF)].into_iter().flatten().collect()
}

fn launcher_tags(pod: &Pod) -> Vec<String> {
    let labels = pod.labels();
    let of = labels.get(CREATED_BY).map(|uid| created_by(uid));
    let target = labels.get(MIGRATION_JOB_UID).map(|uid| target_of(uid));
    of.into_iter().chain(target).collect()
}

/// Of nodes only labels and readiness matter here.
fn prune_node(node: &mut Node) {
    node.metadata.managed_fields = None;
    node.metadata.annotations = None;
    node.spec = None;
    if let Some(status) = &mut node.status {
        let ready = status.conditions.take().map(|all| all.into_iter().filter(|one| one.type_ == "Ready").collect());
        *status = k8s_openapi::api::core::v1::NodeStatus { conditions: ready, ..Default::default() };
    }
}

/// A launcher's containers are known from its VMI; only where it runs matters here.
fn prune_launcher(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    if let Some(spec) = &mut pod.spec {
        spec.containers.clear();
        spec.affinity = None;
        spec.tolerations = None;
        spec.volumes = None;
    }
}
