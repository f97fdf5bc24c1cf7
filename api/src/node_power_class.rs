//! NodePowerClass (`npc`): which nodes are alike, what they are for and how they sleep and wake. Nothing of ours ever
//! writes its spec.

#![allow(unreachable_pub, reason = "KubeSchema puts a copy of each struct into the function that makes its schema")]
#![allow(clippy::duplicated_attributes, reason = "two columns may be of the same type")]

use crate::{consolidation_policy::Energy, duration::Duration, schema};
use k8s_openapi::{
    api::core::v1::SecretReference,
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{Condition, LabelSelector},
    },
};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

mod power;

pub use power::{BmcMeter, Meter, Power, PrometheusMeter, RaplMeter};

/// Nodes that are alike: what they are for, how much of them VMs may use, how they sleep and wake.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "miyako.dev",
    version = "v1alpha1",
    kind = "NodePowerClass",
    plural = "nodepowerclasses",
    shortname = "npc",
    category = "miyako",
    status = "NodePowerClassStatus",
    derive = "PartialEq",
    doc = "Nodes that are alike: what they are for, how much of them VMs may use, how they sleep and wake.",
    printcolumn(name = "Role", type_ = "string", json_path = ".spec.role"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes"),
    printcolumn(name = "Policy", type_ = "string", json_path = ".status.policy"),
    printcolumn(name = "Saved", type_ = "string", json_path = ".status.energy.saved"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = (
    "!has(self.power.meter) || !has(self.power.meter.redfish) || (has(self.wake) && self.wake.exists(way, way.driver == 'redfish'))",
    "a meter redfish reads the BMC of the wake driver redfish: add one under spec.wake, last if others are to wake the nodes"
), validation = (
    "!has(self.power.meter) || !has(self.power.meter.ipmi) || (has(self.wake) && self.wake.exists(way, way.driver == 'ipmi'))",
    "a meter ipmi reads the BMC of the wake driver ipmi: add one under spec.wake, last if others are to wake the nodes"
), validation = (
    "self.suspend.method != 'PowerOff' || !has(self.wake) || size(self.wake) == 0 || self.wake.exists(way, way.driver != 'wol')",
    "give a class whose method is PowerOff a wake driver besides wol, such as redfish: only a BMC can tell that a node is off"
))]
#[serde(rename_all = "camelCase")]
pub struct NodePowerClassSpec {
    /// Which nodes. A node that two classes select belongs to neither, and both say so.
    #[schemars(schema_with = "schema::narrowing_label_selector")]
    pub node_selector: LabelSelector,
    /// What the nodes are for: Shared nodes have much memory and hold idle VMs, more vCPUs than cores; Dedicated nodes
    /// have a core for every vCPU and hold busy VMs.
    pub role: Role,
    /// How much of a node VMs may use; what is unset follows the node's allocatable.
    #[serde(default, skip_serializing_if = "Capacity::is_unset")]
    pub capacity: Capacity,
    /// How many VMs a node may hold; unlimited by default.
    #[serde(rename = "maxVMs", default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_vms: Option<u32>,
    /// What a node draws and how long it takes to sleep and wake.
    #[serde(default)]
    pub power: Power,
    /// How a node sleeps.
    #[serde(default)]
    pub suspend: Suspend,
    /// How a node is woken, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["driver"]))]
    pub wake: Vec<WakeDriver>,
    /// When nodes show that they wake.
    #[serde(default, skip_serializing_if = "WakeTests::is_unset")]
    pub wake_test: WakeTests,
    /// When a woken node counts as usable, besides being Ready.
    #[serde(default, skip_serializing_if = "ReadyWhen::is_unset")]
    pub ready_when: ReadyWhen,
}

/// What nodes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Role {
    /// For idle VMs.
    Shared,
    /// For busy VMs.
    Dedicated,
}

/// How much of a node VMs may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// CPU for VMs, such as 12 or 11500m; never more than the node's allocatable.
    #[serde(default, deserialize_with = "schema::read_quantity", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantity")]
    pub cpu: Option<Quantity>,
    /// Memory for VMs, such as 96Gi; never more than the node's allocatable.
    #[serde(default, deserialize_with = "schema::read_quantity", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantity")]
    pub memory: Option<Quantity>,
}

