//! The one owner of what is known: takes in the watches' news and keeps a [`Snapshot`] that is always ready.
//!
//! The work of a tick follows what changed, not what there is: an event puts its object in place and marks what is
//! joined from it, and [`World::refresh`] joins the marked ones. Nothing here waits, reads a clock or talks to anyone.

mod effects;
mod expectation;
mod freshness;
mod history;
mod holds;
mod machines;
mod migrations;
mod neighbours;
mod policies;
mod power;
mod storage;
mod switches;
mod vms;
mod waiting;

pub use expectation::EXPECTED_WITHIN;
pub use freshness::TOO_LONG;
pub(crate) use freshness::some;

use super::{
    convert::{Problem, kubevirt::Rollout, migration_policy::ObservedPolicy, node::ObservedNode},
    pool::Pool,
    seen::{Kind, Object, ObjectKey, Seen, Update, Version},
};
use expectation::Expectations;
use freshness::Freshness;
use history::History;
use holds::Ledger;
use machines::MachineChecks;
use migrations::Migrations;
use miyako_core::model::{
    ClassName, KubeVirt, KubeVirtProblem, LoadTable, MigrationMode, MigrationName, Name, NodeName, PlanName, PodKey,
    Policies, PolicyName, Quota, Snapshot, Timestamp, Uid, VmKey,
};
use neighbours::Neighbours;
use policies::Outsides;
use power::PowerSteps;
use std::collections::{BTreeMap, BTreeSet};
use storage::Storage;
use switches::KeptSwitches;
use vms::{Around, Vms};
use waiting::Waiting;

/// Problems are kept for so many objects; a cluster with more has one problem, not many.
const MOST_PROBLEMS: usize = 1000;

/// Everything that is known.
pub(super) struct World {
    snapshot: Snapshot,
    policies: Policies,
    freshness: Freshness,
    expectations: Expectations,
    pool: Pool,
    vms: Vms,
    migrations: Migrations,
    storage: Storage,
    waiting: Waiting,
    outsides: Outsides,
    history: History,
    attach_limits: BTreeMap<NodeName, BTreeMap<String, u64>>,
    /// Nodes whose taints tell of maintenance, unless their class knows better.
    tainted: BTreeMap<NodeName, ObservedNode>,
    power_steps: PowerSteps,
    machine_checks: MachineChecks,
    neighbours: Neighbours,
    quotas: BTreeMap<Name, BTreeMap<Name, Quota>>,
    /// Ready virt-handler pods by node, and their nodes.
    handlers: BTreeMap<NodeName, BTreeSet<PodKey>>,
    handler_nodes: BTreeMap<PodKey, NodeName>,
    kubevirts: BTreeMap<ObjectKey, KubeVirt>,
    /// virt-handler DaemonSets: how far each is.
    rollouts: BTreeMap<ObjectKey, Rollout>,
    /// Since when what holds has been seen.
    ledger: Ledger,
    switches: KeptSwitches,
    problems: BTreeMap<(Kind, ObjectKey), Vec<Problem>>,
    /// The identity of our own resources: who is meant by a write, and what of a spec was seen.
    own: BTreeMap<(Kind, Name), (Uid, Option<i64>)>,
    /// Plans that are over, with when they ended.
    over: BTreeMap<PlanName, Timestamp>,
    /// Our MigrationPolicies, and whether somebody changed them.
    own_policies: BTreeMap<Name, (MigrationMode, bool)>,
}

/// What is known of one of our own resources beside its content.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    /// Its uid.
    pub uid: Option<Uid>,
    /// The generation of the spec that was seen.
    pub generation: Option<i64>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

impl World {
    /// Knows nothing yet.
    pub(super) fn new() -> Self {
        let missing = KubeVirt { problem: Some(KubeVirtProblem::Missing), ..KubeVirt::default() };
        Self {
            snapshot: Snapshot { kubevirt: missing, ..Snapshot::default() },
            policies: Policies::default(),
            freshness: Freshness::new(),
            expectations: Expectations::default(),
            pool: Pool::default(),
            vms: Vms::default(),
            migrations: Migrations::default(),
            storage: Storage::default(),
            waiting: Waiting::default(),
            outsides: Outsides::default(),
            history: History::default(),
            attach_limits: BTreeMap::new(),
            tainted: BTreeMap::new(),
            power_steps: PowerSteps::default(),
            machine_checks: MachineChecks::default(),
            neighbours: Neighbours::default(),
            quotas: BTreeMap::new(),
            handlers: BTreeMap::new(),
            handler_nodes: BTreeMap::new(),
            kubevirts: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            ledger: Ledger::default(),
            switches: KeptSwitches::default(),
            problems: BTreeMap::new(),
            own: BTreeMap::new(),
            over: BTreeMap::new(),
            own_policies: BTreeMap::new(),
        }
    }

