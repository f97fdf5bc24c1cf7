//! A node as the scheduler, KubeVirt and the power sequence see it.

use super::{Labels, NodeCondition, NodeName, Resources, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a taint does to pods that do not tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TaintEffect {
    /// New pods stay away.
    NoSchedule,
    /// New pods rather stay away.
    PreferNoSchedule,
    /// New pods stay away and running ones are evicted.
    NoExecute,
}

/// A taint on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value, often empty.
    pub value: String,
    /// What it does.
    pub effect: TaintEffect,
}

/// Where a node stands in the power sequence, from its NodePower. A node without one is awake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PowerState {
    /// Running.
    #[default]
    Awake,
    /// Being emptied before a suspend; takes no VM.
    Emptying,
    /// Ordered to suspend.
    Suspending,
    /// Asleep, and able to wake.
    Suspended,
    /// Woken, not yet usable.
    Waking,
    /// Failed to wake; not to be counted on.
    Quarantined,
}

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Its labels.
    pub labels: Labels,
    /// Its taints, cordons included.
    pub taints: Vec<Taint>,
    /// Cordoned.
    pub unschedulable: bool,
    /// The condition `Ready` is `True`.
    pub ready: bool,
    /// What pods may ask for in all.
    pub allocatable: Resources,
    /// The label or taint by which it is a control-plane node; one with a part of the control plane among its static
    /// pods is one too.
    pub control_plane: Option<String>,
    /// A person's `miyako.dev/keep-awake`, with the reason.
    pub keep_awake: Option<String>,
    /// Its place in the power sequence.
    pub power: PowerState,
    /// When a wake test last succeeded; without one a node is never suspended (rule 3).
    pub wake_tested: Option<Timestamp>,
    /// Volumes still attached (`status.volumesAttached` and `volumesInUse`).
    pub attached_volumes: Vec<String>,
    /// How many volumes of each CSI driver can be attached (CSINode's `allocatable.count`), where there is a limit.
    pub attach_limits: BTreeMap<String, u64>,
    /// virt-handler runs and is ready here.
    pub virt_handler_ready: bool,
    /// Its conditions that are True, by type.
    pub conditions: BTreeSet<String>,
    /// Our own condition on it, with since when.
    pub power_condition: Option<(NodeCondition, Timestamp)>,
    /// The kernel's boot id, as the kubelet says.
    pub boot_id: Option<String>,
    /// Its IP addresses, internal and external: metrics are labelled by them where they do not carry its name.
    pub addresses: Vec<String>,
    /// An upgrade or somebody else's drain works on this node (a foreign taint or annotation says so).
    pub maintenance: Option<String>,
    /// Keys of taints that controllers put on it while it sleeps, as its class says. They don't count for what it will
    /// be once awake.
    pub passing_taints: BTreeSet<String>,
    /// What says that it carries other nodes' traffic, such as a label of an egress gateway.
    pub gateway: Option<String>,
}

impl Node {
    /// A ready, awake node with nothing special about it.
    #[must_use]
    pub fn new(name: impl AsRef<str>, allocatable: Resources) -> Self {
        let name = NodeName::new(name);
        Self {
            labels: Labels::from([("kubernetes.io/hostname".into(), name.to_string())]),
            name,
            taints: Vec::new(),
            unschedulable: false,
            ready: true,
            allocatable,
            control_plane: None,
            keep_awake: None,
            power: PowerState::Awake,
            wake_tested: None,
            attached_volumes: Vec::new(),
            attach_limits: BTreeMap::new(),
            virt_handler_ready: true,
            conditions: BTreeSet::new(),
            power_condition: None,
            boot_id: None,
            addresses: Vec::new(),
            maintenance: None,
            passing_taints: BTreeSet::new(),
            gateway: None,
        }
    }

    /// The value of its label `kubernetes.io/hostname`, by which a migration names it (`addedNodeSelector`). Often but not
    /// always its name.
    #[must_use]
    pub fn hostname(&self) -> Option<&str> {
        self.labels.get("kubernetes.io/hostname").map(String::as_str)
    }

    /// Awake, ready and able to run VMs now.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.power == PowerState::Awake && self.ready && self.virt_handler_ready
    }

    /// Volumes of a CSI driver that are attached (`kubernetes.io/csi/<driver>^<handle>`).
    #[must_use]
    pub fn attached_of(&self, driver: &str) -> u64 {
        let of_driver = |volume: &&String| {
            let named = volume.strip_prefix("kubernetes.io/csi/").and_then(|rest| rest.strip_prefix(driver));
            named.is_some_and(|rest| rest.starts_with('^'))
        };
        self.attached_volumes.iter().filter(of_driver).count() as u64
    }

    /// Asleep and believed to wake when asked. One that is called back or woken already is not asleep any more.
    #[must_use]
    pub fn can_wake(&self) -> bool {
        self.power == PowerState::Suspended
    }
}
