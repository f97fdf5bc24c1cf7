//! What keeps a node awake (rule 3), as planner, power sequence, check and people name it.

use super::{ClassName, Name, Neighbour, PowerState, TaintEffect, Timestamp};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What keeps a node awake. The order is that of the report: first what is never going to change by itself, last what
/// consolidation can clear away.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "blocker")]
pub enum Blocker {
    /// It belongs to the control plane.
    #[error("it is a control-plane node ({by})")]
    ControlPlane {
        /// What says so: a label, a taint or a static pod.
        by: String,
    },
    /// Other nodes' traffic goes through it.
    #[error("other nodes' traffic goes through it ({by})")]
    Gateway {
        /// What says so: a label or an annotation.
        by: String,
    },
    /// A person's mark.
    #[error("kept awake: {reason}")]
    KeepAwake {
        /// What the person wrote.
        reason: String,
    },
    /// No class selects it, several do, or the class is invalid.
    #[error("its class is not clear: {why}")]
    NoClass {
        /// Why.
        why: String,
    },
    /// It holds or serves other nodes' data.
    #[error("{workload} pods hold data of others")]
    StorageDataPlane {
        /// What kind of pods.
        workload: String,
    },
    /// A MachineHealthCheck would replace its machine while it sleeps.
    #[error("MachineHealthCheck {check} would replace its machine while it sleeps")]
    MachineHealthCheck {
        /// Namespace and name.
        check: Name,
    },
    /// Its class names no way to wake it: what went to sleep would stay there, and no test can show anything else.
    #[error("its class {class} names no way to wake it")]
    NoWakeDriver {
        /// The class.
        class: ClassName,
    },
    /// A program of somebody else's does not let it sleep.
    #[error("{neighbour}")]
    Neighbour {
        /// Which, and for what.
        neighbour: Neighbour,
    },
    /// A way to wake it, which its class names, leads nowhere.
    #[error("a way to wake it leads nowhere: {way}")]
    WakeAddress {
        /// Which, and what is missing.
        way: String,
    },
    /// Nobody has tried whether it wakes.
    #[error("it was never woken for a test")]
    NoWakeTest,
    /// It refused, did not fall asleep, or woke by itself, a few times in a row.
    #[error("it will not stay asleep ({times} times in a row): {why}; it is left awake until {until}")]
    WillNotStayAsleep {
        /// How often it was tried.
        times: u32,
        /// What its agent says of the last time, or what woke it.
        why: String,
        /// When it is tried again.
        until: Timestamp,
    },
    /// It failed to wake, or its place in the power sequence is another.
    #[error("it is {power:?}, not awake")]
    NotAwake {
        /// Its place in the power sequence.
        power: PowerState,
    },
    /// Its condition Ready is not True.
    #[error("it is not ready")]
    NotReady,
    /// Somebody works on it.
    #[error("under maintenance: {what}")]
    Maintenance {
        /// What says so.
        what: String,
    },
    /// Somebody cordoned it.
    #[error("somebody cordoned it")]
    Cordoned,
    /// Somebody tainted it.
    #[error("somebody tainted it: {key}")]
    Tainted {
        /// The taint's key.
        key: String,
        /// Its effect.
        effect: TaintEffect,
    },
    /// A DaemonSet that is not known to serve its node alone.
    #[error("DaemonSet {daemon_set} is not known to serve its node alone")]
    DaemonSet {
        /// Namespace and name.
        daemon_set: String,
    },
    /// A static pod that is not known to serve its node alone.
    #[error("static pod {pod} is not known to serve its node alone")]
    StaticPod {
        /// Namespace and the name in its file.
        pod: String,
    },
    /// Ordinary pods.
    #[error("{count} pods of namespace {namespace}")]
    Pods {
        /// Their namespace.
        namespace: Name,
        /// How many.
        count: u32,
    },
    /// Volumes are attached.
    #[error("{count} volumes are attached")]
    Volumes {
        /// How many.
        count: u32,
    },
    /// Migrations come from it or go to it.
    #[error("{count} migrations come from it or go to it")]
    Migrations {
        /// How many.
        count: u32,
    },
    /// VMs run on it.
    #[error("{count} VMs run on it")]
    Vms {
        /// How many.
        count: u32,
    },
}

