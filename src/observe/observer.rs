//! The observer: starts the watches and owns what they tell.

use super::{
    convert::{Problem, event},
    seen::{Kind, ObjectKey, Update, Watched},
    watch::{self, Anywhere, PENDING, Scope, Watch},
    world::{Declared, World},
};
use crate::clock::Clock;
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    batch::v1::CronJob,
    core::v1::{ConfigMap, Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ResourceQuota},
    storage::v1::{CSINode, StorageClass},
};
use kube::{Api, Client, Resource};
use miyako_api::{
    ConsolidationPlan, ConsolidationPolicy, NodePower, NodePowerClass,
    kubevirt::{KubeVirt, MigrationPolicy, VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceMigration},
    machine_health_check::{
        ClusterApiMachine, ClusterApiMachineHealthCheck, OldClusterApiMachine, OldClusterApiMachineHealthCheck,
        OpenShiftMachine, OpenShiftMachineHealthCheck,
    },
    names::{kubevirt, ours},
    neighbours::{BareMetalHost, MachineConfigPool},
    node_health_check::NodeHealthCheck,
};
use miyako_core::model::{LoadTable, MigrationMode, Name, PlanName, Policies, Snapshot, Timestamp, Uid};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinSet};

/// How often [`Observer::wait_until_synced`] looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A direct read that takes longer failed: a node waits with its order.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where and how to observe.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The operator's own namespace, where the switches are.
    pub namespace: String,
    /// The seed of the waits between failed attempts. Replicas should differ in it.
    pub seed: u64,
}

/// Watches the cluster and keeps a [`Snapshot`] of it. Dropping it ends its watches.
pub struct Observer {
    world: World,
    clock: Arc<dyn Clock>,
    client: Client,
    namespace: String,
    news: BTreeMap<Kind, (mpsc::Sender<Update>, mpsc::Receiver<Update>)>,
    tasks: JoinSet<()>,
}

