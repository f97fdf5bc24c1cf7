//! What watches tell: kinds, keys, and objects already pruned to what the model needs.

use super::{
    convert::{
        Converted, Problem, class, event, health_check, kubevirt, machine, migration, migration_policy, namespace,
        neighbours, node, node_power, objects, plan, pod, policy, storage, switches, vm, vmi,
    },
    pool::Pool,
};
use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        batch::v1::CronJob,
        core::v1::{ConfigMap, Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ResourceQuota},
        storage::v1::{CSINode, StorageClass},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use miyako_api::{
    ConsolidationPlan, ConsolidationPolicy, NodePower, NodePowerClass,
    kubevirt::{KubeVirt, MigrationPolicy, VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceMigration},
    machine_health_check::{
        ClusterApiMachine, ClusterApiMachineHealthCheck, OldClusterApiMachine, OldClusterApiMachineHealthCheck,
        OpenShiftMachine, OpenShiftMachineHealthCheck,
    },
    neighbours::{BareMetalHost, MachineConfigPool},
    node_health_check::NodeHealthCheck,
};
use miyako_core::model::{self, Name, NodeClass, PlanRecord, PowerRecord, Quota, Switches, Uid};
use serde::de::DeserializeOwned;
use std::{collections::BTreeMap, fmt, sync::Arc};

