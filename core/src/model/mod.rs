//! The cluster as plain values: what the planner may know, in the field's own words.
//!
//! Nothing here talks to a cluster. The edges (`observe`, the simulator, tests) build these values and
//! everything inside trusts them: bytes are bytes, loads are finite and not negative, names are not mixed up.

mod blocker;
mod class_index;
mod health_check;
mod history;
mod hold;
mod known_pods;
mod kubevirt;
mod load;
mod lookup;
mod migration;
mod names;
mod neighbour;
mod node;
mod pod;
mod policy;
mod power;
mod proposal;
mod selector;
mod sleep;
mod snapshot;
mod step;
mod time;
mod units;
mod vm;
mod wake_way;

pub use blocker::Blocker;
pub(crate) use class_index::{ClassIndex, rulers};
pub use health_check::{HealthCheck, RepairsWhile, Share};
pub use history::{MoveFailure, MoveHistory, VmMoves};
pub use hold::{Concern, Hold, HoldKind};
pub use known_pods::{SERVES_ONLY_ITS_NODE, STATIC_PODS_OF_ITS_NODE, STORAGE_DATA_PLANES};
pub use kubevirt::{KubeVirt, KubeVirtProblem};
pub use load::{LoadHistory, LoadTable, WindowAverage};
pub(crate) use lookup::{ByName, Lookup};
pub use migration::{Migration, MigrationMode, MigrationPhase, TakenBack, TargetTrouble};
pub use names::{ClassName, MigrationName, Name, NodeName, PlanName, PodKey, PolicyName, Uid, VmKey};
pub use neighbour::Neighbour;
pub use node::{Node, PowerState, Taint, TaintEffect};
pub use pod::{
    Pod, PodAffinityTerm, PodOwner, PodPhase, Resources, Scheduling, SpreadConstraint, Toleration, TolerationOperator,
};
pub use policy::{
    Budgets, Capacity, DestinationOrder, Meter, MigrationChoice, NodeClass, Policies, Policy, PolicyMode, PostCopyUse,
    PowerFigures, Profile, Role, Thresholds, VmSelector,
};
pub use power::{
    AgentWord, Ask, Desired, NoAgent, NodeCondition, NodeMarks, Order, Pace, PowerRecord, Purpose, RecordedEnergy,
    Request, Restless, Wakeable, WakerOutcome, WakerWord,
};
pub use proposal::{PlanPhase, PlanRecord, RecordedStep, Refusal, StepOutcome, SuspendReason};
pub use selector::{Labels, NodeSelector, NodeSelectorTerm, Operator, Requirement, Selector};
pub use sleep::{ClassSleep, PastWake, PowerHistory, SleepMethod, SleepRules, WakeTests};
pub use snapshot::{Namespace, Quota, Snapshot, Switches};
pub use step::{MigrateStep, MoveKind, MoveReason, Plan, Step, SuspendStep, WakeKind, WakeReason, WakeStep};
pub use time::{Span, Timestamp};
pub use units::{Bytes, BytesPerSecond, Cores, Joules, MilliCpu, Percent, Seconds, UnitError, Watts};
pub use vm::{AppliedPolicy, LastMigration, Marks, PostCopyMark, Unsupported, Vm, VmActivity};
pub use wake_way::{WakeAddress, WakeWay};