impl Capacity {
    fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// How a node sleeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Suspend {
    /// S3 is suspend to RAM, back in seconds. PowerOff is an orderly shutdown, for servers without S3: minutes to wake.
    /// A node counts as off only when its BMC says so, so PowerOff needs a driver that can read: redfish, ipmi or amt.
    #[serde(default)]
    pub method: SuspendMethod,
    /// DaemonSets that serve only their own node and may sleep with it, as namespace/name, besides the usual ones that
    /// Miyako knows. A storage data plane keeps its node awake whatever is written here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::namespaced_names")]
    pub ignore_daemon_sets: Vec<String>,
    /// Static pods that serve only their own node and may sleep with it, as namespace/name without the node's name,
    /// besides the usual ones that Miyako knows. A part of the control plane, such as etcd, keeps its node awake whatever
    /// is written here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::namespaced_names")]
    pub ignore_static_pods: Vec<String>,
    /// Keys of taints that controllers put on a node while it sleeps and take away once it is back, besides the usual
    /// ones that Miyako knows. They keep no pod and no VM from waking the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::taint_keys")]
    pub ignore_taints: Vec<String>,
    /// How many nodes of the class may sleep at once; unlimited by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub max_nodes_asleep: Option<u32>,
    /// How long a node sleeps at most: up to a tenth before, it is woken for patches, its clock and its certificates, and
    /// stays awake for the policy's sleep.leastAwake. Nodes of a class take turns. If nobody wakes it, its own clock does
    /// an hour later, or after its agent's longest sleep (the chart's agent.power.longestSleep) where that is shorter.
    #[serde(default = "seven_days")]
    #[schemars(schema_with = "schema::interval")]
    pub max_asleep: Duration,
}

impl Default for Suspend {
    fn default() -> Self {
        Self {
            method: SuspendMethod::default(),
            ignore_daemon_sets: Vec::new(),
            ignore_static_pods: Vec::new(),
            ignore_taints: Vec::new(),
            max_nodes_asleep: None,
            max_asleep: seven_days(),
        }
    }
}

fn seven_days() -> Duration {
    Duration::from("168h")
}

/// How a node sleeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SuspendMethod {
    /// Suspend to RAM.
    #[default]
    S3,
    /// An orderly shutdown, on again by the BMC.
    PowerOff,
}