/// The kinds that are watched, in the order in which their changes are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the API's own names")]
pub enum Kind {
    Namespace,
    Node,
    NodePower,
    CSINode,
    StorageClass,
    PersistentVolume,
    PersistentVolumeClaim,
    ResourceQuota,
    MigrationPolicy,
    NodeHealthCheck,
    KubeVirt,
    DaemonSet,
    VirtualMachine,
    VirtualMachineInstance,
    Pod,
    VirtualMachineInstanceMigration,
    NodePowerClass,
    ConsolidationPolicy,
    ConsolidationPlan,
    ConfigMap,
    OpenShiftMachineHealthCheck,
    OpenShiftMachine,
    ClusterApiMachineHealthCheck,
    ClusterApiMachine,
    OldClusterApiMachineHealthCheck,
    OldClusterApiMachine,
    BareMetalHost,
    MachineConfigPool,
    CronJob,
    Event,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::Namespace,
        Self::Node,
        Self::NodePower,
        Self::CSINode,
        Self::StorageClass,
        Self::PersistentVolume,
        Self::PersistentVolumeClaim,
        Self::ResourceQuota,
        Self::MigrationPolicy,
        Self::NodeHealthCheck,
        Self::KubeVirt,
        Self::DaemonSet,
        Self::VirtualMachine,
        Self::VirtualMachineInstance,
        Self::Pod,
        Self::VirtualMachineInstanceMigration,
        Self::NodePowerClass,
        Self::ConsolidationPolicy,
        Self::ConsolidationPlan,
        Self::ConfigMap,
        Self::OpenShiftMachineHealthCheck,
        Self::OpenShiftMachine,
        Self::ClusterApiMachineHealthCheck,
        Self::ClusterApiMachine,
        Self::OldClusterApiMachineHealthCheck,
        Self::OldClusterApiMachine,
        Self::BareMetalHost,
        Self::MachineConfigPool,
        Self::CronJob,
        Self::Event,
    ];

    /// A cluster, or a proxy before it, may do without: its CRD comes with KubeVirt or with somebody else, or its group is
    /// only looked at for others' programs. Then there are simply none.
    #[must_use]
    pub fn may_be_unknown(self) -> bool {
        self.is_seldom_installed()
            || matches!(
                self,
                Self::MigrationPolicy
                    | Self::KubeVirt
                    | Self::VirtualMachine
                    | Self::VirtualMachineInstance
                    | Self::VirtualMachineInstanceMigration
                    | Self::CronJob
            )
    }

    /// Its CRD comes with what else manages nodes, and most clusters do without.
    #[must_use]
    pub fn is_seldom_installed(self) -> bool {
        matches!(
            self,
            Self::NodeHealthCheck
                | Self::OpenShiftMachineHealthCheck
                | Self::OpenShiftMachine
                | Self::ClusterApiMachineHealthCheck
                | Self::ClusterApiMachine
                | Self::OldClusterApiMachineHealthCheck
                | Self::OldClusterApiMachine
                | Self::BareMetalHost
                | Self::MachineConfigPool
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Which object of a kind. Cluster-scoped objects have an empty namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
}

impl ObjectKey {
    /// The key of the object with this metadata.
    #[must_use]
    pub fn of(metadata: &ObjectMeta) -> Self {
        let namespace = Name::from(metadata.namespace.as_deref().unwrap_or_default());
        Self { namespace, name: objects::name(metadata) }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => fmt::Display::fmt(&self.name, f),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

/// How new an object or a list is. Kubernetes promises that resource versions of one kind compare as numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u64);

impl Version {
    /// Reads a resource version; one that is no number is older than all others.
    #[must_use]
    pub(crate) fn read(text: Option<&str>) -> Self {
        Self(text.and_then(|text| text.parse().ok()).unwrap_or_default())
    }
}

/// An object, pruned.
#[derive(Debug, Clone)]
pub(crate) enum Object {
    Namespace(model::Namespace),
    Node(Box<node::ObservedNode>),
    NodePower(Box<PowerRecord>),
    StorageClass(storage::Class),
    AttachLimits(BTreeMap<String, u64>),
    Volume(storage::Volume),
    Claim(storage::Claim),
    Quota(Option<Quota>),
    MigrationPolicy(migration_policy::ObservedPolicy),
    HealthCheck(model::HealthCheck),
    MachineCheck(Kind, Option<machine::MachineCheck>),
    Machine(Kind, Option<machine::Machine>),
    PoweredHost(Option<neighbours::PoweredHost>),
    ConfigRollout(Option<model::Selector>),
    ScheduledDescheduler(bool),
    KubeVirt(model::KubeVirt),
    Handler(Option<kubevirt::Rollout>),
    VirtualMachine(vm::ObservedVirtualMachine),
    Vmi(Box<vmi::ObservedVmi>),
    Pod(Box<pod::ObservedPod>),
    Migration(Box<migration::ObservedMigration>),
    Class(Box<NodeClass>),
    Policy(Box<policy::Resolved>),
    Plan(Box<PlanRecord>),
    /// People's switches, and whether they are off because somebody resumed.
    Switches(Switches, bool),
    NotCreated(Option<event::NotCreated>),
}

/// One object as it was seen.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) key: ObjectKey,
    pub(crate) uid: Uid,
    pub(crate) generation: Option<i64>,
    pub(crate) version: Version,
    /// None if it can't be read and nothing of its kind can stand for it.
    pub(crate) object: Option<Object>,
    pub(crate) problems: Vec<Problem>,
}

impl Seen {
    /// The same, with constraints that equal others' shared with them.
    pub(super) fn sharing(mut self, pool: &mut Pool) -> Self {
        if let Some(Object::Pod(pod)) = &mut self.object {
            pod.pod.scheduling = pool.share(Arc::clone(&pod.pod.scheduling));
            if let Some(launcher) = &mut pod.launcher {
                launcher.scheduling = pool.share(Arc::clone(&launcher.scheduling));
            }
        }
        self
    }
}

/// News of one kind.
#[derive(Debug, Clone)]
pub(crate) enum Update {
    /// All objects there are, as of a version.
    All(Vec<Seen>, Version),
    /// An object as it is now.
    Is(Box<Seen>),
    /// An object is gone; its last version.
    Gone(ObjectKey, Uid, Version),
    /// A direct read of an object: as it is, or that it is not.
    Read(ObjectKey, Option<Box<Seen>>),
    /// The watch is alive: connected, or a bookmark.
    Alive,
    /// The watch fails.
    Failed(String),
    /// The caller may not list the kind, in the API server's words.
    Refused(String),
    /// The API server does not know the kind.
    Unknown,
}

/// A kind that is watched: how its objects are pruned.
pub(crate) trait Watched:
    Resource<DynamicType = ()> + DeserializeOwned + Clone + fmt::Debug + Send + 'static
{
    /// Which kind it is.
    const KIND: Kind;

    /// Prunes an object.
    fn prune(&self) -> Converted<Object>;

    /// What stands for an object that can't be read.
    fn unreadable(_name: &str, _error: &str) -> Option<Object> {
        None
    }

    /// The object as it was seen.
    fn seen(metadata: &ObjectMeta, object: Result<&Self, &str>) -> Seen {
        let key = ObjectKey::of(metadata);
        let (object, problems) = match object {
            Ok(object) => {
                let Converted { value, problems } = object.prune();
                (Some(value), problems)
            }
            Err(error) => {
                let problem = Problem { field: String::new(), message: format!("the object can't be read: {error}") };
                (Self::unreadable(key.name.as_str(), error), vec![problem])
            }
        };
        Seen {
            key,
            uid: objects::uid(metadata),
            generation: metadata.generation,
            version: Version::read(metadata.resource_version.as_deref()),
            object,
            problems,
        }
    }
}

impl<T> Converted<T> {
    fn map<U>(self, into: impl FnOnce(T) -> U) -> Converted<U> {
        Converted { value: into(self.value), problems: self.problems }
    }

    fn fine(value: T) -> Self {
        Self { value, problems: Vec::new() }
    }
}

macro_rules! watched {
    ($($kind:ident, |$object:ident| $prune:expr $(, unreadable: |$name:ident, $error:ident| $stands:expr)?;)*) => {$(
        impl Watched for $kind {
            const KIND: Kind = Kind::$kind;

            fn prune(&self) -> Converted<Object> {
                let $object = self;
                $prune
            }

            $(fn unreadable($name: &str, $error: &str) -> Option<Object> {
                Some($stands)
            })?
        }
    )*};
}

watched! {
    Namespace, |it| Converted::fine(Object::Namespace(namespace::convert(it)));
    Node, |it| node::convert(it).map(|node| Object::Node(Box::new(node)));
    NodePower, |it| Converted::fine(Object::NodePower(Box::new(node_power::convert(it))));
    CSINode, |it| Converted::fine(Object::AttachLimits(storage::attach_limits(it)));
    StorageClass, |it| Converted::fine(Object::StorageClass(storage::class(it)));
    PersistentVolume, |it| storage::volume(it).map(Object::Volume);
    PersistentVolumeClaim, |it| Converted::fine(Object::Claim(storage::claim(it)));
    ResourceQuota, |it| namespace::quota(it).map(Object::Quota);
    MigrationPolicy, |it| Converted::fine(Object::MigrationPolicy(migration_policy::convert(it)));
    NodeHealthCheck, |it| health_check::convert(it).map(Object::HealthCheck);
    KubeVirt, |it| kubevirt::convert(it).map(Object::KubeVirt);
    DaemonSet, |it| Converted::fine(Object::Handler(kubevirt::handler_rollout(it)));
    VirtualMachine, |it| vm::convert(it).map(Object::VirtualMachine);
    VirtualMachineInstance, |it| vmi::convert(it).map(|vmi| Object::Vmi(Box::new(vmi)));
    Pod, |it| pod::convert(it).map(|pod| Object::Pod(Box::new(pod)));
    VirtualMachineInstanceMigration, |it| migration::convert(it).map(|one| Object::Migration(Box::new(one)));
    NodePowerClass, |it| class::convert(objects::name(&it.metadata).as_str(), &it.spec).map(|class| Object::Class(Box::new(class))),
        unreadable: |name, error| Object::Class(Box::new(class::unreadable(name, error)));
    ConsolidationPolicy, |it| policy::resolve(objects::name(&it.metadata).as_str(), &it.spec).map(|policy| {
        let told = it.status.as_ref().map(policy::told).unwrap_or_default();
        Object::Policy(Box::new(policy::Resolved { told, ..policy }))
    }),
        unreadable: |name, error| Object::Policy(Box::new(policy::unreadable(name, error)));
    ConsolidationPlan, |it| plan::convert(it).map(|plan| Object::Plan(Box::new(plan)));
    ConfigMap, |it| switches::convert(it).map(|found| Object::Switches(found, switches::is_resumed(it))),
        unreadable: |_name, error| Object::Switches(switches::unreadable(error), false);
    Event, |it| Converted::fine(Object::NotCreated(event::convert(it)));
    OpenShiftMachineHealthCheck, |it| machine::check(&it.metadata, &it.spec.selector, None, &it.spec.unhealthy_conditions)
        .map(|check| Object::MachineCheck(Kind::OpenShiftMachineHealthCheck, check));
    OpenShiftMachine, |it| Converted::fine(Object::Machine(
        Kind::OpenShiftMachine, machine::machine(&it.metadata, None, it.status.as_ref())));
    ClusterApiMachineHealthCheck, |it| machine::check(
        &it.metadata, &it.spec.selector, Some(&it.spec.cluster_name), &it.spec.checks.unhealthy_node_conditions)
        .map(|check| Object::MachineCheck(Kind::ClusterApiMachineHealthCheck, check));
    ClusterApiMachine, |it| Converted::fine(Object::Machine(
        Kind::ClusterApiMachine, machine::machine(&it.metadata, Some(&it.spec.cluster_name), it.status.as_ref())));
    OldClusterApiMachineHealthCheck, |it| machine::check(
        &it.metadata, &it.spec.selector, Some(&it.spec.cluster_name), &it.spec.unhealthy_conditions)
        .map(|check| Object::MachineCheck(Kind::OldClusterApiMachineHealthCheck, check));
    OldClusterApiMachine, |it| Converted::fine(Object::Machine(
        Kind::OldClusterApiMachine, machine::machine(&it.metadata, Some(&it.spec.cluster_name), it.status.as_ref())));
    BareMetalHost, |it| Converted::fine(Object::PoweredHost(neighbours::powered(it)));
    MachineConfigPool, |it| neighbours::rollout(it).map(Object::ConfigRollout);
    CronJob, |it| Converted::fine(Object::ScheduledDescheduler(neighbours::schedules_descheduler(it)));
}