    /// Our own resources of one kind, by name.
    pub(super) fn declared(&self, kind: Kind) -> BTreeMap<Name, Declared> {
        let own = self.own.iter().filter(|((of, _), _)| *of == kind);
        own.map(|((_, name), (uid, generation))| {
            let key = ObjectKey { namespace: Name::from(""), name: name.clone() };
            let problems = self.problems.get(&(kind, key)).cloned().unwrap_or_default();
            (name.clone(), Declared { uid: Some(uid.clone()), generation: *generation, problems })
        })
        .collect()
    }

    /// Plans that are over, with when they ended.
    pub(super) fn plans_over(&self) -> &BTreeMap<PlanName, Timestamp> {
        &self.over
    }

    /// Plans that were over before this moment.
    pub(super) fn plans_over_before(&self, moment: Timestamp) -> Vec<(PlanName, Uid)> {
        let old = self.over.iter().filter(|(_, ended)| **ended < moment);
        old.filter_map(|(plan, _)| {
            let (uid, _) = self.own.get(&(Kind::ConsolidationPlan, Name::from(plan.as_str())))?;
            Some((plan.clone(), uid.clone()))
        })
        .collect()
    }

    /// Modes whose MigrationPolicy of ours somebody changed.
    pub(super) fn drifted_migration_policies(&self) -> impl Iterator<Item = MigrationMode> {
        self.own_policies.values().filter(|(_, drifted)| *drifted).map(|(mode, _)| *mode)
    }

    /// Takes in one piece of news.
    pub(super) fn apply(&mut self, kind: Kind, update: Update, now: Timestamp) {
        match update {
            Update::All(all, version) => {
                self.replace(kind, all, version);
                self.freshness.listed(kind, now);
                if kind == Kind::CronJob {
                    self.neighbours.show_cron_jobs(true);
                }
            }
            Update::Is(seen) => {
                self.freshness.alive(kind, now);
                if self.expectations.admits(kind, &seen.key, &seen.uid, seen.version) {
                    self.put(kind, *seen);
                }
            }
            Update::Gone(key, uid, version) => {
                self.freshness.alive(kind, now);
                if self.expectations.admits_gone(kind, &key, &uid, version) {
                    self.remove(kind, &key);
                }
            }
            Update::Read(key, found) => {
                self.expectations.settled(kind, &key);
                match found {
                    Some(seen) => self.put(kind, *seen),
                    None => self.remove(kind, &key),
                }
            }
            Update::Alive => self.freshness.alive(kind, now),
            Update::Failed(error) => self.freshness.failed(kind, error, now),
            Update::Refused(error) => self.freshness.refused(kind, error, now),
            Update::Unknown => {
                self.replace(kind, Vec::new(), Version(u64::MAX));
                self.freshness.unknown(kind);
                if kind == Kind::CronJob {
                    self.neighbours.show_cron_jobs(false);
                }
            }
        }
    }

    /// An own write, as the API server answered it.
    pub(super) fn written(&mut self, kind: Kind, seen: Seen, now: Timestamp) {
        self.expectations.written(kind, seen.key.clone(), seen.version, now);
        self.put(kind, seen);
    }

    /// An own deletion that took the object away at once.
    pub(super) fn deleted(&mut self, kind: Kind, key: ObjectKey, uid: Uid, now: Timestamp) {
        self.remove(kind, &key);
        self.expectations.deleted(kind, key, uid, now);
    }

    /// Own writes that should have come back through the watch long ago.
    pub(super) fn overdue(&mut self, now: Timestamp) -> Vec<(Kind, ObjectKey)> {
        self.expectations.overdue(now)
    }

    /// Own writes that have not come back through the watch.
    pub(super) fn expected(&self) -> usize {
        self.expectations.len()
    }

    /// Everything has been listed once.
    pub(super) fn synced(&self) -> bool {
        self.freshness.synced()
    }

    /// When each watch last gave a sign of life.
    pub(super) fn last_signs(&self) -> BTreeMap<Kind, Option<Timestamp>> {
        self.freshness.last_signs()
    }

