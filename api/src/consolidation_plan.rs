//! ConsolidationPlan (`cplan`): one object per plan that does, or would do, something, written before it is carried
//! out. Its name is a digest of its content, so the same wish makes no second object.

#![allow(unreachable_pub, reason = "KubeSchema puts a copy of each struct into the function that makes its schema")]
#![allow(clippy::duplicated_attributes, reason = "two columns may be of the same type")]

mod status;

pub use status::{ConsolidationPlanStatus, PlanPhase, StepPhase, StepStatus};

use crate::consolidation_policy::Mode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is to be done and why. Immutable but for the approval.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "miyako.dev",
    version = "v1alpha1",
    kind = "ConsolidationPlan",
    plural = "consolidationplans",
    shortname = "cplan",
    category = "miyako",
    status = "ConsolidationPlanStatus",
    derive = "PartialEq",
    doc = "A plan of a ConsolidationPolicy: its steps, its reason and its outcome. Written by Miyako; people set only spec.approved and spec.approvedBy.",
    validation = (
        "size(self.metadata.name) <= 63",
        "give the plan a name of at most 63 characters: it becomes the value of a label"
    ),
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policy"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Approved", type_ = "boolean", json_path = ".spec.approved"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.createdFor"),
    printcolumn(name = "Steps", type_ = "string", json_path = ".spec.summary"),
    printcolumn(name = "Approved by", type_ = "string", json_path = ".spec.approvedBy", priority = 1),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = (
        "self.policy == oldSelf.policy && self.mode == oldSelf.mode && self.createdFor == oldSelf.createdFor && self.summary == oldSelf.summary && self.decidedAt == oldSelf.decidedAt && self.expiresAt == oldSelf.expiresAt",
        "a ConsolidationPlan is a record: change only approved and approvedBy"
    ),
    validation = (
        "self.steps == oldSelf.steps",
        "the steps of a ConsolidationPlan are a record: to get other steps, change the ConsolidationPolicy"
    ),
    validation = (
        "!oldSelf.approved || self.approved",
        "an approval can't be taken back: delete the ConsolidationPlan instead"
    ),
    validation = (
        "!oldSelf.approved || (has(self.approvedBy) == has(oldSelf.approvedBy) && (!has(self.approvedBy) || self.approvedBy == oldSelf.approvedBy))",
        "the ConsolidationPlan is approved already: leave approvedBy as it is"
    ),
    validation = (
        "!self.approved || (has(self.approvedBy) && size(self.approvedBy) > 0)",
        "write who approves into approvedBy: your own user name"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ConsolidationPlanSpec {
    /// The ConsolidationPolicy it serves.
    #[schemars(length(min = 1, max = 63))]
    pub policy: String,
    /// The policy's mode when it was decided: in Recommend it waits for approval.
    pub mode: Mode,
    /// What it is for, in a few words.
    #[schemars(length(max = 256))]
    pub created_for: String,
    /// What it does, in a few words.
    #[schemars(length(max = 256))]
    pub summary: String,
    /// What it does, in order.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub steps: Vec<PlanStep>,
    /// When it was decided.
    pub decided_at: Time,
    /// When it is void unless begun.
    pub expires_at: Time,
    /// Carry it out.
    #[serde(default)]
    pub approved: bool,
    /// Who approved it; admission holds this to the requester's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub approved_by: Option<String>,
}

/// One step of a plan.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = (
    "self.type != 'Migrate' || (has(self.vm) && has(self.sourceNode) && has(self.migrationMode) && has(self.migrationName))",
    "a step of type Migrate needs vm, sourceNode, migrationMode and migrationName"
))]
#[serde(rename_all = "camelCase")]
pub struct PlanStep {
    /// What is done.
    #[serde(rename = "type")]
    pub kind: StepKind,
    /// The VM that is moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<VmReference>,
    /// The pending pod for which a node is woken. If it does not go there, other nodes are tried first from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodReference>,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub source_node: Option<String>,
    /// To where; of a Wake or Suspend step, the node that is woken or suspended.
    #[schemars(length(min = 1, max = 253))]
    pub target_node: String,
    /// How.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_mode: Option<MigrationMode>,
    /// The VirtualMachineInstanceMigration that carries it out, in the VM's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub migration_name: Option<String>,
    /// Which try this is since the VM's last migration.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub attempt: u32,
    /// Why, as a name.
    #[schemars(length(min = 1, max = 64))]
    pub reason: String,
    /// Why, as a sentence.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// How loaded the source was, in percent of its CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub source_load_percent: Option<u32>,
    /// How much the VM used, in thousandths of a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub vm_load_millicores: Option<u32>,
    /// Since when the VM has been idle, if it moves for that: the order of admission to shared nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<Time>,
    /// What the step is expected to cost and to bring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Prediction>,
    /// What a Suspend step rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<SuspendProof>,
}

/// What a suspend rests on, as it was when the plan was decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuspendProof {
    /// Since when nothing has needed the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_since: Option<Time>,
    /// When it last showed that it wakes; absent where that is what the suspend is to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake_tested_at: Option<Time>,
    /// Usable nodes of the policy that stay awake.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub awake_nodes: u32,
    /// Of those, dedicated nodes without any VM.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub spare_nodes: u32,
    /// That the VMs of nodes that fail still fit on those that stay awake; absent where the policy's
    /// keepAwake.failures is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<FailoverProof>,
}

/// Failures that were tried out on the nodes that stay awake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverProof {
    /// So many nodes were taken to fail together.
    #[schemars(range(min = 1, max = 100))]
    pub failures: u32,
    /// The node label within one value of which they fail.
    #[schemars(length(max = 317))]
    pub per: String,
    /// So many failures were tried.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub tried: u32,
    /// The nodes of the failure that takes the most VMs with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 253)), extend("x-kubernetes-list-type" = "atomic"))]
    pub worst_nodes: Vec<String>,
    /// The VMs of those nodes.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub worst_vms: u32,
    /// VMs that one of the failures leaves without a place whether or not the node sleeps.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub homeless_vms: u32,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum StepKind {
    /// Moves a VM.
    Migrate,
    /// Wakes a node.
    Wake,
    /// Suspends a node.
    Suspend,
}

/// How a VM is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum MigrationMode {
    /// Memory first, then the switch of hosts.
    PreCopy,
    /// The switch as early as KubeVirt can, then memory.
    PostCopy,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodReference {
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its uid: another pod of the same name is not meant.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// A VirtualMachineInstance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VmReference {
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its uid: another VM of the same name is not meant.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// What a step is expected to cost and to bring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prediction {
    /// The source's load afterwards, in percent of its CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub source_load_percent: Option<u32>,
    /// The target's load afterwards, in percent of its CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub target_load_percent: Option<u32>,
    /// How long the migration takes, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub duration_millis: Option<i64>,
}