/// One way to wake a node.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = (
        "self.driver == 'wol' || self.address.matches('^((?i:https?)://)?(([A-Za-z0-9._-]|[{]node[}]|[{]label:[A-Za-z0-9._/-]+[}])+|\\\\[([0-9A-Fa-f:.]|[{]node[}]|[{]label:[A-Za-z0-9._/-]+[}])+(%[A-Za-z0-9._~-]+)?\\\\])(:([0-9]+|[{][^}]*[}]))?(/([A-Za-z0-9._~:%@+=,/-]|[{]node[}]|[{]label:[A-Za-z0-9._/-]+[}])*)?$') || self.address.matches('^((?i:https?)://)?[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(%[^/]*)?(/.*)?$')",
        "write an address of letters, digits and . : / - with the placeholders {node} and {label:KEY}, such as {node}.bmc.example.org"
    ),
    validation = (
        "self.driver == 'wol' || !self.address.matches('^((?i:https?)://)?[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(%[^/]*)?(/.*)?$')",
        "put an IPv6 address into brackets, such as https://[2001:db8::482]"
    ),
    validation = (
        "self.driver != 'redfish' || (!self.address.matches('^(?i:http):') && (!has(self.nodes) || self.nodes.all(own, !has(own.address) || !own.address.matches('^(?i:http):'))))",
        "write a Redfish address as https://HOST, such as https://{node}.bmc.example.org"
    ),
    validation = (
        "self.driver != 'ipmi' || (!self.address.matches('^([^{}/]|[{][^}]*[}])*/') && (!has(self.nodes) || self.nodes.all(own, !has(own.address) || !own.address.matches('^([^{}/]|[{][^}]*[}])*/'))))",
        "write an IPMI address as HOST or HOST:PORT, without https:// and without a path, such as {node}.bmc.example.org"
    ),
    validation = (
        "self.driver != 'amt' || (!self.address.matches('^((?i:https?)://)?([^{}/]|[{][^}]*[}])*/[^/]') && (!has(self.nodes) || self.nodes.all(own, !has(own.address) || !own.address.matches('^((?i:https?)://)?([^{}/]|[{][^}]*[}])*/[^/]'))))",
        "write an AMT address without a path, such as {node}.amt.example.org or https://HOST:16993"
    ),
    validation = (
        "self.driver != 'wol' || ((self.address.matches('^[0-9A-Fa-f][02468ACEace]((:[0-9A-Fa-f]{2}){5}|(-[0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{10})$') && !self.address.matches('^[0:-]*$')) || self.address.matches('^[{]label:[A-Za-z0-9._/-]+[}]$'))",
        "write a Wake-on-LAN address as a MAC address, or as {label:KEY} of a node label that holds one"
    ),
    validation = (
        "self.driver != 'wol' || !has(self.nodes) || self.nodes.all(own, !has(own.address) || (own.address.matches('^[0-9A-Fa-f][02468ACEace]((:[0-9A-Fa-f]{2}){5}|(-[0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{10})$') && !own.address.matches('^[0:-]*$')) || own.address.matches('^[{]label:[A-Za-z0-9._/-]+[}]$'))",
        "write a node's own Wake-on-LAN address as a MAC address, or as {label:KEY} of a node label that holds one"
    ),
    validation = (
        "self.driver in ['amt', 'redfish'] || !has(self.nodes) || self.nodes.all(own, !has(own.certificateSha256))",
        "give a node's certificateSha256 to amt and redfish only"
    ),
    validation = (
        "self.driver == 'wol' || has(self.secretRef)",
        "give a secretRef with the BMC's user name and password to amt, redfish and ipmi"
    ),
    validation = (
        "self.driver == 'wol' || !has(self.broadcast)",
        "give broadcast to wol only"
    ),
    validation = (
        "self.driver in ['amt', 'redfish'] || !has(self.tls)",
        "give tls to amt and redfish only"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct WakeDriver {
    /// The protocol.
    pub driver: WakeProtocol,
    /// Where it is spoken to; {node} stands for the node's name and {label:KEY} for the value of one of its labels.
    #[schemars(length(min = 1, max = 253))]
    pub address: String,
    /// The Secret with the keys username and password; for wol, if the cards have one, with the key secureOn: the
    /// SecureOn password, four or six bytes in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "secret_reference")]
    pub secret_ref: Option<SecretReference>,
    /// Nodes with an address or a certificate of their own; all others follow address and tls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub nodes: Vec<WakeAddress>,
    /// Whose certificates are trusted, for redfish and amt. Nobody's unless written here: the system's CAs never count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<WakeTls>,
    /// Where wol sends its packets: the IPv4 broadcast address of the nodes' segment, with or without a port. By default
    /// 255.255.255.255:9, which reaches the sender's own segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "broadcast")]
    pub broadcast: Option<String>,
}

/// One node's own way to be spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WakeAddress {
    /// The node.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its address, if it is not the one of the pattern. Placeholders work here too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "address")]
    pub address: Option<String>,
    /// The SHA-256 of its certificate, if it has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "fingerprint")]
    pub certificate_sha256: Option<String>,
}

/// Whose certificates are trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WakeTls {
    /// SHA-256 fingerprints of certificates that are trusted whatever names they carry and whoever signed them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "fingerprints")]
    pub certificate_sha256: Vec<String>,
    /// CA certificates in PEM; what they signed is trusted for the names it carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65_536))]
    pub ca_certificates: Option<String>,
    /// The newest version of TLS to speak. Some firmware fails with 1.3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_version: Option<WakeTlsVersion>,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WakeTlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// How a BMC or network card is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WakeProtocol {
    /// Intel Active Management Technology.
    Amt,
    /// DMTF Redfish.
    Redfish,
    /// IPMI over LAN.
    Ipmi,
    /// Wake-on-LAN, sent by any agent of the segment.
    Wol,
}