    /// The kinds that the caller may not list, once nothing else is missing.
    pub(super) fn hopeless(&self) -> Vec<Kind> {
        self.freshness.hopeless()
    }

    /// What is wrong with which objects.
    pub(super) fn problems(&self) -> impl Iterator<Item = (Kind, &ObjectKey, &[Problem])> {
        self.problems.iter().map(|((kind, key), problems)| (*kind, key, problems.as_slice()))
    }

    /// What was measured, for whoever measures.
    pub(super) fn load_mut(&mut self) -> &mut LoadTable {
        &mut self.snapshot.load
    }

    /// The Snapshot and the policies as of the last refresh.
    pub(super) fn view(&self) -> (&Snapshot, &Policies) {
        (&self.snapshot, &self.policies)
    }

    /// Joins what changed, and judges what the mere passing of time changes.
    pub(super) fn refresh(&mut self, now: Timestamp) {
        self.snapshot.incomplete = self.freshness.incomplete(now);
        if !self.freshness.synced() {
            // Joining a half-known world would only be done again.
            return;
        }
        let Snapshot { nodes, pods, vms, migrations, namespaces, kubevirt, history, .. } = &mut self.snapshot;
        self.waiting.refresh(pods, &self.storage, &mut self.pool);
        let unfinished = &self.migrations.unfinished;
        let around = Around { nodes, pods, namespaces, kubevirt, storage: &self.storage, unfinished };
        self.vms.refresh(vms, &around, &mut self.pool, now);
        self.migrations.refresh(migrations, (vms, &self.vms.launchers), nodes, history);
        self.history.refresh(&mut self.snapshot.history, now);
        self.power_steps.refresh(&mut self.snapshot.power_history);
        self.machine_checks.refresh(&mut self.snapshot.machine_checks);
        self.neighbours.refresh(&self.snapshot.nodes, &mut self.snapshot.neighbours);
        self.judge_holds(now);
        self.snapshot.switches = self.switches.in_force();
        self.outsides.refresh(&mut self.policies, &self.snapshot, self.neighbours.descheduler(), now);
    }

    fn replace(&mut self, kind: Kind, all: Vec<Seen>, version: Version) {
        let told: BTreeSet<_> = all.iter().map(|seen| seen.key.clone()).collect();
        for key in self.known(kind) {
            if !told.contains(&key) && self.expectations.admits_absence(kind, &key, version) {
                self.remove(kind, &key);
            }
        }
        for seen in all {
            if self.expectations.admits(kind, &seen.key, &seen.uid, seen.version) {
                self.put(kind, seen);
            }
        }
    }

    /// What is kept, counted by what it is.
    pub(super) fn held(&self) -> Vec<(String, usize)> {
        let concluded = [
            ("Identities", self.own.len()),
            ("PlansOver", self.over.len()),
            ("Moves", self.history.len()),
            ("PowerSteps", self.power_steps.len()),
            ("Holds", self.ledger.len()),
            ("Expectations", self.expectations.len()),
            ("Constraints", self.pool.len()),
            ("Handlers", self.handlers.values().map(BTreeSet::len).sum::<usize>() + self.handler_nodes.len()),
        ];
        let objects = Kind::ALL.iter().map(|kind| (kind.to_string(), self.known(*kind).len()));
        objects.chain(concluded.map(|(what, entries)| (what.to_owned(), entries))).collect()
    }