impl Observer {
    /// Starts watching. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(client: Client, clock: Arc<dyn Clock>, settings: &Settings) -> Self {
        let mut observer = Self {
            world: World::new(),
            clock,
            client,
            namespace: settings.namespace.clone(),
            news: BTreeMap::new(),
            tasks: JoinSet::new(),
        };
        let seed = settings.seed;
        let all = Scope::default();
        // Finished pods use nothing, and KubeVirt keeps up to five for every VM.
        let unfinished = Scope { fields: Some("status.phase!=Succeeded,status.phase!=Failed"), ..Scope::default() };
        let handlers = Scope { labels: Some(format!("{}={}", kubevirt::APP, kubevirt::HANDLER)), ..Scope::default() };
        let switches =
            Scope { namespace: Some(settings.namespace.clone()), name: Some(ours::SWITCHES), ..Scope::default() };
        observer.watch::<Namespace>(&all, seed);
        observer.watch::<Node>(&all, seed);
        observer.watch::<NodePower>(&all, seed);
        observer.watch::<CSINode>(&all, seed);
        observer.watch::<StorageClass>(&all, seed);
        observer.watch::<PersistentVolume>(&all, seed);
        observer.watch::<PersistentVolumeClaim>(&all, seed);
        observer.watch::<ResourceQuota>(&all, seed);
        observer.watch::<MigrationPolicy>(&all, seed);
        observer.watch::<NodeHealthCheck>(&all, seed);
        observer.watch::<KubeVirt>(&all, seed);
        observer.watch::<DaemonSet>(&handlers, seed);
        observer.watch::<VirtualMachine>(&all, seed);
        observer.watch::<VirtualMachineInstance>(&all, seed);
        observer.watch::<Pod>(&unfinished, seed);
        observer.watch::<VirtualMachineInstanceMigration>(&all, seed);
        observer.watch::<NodePowerClass>(&all, seed);
        observer.watch::<ConsolidationPolicy>(&all, seed);
        observer.watch::<ConsolidationPlan>(&all, seed);
        observer.watch::<ConfigMap>(&switches, seed);
        observer.watch::<OpenShiftMachineHealthCheck>(&all, seed);
        observer.watch::<OpenShiftMachine>(&all, seed);
        observer.watch::<ClusterApiMachineHealthCheck>(&all, seed);
        observer.watch::<ClusterApiMachine>(&all, seed);
        observer.watch::<OldClusterApiMachineHealthCheck>(&all, seed);
        observer.watch::<OldClusterApiMachine>(&all, seed);
        observer.watch::<BareMetalHost>(&all, seed);
        observer.watch::<MachineConfigPool>(&all, seed);
        observer.watch::<CronJob>(&all, seed);
        observer.watch::<Event>(&Scope { fields: Some(event::FIELDS), ..Scope::default() }, seed);
        observer
    }

    fn watch<K>(&mut self, scope: &Scope, seed: u64)
    where
        K: Watched + Resource<Scope: Anywhere<K>>,
    {
        let (sender, receiver) = mpsc::channel(PENDING);
        let watch = Watch::<K>::new(self.client.clone(), scope, seed, sender.clone());
        self.tasks.spawn(watch.run());
        self.news.insert(K::KIND, (sender, receiver));
    }

    /// Takes in all news that has come. Never waits. Own writes that are overdue are read directly, and the answers
    /// come in by a later call.
    pub fn drain(&mut self) {
        let now = self.clock.now();
        for (kind, (_, receiver)) in &mut self.news {
            while let Ok(update) = receiver.try_recv() {
                self.world.apply(*kind, update, now);
            }
        }
        while self.tasks.try_join_next().is_some() {}
        for (kind, key) in self.world.overdue(now) {
            self.read(kind, key);
        }
    }

    /// The picture as of the last [`Observer::drain`]. Not to be acted on while `incomplete` says why.
    pub fn snapshot(&mut self) -> (&Snapshot, &Policies) {
        self.world.refresh(self.clock.now());
        self.world.view()
    }

    /// Reads people's switches directly: before something that can't be undone, a watch that is seconds behind is too old.
    ///
    /// # Errors
    /// They can't be read.
    pub async fn look_at_switches(&mut self) -> Result<(), kube::Error> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = tokio::time::timeout(PATIENCE, maps.get_opt(ours::SWITCHES)).await;
        let found = found.map_err(|_| kube::Error::Service("the API server takes too long".into()))??;
        let key = ObjectKey { namespace: Name::from(&*self.namespace), name: Name::from(ours::SWITCHES) };
        let seen = found.map(|map| Box::new(ConfigMap::seen(&map.metadata, Ok(&map))));
        self.world.apply(Kind::ConfigMap, Update::Read(key, seen), self.clock.now());
        Ok(())
    }

    /// Everything has been listed at least once.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.world.synced()
    }

    /// The kinds that the caller may not list, once nothing else is missing: more patience is no use then.
    #[must_use]
    pub fn hopeless(&self) -> Vec<Kind> {
        self.world.hopeless()
    }

    /// Drains until everything has been listed once.
    pub async fn wait_until_synced(&mut self) {
        self.drain();
        while !self.synced() {
            tokio::time::sleep(LOOK_AGAIN).await;
            self.drain();
        }
    }

    /// An own write of an object, as the API server answered it: from now on the Snapshot holds it, and no news that
    /// is older undoes it.
    pub fn expect_written<K: Expected>(&mut self, object: &K) {
        let seen = K::seen(object.meta(), Ok(object));
        self.world.written(K::KIND, seen, self.clock.now());
    }

    /// An own deletion that took the object away at once. One that only began (the answer still holds the object,
    /// because of a finalizer) is an [`Observer::expect_written`].
    pub fn expect_deleted<K: Expected>(&mut self, object: &K) {
        let key = ObjectKey::of(object.meta());
        let uid = Uid::new(object.meta().uid.as_deref().unwrap_or_default());
        self.world.deleted(K::KIND, key, uid, self.clock.now());
    }

    /// How many own writes have not come back through the watches yet.
    #[must_use]
    pub fn expected(&self) -> usize {
        self.world.expected()
    }

    /// What is kept, counted by what it is: objects by their kind, and what was concluded from them.
    #[must_use]
    pub fn held(&self) -> Vec<(String, usize)> {
        self.world.held()
    }

    /// What was measured: whoever collects load keeps it here.
    pub fn load_mut(&mut self) -> &mut LoadTable {
        self.world.load_mut()
    }

    /// When each watch last gave a sign of life: an event, a bookmark, a connection.
    #[must_use]
    pub fn last_signs(&self) -> BTreeMap<Kind, Option<Timestamp>> {
        self.world.last_signs()
    }

    /// Our own resources of one kind (policies, classes, plans), by name: who they are and what is wrong with them.
    #[must_use]
    pub fn declared(&self, kind: Kind) -> BTreeMap<Name, Declared> {
        self.world.declared(kind)
    }

    /// Plans that are over, with when they were decided.
    #[must_use]
    pub fn plans_over(&self) -> &BTreeMap<PlanName, Timestamp> {
        self.world.plans_over()
    }

    /// Plans that are over and were decided before this moment.
    #[must_use]
    pub fn plans_over_before(&self, moment: Timestamp) -> Vec<(PlanName, Uid)> {
        self.world.plans_over_before(moment)
    }

    /// Modes whose MigrationPolicy of ours somebody changed.
    pub fn drifted_migration_policies(&self) -> impl Iterator<Item = MigrationMode> {
        self.world.drifted_migration_policies()
    }

    /// What is wrong with which objects, ours and others'.
    pub fn problems(&self) -> impl Iterator<Item = (Kind, &ObjectKey, &[Problem])> {
        self.world.problems()
    }

    fn read(&mut self, kind: Kind, key: ObjectKey) {
        let Some((news, _)) = self.news.get(&kind) else { return };
        let (client, news) = (self.client.clone(), news.clone());
        match kind {
            Kind::VirtualMachineInstance => {
                self.tasks.spawn(watch::read::<VirtualMachineInstance>(client, key, news));
            }
            Kind::VirtualMachineInstanceMigration => {
                self.tasks.spawn(watch::read::<VirtualMachineInstanceMigration>(client, key, news));
            }
            Kind::ConsolidationPlan => {
                self.tasks.spawn(watch::read::<ConsolidationPlan>(client, key, news));
            }
            Kind::NodePower => {
                self.tasks.spawn(watch::read::<NodePower>(client, key, news));
            }
            Kind::Node => {
                self.tasks.spawn(watch::read::<Node>(client, key, news));
            }
            _ => debug_assert!(false, "{kind} is never written by us, so none is expected"),
        }
    }
}

/// The kinds that we write ourselves.
#[allow(private_bounds, reason = "which kinds these are is the observer's affair")]
pub trait Expected: Watched {}
impl Expected for VirtualMachineInstance {}
impl Expected for VirtualMachineInstanceMigration {}
impl Expected for ConsolidationPlan {}
impl Expected for NodePower {}
impl Expected for Node {}