/// A node's own address. The API server estimates what these rules cost for all nodes of a class before it takes the
/// definition, by the length of each pattern: so each is short, and what placeholders look like is a rule of its own.
fn address(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 253,
        "x-kubernetes-validations": [
            {
                "rule": "self.matches('(?i)^(https?://)?(([0-9a-z_.-]|[{][^{}]*})+|\\\\[([0-9a-f:.]|[{][^{}]*})+(%[^/\\\\]]+)?\\\\])(:([0-9]+|[{][^{}]*}))?(/([0-9a-z_.~:%@+=,/-]|[{][^{}]*})*)?$') || self.matches('(?i)^(https?://)?[0-9a-f.]*:[0-9a-f.]*:')",
                "message": "write an address of letters, digits and . : / - with the placeholders {node} and {label:KEY}, such as 10.0.0.7",
            },
            {
                "rule": "!self.matches('(?i)^(https?://)?[0-9a-f.]*:[0-9a-f.]*:') || self.matches('^[0-9A-Fa-f][02468ACEace]((:[0-9A-Fa-f]{2}){5}|(-[0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{10})$')",
                "message": "put a node's own IPv6 address into brackets, such as https://[2001:db8::482]",
            },
            {
                "rule": "!self.contains('{') || self.matches('^([^{}]|[{]node[}]|[{]label:[A-Za-z0-9._/-]+[}])*$')",
                "message": "write an address of letters, digits and . : / - with the placeholders {node} and {label:KEY}, such as 10.0.0.7",
            },
        ],
    })
}

fn broadcast(_: &mut SchemaGenerator) -> Schema {
    schema::text(
        21,
        "self.matches('^(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])([.](25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3}(:(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}))?$')",
        "write an IPv4 broadcast address with or without a port, such as 192.0.2.255 or 192.0.2.255:9",
    )
}

fn fingerprint(_: &mut SchemaGenerator) -> Schema {
    schema::text(
        95,
        "self.matches('^[0-9A-Fa-f]{2}(:?[0-9A-Fa-f]{2}){31}$')",
        "write a SHA-256 fingerprint as 64 hex digits, with or without colons",
    )
}

fn fingerprints(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "x-kubernetes-list-type": "set",
        "items": fingerprint(generator),
    })
}

/// The schema of a reference to a Secret by namespace and name.
pub(crate) fn secret_reference(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["name", "namespace"],
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "name": {
                "description": "The Secret.",
                "type": "string",
                "minLength": 1,
                "maxLength": 253,
            },
            "namespace": {
                "description": "Its namespace.",
                "type": "string",
                "minLength": 1,
                "maxLength": 63,
            },
        },
    })
}

/// When nodes show that they wake. No node sleeps by policy before it has; one that comes back when it is asked to shows
/// it by that, so that a node which sleeps now and then needs no other test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WakeTests {
    /// How old the proof may be: a node whose proof is older is tested again before it sleeps.
    #[serde(default = "thirty_days")]
    #[schemars(schema_with = "schema::interval")]
    pub every: Duration,
    /// Who starts a test. Policy: the class's policy does, when nothing needs the node, one node of a rack after the
    /// other; in Recommend mode each test waits for approval. Request: only `miyako wake-test` does.
    #[serde(default)]
    pub start: WakeTestStart,
}

impl Default for WakeTests {
    fn default() -> Self {
        Self { every: thirty_days(), start: WakeTestStart::default() }
    }
}

impl WakeTests {
    fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

fn thirty_days() -> Duration {
    Duration::from("720h")
}

/// Who starts a wake test.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum WakeTestStart {
    /// The class's policy, and people.
    #[default]
    Policy,
    /// People alone.
    Request,
}

/// When a woken node counts as usable, besides being Ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReadyWhen {
    /// Types of node conditions that must be True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 316)), extend("x-kubernetes-list-type" = "set"))]
    pub conditions: Vec<String>,
    /// DaemonSets whose pod on the node must be ready, as namespace/name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::namespaced_names")]
    pub daemon_sets: Vec<String>,
}

impl ReadyWhen {
    fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// What Miyako made of a class.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePowerClassStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Conflict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// How many nodes it selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u32>,
    /// The policy that rules it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub policy: Option<String>,
    /// Some of the nodes that other classes select too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub conflicts: Vec<ClassConflict>,
    /// What its nodes drew and saved since their NodePowers exist. Written with other news, and every five minutes while
    /// nodes sleep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<Energy>,
}

/// A node that several classes select.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClassConflict {
    /// The node.
    #[schemars(length(max = 253))]
    pub node: String,
    /// The other classes.
    #[schemars(length(max = 8), inner(length(max = 253)), extend("x-kubernetes-list-type" = "atomic"))]
    pub classes: Vec<String>,
}