    /// All objects of a kind that something is known about.
    fn known(&self, kind: Kind) -> Vec<ObjectKey> {
        let cluster = |name: &str| ObjectKey { namespace: Name::from(""), name: Name::from(name) };
        let namespaced = |namespace: &Name, name: &Name| ObjectKey { namespace: namespace.clone(), name: name.clone() };
        let snapshot = &self.snapshot;
        let mut known: Vec<_> = match kind {
            Kind::Namespace => snapshot.namespaces.keys().map(|name| cluster(name.as_str())).collect(),
            Kind::Node => snapshot.nodes.keys().map(|name| cluster(name.as_str())).collect(),
            Kind::CSINode => self.attach_limits.keys().map(|name| cluster(name.as_str())).collect(),
            Kind::NodePower => snapshot.powers.keys().map(|name| cluster(name.as_str())).collect(),
            Kind::StorageClass => self.storage.classes.keys().map(|name| cluster(name.as_str())).collect(),
            Kind::PersistentVolume => self.storage.volumes.keys().map(|name| cluster(name.as_str())).collect(),
            Kind::PersistentVolumeClaim => {
                self.storage.claims.keys().map(|(namespace, name)| namespaced(namespace, name)).collect()
            }
            Kind::ResourceQuota => {
                let quotas = self.quotas.iter();
                quotas.flat_map(|(namespace, of)| of.keys().map(|name| namespaced(namespace, name))).collect()
            }
            Kind::MigrationPolicy => {
                let names = self.vms.policies.keys().chain(self.own_policies.keys());
                names.map(|name| cluster(name.as_str())).collect()
            }
            Kind::Event => self.migrations.refusals().cloned().collect(),
            Kind::NodeHealthCheck => snapshot.health_checks.keys().map(|name| cluster(name.as_str())).collect(),
            Kind::KubeVirt => self.kubevirts.keys().cloned().collect(),
            Kind::DaemonSet => self.rollouts.keys().cloned().collect(),
            Kind::VirtualMachine => self.vms.machines.keys().map(|key| namespaced(&key.namespace, &key.name)).collect(),
            Kind::VirtualMachineInstance => {
                snapshot.vms.keys().map(|key| namespaced(&key.namespace, &key.name)).collect()
            }
            Kind::Pod => {
                let pods = snapshot.pods.keys().chain(self.neighbours.finished());
                pods.map(|key| namespaced(&key.namespace, &key.name)).collect()
            }
            Kind::VirtualMachineInstanceMigration => {
                snapshot.migrations.keys().map(|key| namespaced(&key.namespace, &key.name)).collect()
            }
            Kind::NodePowerClass => self.policies.classes.keys().map(|name| cluster(name.as_str())).collect(),
            Kind::ConsolidationPolicy => self.policies.policies.keys().map(|name| cluster(name.as_str())).collect(),
            Kind::ConsolidationPlan => {
                let names: BTreeSet<_> = snapshot.plans.keys().chain(self.history.plans()).collect();
                names.into_iter().map(|name| cluster(name.as_str())).collect()
            }
            Kind::ConfigMap => self.switches.known(),
            Kind::OpenShiftMachineHealthCheck
            | Kind::OpenShiftMachine
            | Kind::ClusterApiMachineHealthCheck
            | Kind::ClusterApiMachine
            | Kind::OldClusterApiMachineHealthCheck
            | Kind::OldClusterApiMachine => self.machine_checks.known(kind),
            Kind::BareMetalHost | Kind::MachineConfigPool | Kind::CronJob => self.neighbours.known(kind),
        };
        known.extend(self.problems.keys().filter(|(of, _)| *of == kind).map(|(_, key)| key.clone()));
        known
    }

    fn put(&mut self, kind: Kind, seen: Seen) {
        let Seen { key, uid, generation, mut object, problems, .. } = seen;
        if matches!(kind, Kind::ConsolidationPolicy | Kind::NodePowerClass | Kind::ConsolidationPlan) {
            let before = self.own.insert((kind, key.name.clone()), (uid.clone(), generation));
            // At the start everything is new, and nothing has changed.
            let declares = kind != Kind::ConsolidationPlan && self.freshness.synced();
            if declares && before.is_none_or(|before| before != (uid.clone(), generation)) {
                self.outsides.note_change(kind, &key.name);
            }
        }
        if let Some(Object::Switches(switches, _)) = &mut object {
            switches.of = Some(uid);
            self.switches.key = Some(key.clone());
        }
        let id = (kind, key);
        if problems.is_empty() {
            self.problems.remove(&id);
        } else if self.problems.len() < MOST_PROBLEMS || self.problems.contains_key(&id) {
            self.problems.insert(id.clone(), problems);
        }
        let key = id.1;
        match object {
            Some(object) => self.put_object(&key, object),
            None => self.remove_object(kind, &key),
        }
    }