impl Blocker {
    /// The kind, by which blockers of many nodes are counted together.
    #[must_use]
    pub fn kind(&self) -> Cow<'static, str> {
        match self {
            Self::ControlPlane { .. } => "control-plane nodes".into(),
            Self::Gateway { .. } => "gateways and route reflectors".into(),
            Self::KeepAwake { .. } => "miyako.dev/keep-awake".into(),
            Self::NoClass { .. } => "no clear class".into(),
            Self::StorageDataPlane { workload } => format!("{workload} pods").into(),
            Self::MachineHealthCheck { check } => format!("MachineHealthCheck {check}").into(),
            Self::NoWakeDriver { class } => format!("no wake driver in class {class}").into(),
            Self::Neighbour { neighbour } => neighbour.category().into(),
            Self::WakeAddress { .. } => "addresses to wake nodes by".into(),
            Self::NoWakeTest => "no wake test".into(),
            Self::WillNotStayAsleep { .. } => "does not stay asleep".into(),
            Self::NotAwake { power } => format!("{power:?}").into(),
            Self::NotReady => "not ready".into(),
            Self::Maintenance { .. } => "maintenance".into(),
            Self::Cordoned => "cordoned".into(),
            Self::Tainted { key, .. } => format!("taint {key}").into(),
            Self::DaemonSet { daemon_set } => format!("DaemonSet {daemon_set}").into(),
            Self::StaticPod { pod } => format!("static pod {pod}").into(),
            Self::Pods { namespace, .. } => format!("pods of namespace {namespace}").into(),
            Self::Volumes { .. } => "attached volumes".into(),
            Self::Migrations { .. } => "migrations".into(),
            Self::Vms { .. } => "VMs".into(),
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::ControlPlane { .. } => {
                "control-plane nodes never sleep; leave them out of the class's selector".into()
            }
            Self::Gateway { by } => format!(
                "nodes that carry the traffic of others never sleep: leave them out of the class's selector, or remove \
                 the {by} if it does not say that"
            ),
            Self::KeepAwake { .. } => {
                "remove the node's annotation miyako.dev/keep-awake when its reason is gone".into()
            }
            Self::NoClass { .. } => "let exactly one valid NodePowerClass select the node".into(),
            Self::StorageDataPlane { .. } => {
                "keep storage on nodes that never sleep and leave them out of the class".into()
            }
            Self::MachineHealthCheck { check } => format!(
                "leave machines whose nodes may sleep out of the spec.selector of MachineHealthCheck {check}, or pause it \
                 (annotation cluster.x-k8s.io/paused); of Cluster API also by the machine's annotation \
                 cluster.x-k8s.io/skip-remediation"
            ),
            Self::NoWakeDriver { class } => format!(
                "write into NodePowerClass {class} how its nodes are woken (spec.wake, docs/wake.md), and let a waker run \
                 (waker.enabled=true in the chart's values)"
            ),
            Self::Neighbour { neighbour } => neighbour.advice(),
            Self::WakeAddress { .. } => {
                "label the node, or list its address under the class's spec.wake[].nodes; or take the driver out of the class"
                    .into()
            }
            Self::NoWakeTest => {
                "its policy tests it when it is empty (class's wakeTest); `miyako wake-test NODE` asks for it now"
                    .into()
            }
            Self::WillNotStayAsleep { .. } => "see what woke it (status.agent of its NodePower, /sys/class/wakeup and \
                 /sys/power/suspend_stats on the node): take a device that should not wake it out of /proc/acpi/wakeup, let \
                 network cards wake on magic packets alone (ethtool -s IF wol g), update a driver that refuses; then \
                 `miyako wake-test NODE` tries it at once"
                .into(),
            Self::NotAwake { .. } => "nothing, or see the node's NodePower".into(),
            Self::NotReady => "see the node's conditions".into(),
            Self::Maintenance { .. } => "nothing; it can sleep when the maintenance is over".into(),
            Self::Cordoned => "uncordon the node (kubectl uncordon)".into(),
            Self::Tainted { key, .. } => format!("remove the taint {key} or leave the node out of the class"),
            Self::DaemonSet { daemon_set } => {
                format!(
                    "if it serves its own node alone, add {daemon_set} to the class's spec.suspend.ignoreDaemonSets"
                )
            }
            Self::StaticPod { pod } => {
                format!("if it serves its own node alone, add {pod} to the class's spec.suspend.ignoreStaticPods")
            }
            Self::Pods { namespace, .. } => {
                format!("keep pods of {namespace} off these nodes by a node selector or a taint")
            }
            Self::Volumes { .. } => "nothing; they are detached when their pods have gone".into(),
            Self::Migrations { .. } => "nothing; they end".into(),
            Self::Vms { .. } => "nothing; idle VMs are moved away when another node has room".into(),
        }
    }
}