    fn put_object(&mut self, key: &ObjectKey, object: Object) {
        match object {
            Object::Namespace(namespace) => self.put_namespace(&key.name, namespace),
            Object::Node(node) => {
                let name = &node.node.name;
                self.outsides.kubelets.insert(name.clone(), node.kubelet.clone());
                match node.down_since {
                    Some(since) => self.outsides.down.insert(name.clone(), since),
                    None => self.outsides.down.remove(name),
                };
                self.neighbours.put_node(name, node.says.clone());
                self.put_node(*node);
            }
            Object::NodePower(power) => {
                let name = NodeName::new(key.name.as_str());
                if let Some(node) = self.snapshot.nodes.get_mut(&name) {
                    (node.power, node.wake_tested) = (power.phase, power.wake_tested);
                }
                self.snapshot.powers.insert(name, *power);
            }
            Object::AttachLimits(limits) => {
                let name = NodeName::new(key.name.as_str());
                if let Some(node) = self.snapshot.nodes.get_mut(&name) {
                    node.attach_limits.clone_from(&limits);
                }
                self.attach_limits.insert(name, limits);
            }
            Object::StorageClass(class) => {
                self.storage.classes.insert(key.name.clone(), class);
                self.waiting.touch();
            }
            Object::Volume(volume) => {
                self.waiting.touch();
                self.storage.volumes.insert(key.name.clone(), volume);
                self.touch_users_of_volume(&key.name);
            }
            Object::Claim(claim) => {
                let claim_key = (key.namespace.clone(), key.name.clone());
                if self.storage.claims.get(&claim_key) != Some(&claim) {
                    self.waiting.touch();
                    self.storage.claims.insert(claim_key.clone(), claim);
                    self.touch_users_of(&claim_key);
                }
            }
            Object::Quota(quota) => self.put_quota(key, quota),
            Object::MigrationPolicy(policy) => match policy {
                ObservedPolicy::Users(policy) => {
                    self.vms.policies.insert(key.name.clone(), policy);
                    self.vms.touch_all(|_, _| true);
                }
                ObservedPolicy::Ours { mode, drifted } => {
                    self.own_policies.insert(key.name.clone(), (mode, drifted));
                }
            },
            Object::HealthCheck(check) => {
                self.snapshot.health_checks.insert(key.name.clone(), check);
            }
            Object::MachineCheck(kind, check) => self.machine_checks.put_check(kind, key, check),
            Object::Machine(kind, machine) => self.machine_checks.put_machine(kind, key, machine),
            Object::PoweredHost(host) => self.neighbours.put_host(key, host),
            Object::ConfigRollout(nodes) => self.neighbours.put_rollout(key, nodes),
            Object::ScheduledDescheduler(is_one) => self.neighbours.put_scheduled_descheduler(key, is_one),
            Object::KubeVirt(kubevirt) => {
                self.kubevirts.insert(key.clone(), kubevirt);
                self.judge_kubevirt();
            }
            Object::Handler(rollout) => {
                match rollout {
                    Some(rollout) => self.rollouts.insert(key.clone(), rollout),
                    None => self.rollouts.remove(key),
                };
                self.judge_kubevirt();
            }
            Object::VirtualMachine(machine) => {
                let vm = VmKey { namespace: key.namespace.clone(), name: key.name.clone() };
                if machine == Default::default() {
                    self.vms.machines.remove(&vm);
                } else {
                    self.vms.machines.insert(vm.clone(), machine);
                }
                self.vms.touch(&vm);
            }
            Object::Vmi(mut vmi) => {
                vmi.asks.terms = self.pool.share(vmi.asks.terms);
                let vm = self.vms.put(*vmi, &mut self.storage);
                self.snapshot.vms.insert(vm.key.clone(), vm);
            }
            Object::Pod(pod) => self.put_pod(*pod),
            Object::Migration(migration) => {
                self.vms.touch(&migration.migration.vm);
                self.migrations.put(*migration, &mut self.snapshot.migrations);
            }
            Object::Class(class) => {
                self.policies.classes.insert(class.name.clone(), *class);
                self.judge_taints();
            }
            Object::Policy(resolved) => {
                // Before anything was looked at, what was said before is all that is known.
                if !self.freshness.synced() {
                    self.switches.told(resolved.told.switches.as_ref());
                    for hold in &resolved.told.holds {
                        self.ledger.told(&hold.reason, &hold.key, hold.since);
                    }
                }
                self.outsides.put(*resolved, &mut self.policies);
            }
            Object::Plan(plan) => self.put_plan(*plan),
            Object::Switches(switches, resumed) => self.switches.put(switches, resumed),
            Object::NotCreated(refusal) => self.migrations.put_refusal(key, refusal),
        }
    }

    fn remove(&mut self, kind: Kind, key: &ObjectKey) {
        if matches!(kind, Kind::ConsolidationPolicy | Kind::NodePowerClass) {
            self.outsides.note_change(kind, &key.name);
        }
        self.problems.remove(&(kind, key.clone()));
        self.own.remove(&(kind, key.name.clone()));
        self.remove_object(kind, key);
    }

    fn remove_object(&mut self, kind: Kind, key: &ObjectKey) {
        let name = key.name.as_str();
        match kind {
            Kind::Namespace => {
                self.snapshot.namespaces.remove(&key.name);
                self.vms.touch_all(|vm, _| vm.namespace == key.name);
            }
            Kind::Node => {
                let node = NodeName::new(name);
                self.snapshot.nodes.remove(&node);
                self.tainted.remove(&node);
                self.outsides.kubelets.remove(&node);
                self.migrations.touch_asking();
                self.outsides.down.remove(&node);
                self.neighbours.forget_node(&node);
                self.vms.touch_all(|_, own| own.node.as_ref() == Some(&node));
            }
            Kind::NodePower => {
                let node = NodeName::new(name);
                self.snapshot.powers.remove(&node);
                if let Some(node) = self.snapshot.nodes.get_mut(&node) {
                    (node.power, node.wake_tested) = Default::default();
                }
            }
            Kind::CSINode => {
                let node = NodeName::new(name);
                self.attach_limits.remove(&node);
                if let Some(node) = self.snapshot.nodes.get_mut(&node) {
                    node.attach_limits.clear();
                }
            }
            Kind::StorageClass => {
                self.storage.classes.remove(&key.name);
                self.waiting.touch();
            }
            Kind::PersistentVolume => {
                self.storage.volumes.remove(&key.name);
                self.waiting.touch();
                self.touch_users_of_volume(&key.name);
            }
            Kind::PersistentVolumeClaim => {
                let claim = (key.namespace.clone(), key.name.clone());
                self.storage.claims.remove(&claim);
                self.waiting.touch();
                self.touch_users_of(&claim);
            }
            Kind::ResourceQuota => self.put_quota(key, None),
            Kind::MigrationPolicy => {
                self.own_policies.remove(&key.name);
                if self.vms.policies.remove(&key.name).is_some() {
                    self.vms.touch_all(|_, _| true);
                }
            }
            Kind::Event => self.migrations.put_refusal(key, None),
            Kind::NodeHealthCheck => {
                self.snapshot.health_checks.remove(&key.name);
            }
            Kind::KubeVirt => {
                self.kubevirts.remove(key);
                self.judge_kubevirt();
            }
            Kind::DaemonSet => {
                self.rollouts.remove(key);
                self.judge_kubevirt();
            }
            Kind::VirtualMachine => {
                let vm = VmKey { namespace: key.namespace.clone(), name: key.name.clone() };
                self.vms.machines.remove(&vm);
                self.vms.touch(&vm);
            }
            Kind::VirtualMachineInstance => {
                let vm = VmKey { namespace: key.namespace.clone(), name: key.name.clone() };
                self.snapshot.vms.remove(&vm);
                self.vms.remove(&vm, &mut self.storage);
            }
            Kind::Pod => self.remove_pod(&PodKey { namespace: key.namespace.clone(), name: key.name.clone() }),
            Kind::VirtualMachineInstanceMigration => {
                let migration = MigrationName { namespace: key.namespace.clone(), name: key.name.clone() };
                if let Some(vm) = self.migrations.remove(&migration, &mut self.snapshot.migrations) {
                    self.vms.touch(&vm);
                }
            }
            Kind::NodePowerClass => {
                self.policies.classes.remove(&ClassName::new(name));
                self.judge_taints();
            }
            Kind::ConsolidationPolicy => self.outsides.remove(&PolicyName::new(name), &mut self.policies),
            Kind::ConsolidationPlan => {
                let plan = PlanName::new(name);
                self.snapshot.plans.remove(&plan);
                self.over.remove(&plan);
                self.history.remove(&plan);
                self.power_steps.remove(&plan);
            }
            Kind::ConfigMap => self.switches.gone(),
            Kind::OpenShiftMachineHealthCheck
            | Kind::OpenShiftMachine
            | Kind::ClusterApiMachineHealthCheck
            | Kind::ClusterApiMachine
            | Kind::OldClusterApiMachineHealthCheck
            | Kind::OldClusterApiMachine => self.machine_checks.remove(kind, key),
            Kind::BareMetalHost | Kind::MachineConfigPool | Kind::CronJob => self.neighbours.remove(kind, key),
        }
    }
}
