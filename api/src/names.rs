//! Names that people and other programs see: labels, annotations, field managers, condition types and reasons.
//!
//! A name that is written in two places is a name that will differ one day, so all of them live here.

/// The API group of our own resources.
pub const GROUP: &str = "miyako.dev";

/// The only served version of our own resources.
pub const VERSION: &str = "v1alpha1";

/// `kubectl get miyako` lists everything of ours.
pub const CATEGORY: &str = "miyako";

/// What people write on VirtualMachines, VirtualMachineInstances and Nodes.
pub mod marks {
    /// On a VirtualMachine or VirtualMachineInstance (label or annotation): `never` leaves the VM alone.
    pub const CONSOLIDATE: &str = "miyako.dev/consolidate";
    /// The value of [`CONSOLIDATE`] and [`POST_COPY`] that forbids.
    pub const NEVER: &str = "never";
    /// On a VirtualMachine or VirtualMachineInstance (label or annotation): `allow` or `never` use post-copy.
    pub const POST_COPY: &str = "miyako.dev/post-copy";
    /// The value of [`POST_COPY`] that allows it where the policy asks for an opt-in.
    pub const ALLOW: &str = "allow";
    /// On a Node (label): nodes with the same value have the same processor. For VMs that see their host's own
    /// (`host-passthrough`) where KubeVirt does not describe it, as on arm64.
    pub const CPU: &str = "miyako.dev/cpu";
    /// On a Node (annotation): the reason why this node must stay awake.
    pub const KEEP_AWAKE: &str = "miyako.dev/keep-awake";
    /// The descheduler's mark on a pod or VM that should rather not be moved; honoured like [`CONSOLIDATE`]`: never`.
    pub const PREFER_NO_EVICTION: &str = "descheduler.alpha.kubernetes.io/prefer-no-eviction";
}

/// Labels and annotations that Miyako writes.
pub mod ours {
    /// On a VMI (label): how its next migration moves it; our MigrationPolicies select by it. The one thing the
    /// operator may change of a VMI.
    pub const MIGRATION_MODE: &str = "miyako.dev/migration-mode";
    /// The value of [`MIGRATION_MODE`] for post-copy.
    pub const POST_COPY: &str = "post-copy";
    /// The value of [`MIGRATION_MODE`] for pre-copy.
    pub const PRE_COPY: &str = "pre-copy";
    /// On a VirtualMachineInstanceMigration (label): the ConsolidationPlan whose step it carries out.
    pub const PLAN: &str = "miyako.dev/plan";
    /// On a VirtualMachineInstanceMigration, MigrationPolicy or ConsolidationPlan (label): the policy it serves.
    pub const POLICY: &str = "miyako.dev/policy";
    /// On everything of ours (label): who manages it.
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// The value of [`MANAGED_BY`].
    pub const MIYAKO: &str = "miyako";
    /// The label selector that finds everything of ours.
    pub const SELECTOR: &str = "app.kubernetes.io/managed-by=miyako";
    /// Our MigrationPolicy for post-copy.
    pub const POST_COPY_POLICY: &str = "miyako-post-copy";
    /// Our MigrationPolicy for pre-copy.
    pub const PRE_COPY_POLICY: &str = "miyako-pre-copy";
    /// The ConfigMap through which `miyako pause`, `hold` and `resume` speak to the operator.
    pub const SWITCHES: &str = "miyako-switches";
    /// On that ConfigMap: `miyako resume` turned the switches off, and when. One without it that is new turns nothing off.
    pub const RESUMED: &str = "miyako.dev/resumed";
    /// The Lease of the leading operator.
    pub const LEASE: &str = "miyako-operator";
    /// On a Node (taint and label): it is being emptied, asleep or quarantined.
    pub const POWER: &str = "miyako.dev/power";
    /// On a Node (annotation): which of the other labels are ours, so that a person's are left as they were.
    pub const OWN_LABELS: &str = "miyako.dev/own-labels";
    /// On a NodePower (annotation): what a person asks for: `wake`, `suspend` or `wake-test`, then who and when.
    pub const REQUEST: &str = "miyako.dev/request";
    /// On a NodePower (annotation): what became of the last request.
    pub const ANSWER: &str = "miyako.dev/answer";
    /// On a Secret (annotation): the hosts that the account in it may be shown to, such as `*.bmc.example.org`.
    pub const ALLOWED_HOSTS: &str = "miyako.dev/allowed-hosts";
}

/// Field managers of our server-side applies: one per writer and concern, so that none takes back another's fields.
pub mod manager {
    /// The operator's writes of plans, orders and MigrationPolicies.
    pub const OPERATOR: &str = "miyako-operator";
    /// The operator's writes of status.
    pub const STATUS: &str = "miyako-operator-status";
    /// The operator's label on VMIs.
    pub const MIGRATION_MODE: &str = "miyako-migration-mode";
    /// An agent's writes of `NodePower.status.agent`.
    pub const AGENT: &str = "miyako-agent";
    /// The operator's taint, labels and condition on Nodes.
    pub const NODE_POWER: &str = "miyako-node-power";
    /// The command line (`pause`, `hold`, `resume`).
    pub const CLI: &str = "miyako-cli";
    /// The `reportingComponent` of our Events.
    pub const EVENTS: &str = "miyako.dev/operator";
}

/// Labels and annotations of KubeVirt that we read.
pub mod kubevirt {
    /// On a Node (label): virt-handler is alive there and VMs may come.
    pub const SCHEDULABLE: &str = "kubevirt.io/schedulable";
    /// On a Node (annotation): virt-handler's last heartbeat.
    pub const HEARTBEAT: &str = "kubevirt.io/heartbeat";
    /// On a launcher pod (label): `virt-launcher`.
    pub const APP: &str = "kubevirt.io";
    /// The value of [`APP`] on launcher pods.
    pub const LAUNCHER: &str = "virt-launcher";
    /// The value of [`APP`] on virt-handler pods.
    pub const HANDLER: &str = "virt-handler";
    /// On a launcher pod (label): the VMI's uid.
    pub const CREATED_BY: &str = "kubevirt.io/created-by";
    /// On a launcher pod (annotation): the VMI's name.
    pub const DOMAIN: &str = "kubevirt.io/domain";
    /// On a launcher pod (label): the VMI's name.
    pub const DOMAIN_NAME: &str = "vm.kubevirt.io/name";
    /// On a VMI (label): the node it runs on.
    pub const NODE_NAME: &str = "kubevirt.io/nodeName";
    /// On a migration's target pod (label): the migration's uid.
    pub const MIGRATION_JOB_UID: &str = "kubevirt.io/migrationJobUID";
    /// On a migration's target pod (annotation): the migration's name.
    pub const MIGRATION_JOB_NAME: &str = "kubevirt.io/migrationJobName";
    /// On a VMI (label): the target node of the migration that runs.
    pub const MIGRATION_TARGET_NODE: &str = "kubevirt.io/migrationTargetNodeName";
    /// On a VirtualMachineInstanceMigration (label, set by virt-api): the VMI's name.
    pub const VMI_NAME: &str = "kubevirt.io/vmi-name";
    /// The finalizer that virt-api puts on a new VirtualMachineInstanceMigration.
    pub const MIGRATION_FINALIZER: &str = "kubevirt.io/migrationJobFinalize";
    /// On a VirtualMachineInstanceMigration (annotation): it evacuates a node.
    pub const EVACUATION_MIGRATION: &str = "kubevirt.io/evacuationMigration";
    /// On a VirtualMachineInstanceMigration (annotation): it brings a new launcher image.
    pub const WORKLOAD_UPDATE_MIGRATION: &str = "kubevirt.io/workloadUpdateMigration";
    /// On a VMI or migration (annotation): who asked for the eviction.
    pub const EVICTION_SOURCE: &str = "kubevirt.io/eviction-source";
    /// On a VirtualMachineInstanceMigration (annotation): seconds an unschedulable target may wait (300 by default).
    pub const UNSCHEDULABLE_TIMEOUT: &str = "kubevirt.io/migrationUnschedulablePodTimeoutSeconds";
    /// On a launcher pod (annotation): what QEMU and KubeVirt need beside the guest's memory.
    pub const MEMORY_OVERHEAD: &str = "kubevirt.io/memory-overhead-bytes";
    /// On a Node (label prefix): a CPU model that the node offers.
    pub const CPU_MODEL_PREFIX: &str = "cpu-model.node.kubevirt.io/";
    /// On a Node (label prefix): a CPU model that the node takes as a migration target.
    pub const CPU_MODEL_MIGRATION_PREFIX: &str = "cpu-model-migration.node.kubevirt.io/";
    /// On a Node (label prefix): a CPU feature that the node offers.
    pub const CPU_FEATURE_PREFIX: &str = "cpu-feature.node.kubevirt.io/";
    /// On a Node (label prefix): the CPU's vendor.
    pub const CPU_VENDOR_PREFIX: &str = "cpu-vendor.node.kubevirt.io/";
    /// On a Node (label prefix): a feature of its own CPU, for host-model VMs.
    pub const HOST_MODEL_REQUIRED_PREFIX: &str = "host-model-required-features.node.kubevirt.io/";
    /// On a Node (label prefix): its own CPU's model.
    pub const HOST_MODEL_CPU_PREFIX: &str = "host-model-cpu.node.kubevirt.io/";
    /// On a Node (label): its CPU's model is one that host-model VMs do not start on.
    pub const HOST_MODEL_OBSOLETE: &str = "node-labeller.kubevirt.io/obsolete-host-model";
    /// On a Node (label prefix): a machine type that the node offers.
    pub const MACHINE_TYPE_PREFIX: &str = "machine-type.node.kubevirt.io/";
    /// On a Node (label): the kubelet's CPU manager is on, so dedicated CPUs can be had.
    pub const CPU_MANAGER: &str = "cpumanager";
    /// The taint key that evacuates a node's VMs by default.
    pub const DRAIN_TAINT: &str = "kubevirt.io/drain";
    /// The reason of the Event that tells that no node takes a migration's target pod.
    pub const TARGET_UNSCHEDULABLE: &str = "migrationTargetPodUnschedulable";
    /// The first version with `addedNodeSelector`, as (major, minor).
    pub const MIN_VERSION: (u32, u32) = (1, 6);
    /// Migrations of one VM per day at which KubeVirt's alert `KubeVirtVMIExcessiveMigrations` fires.
    pub const EXCESSIVE_MIGRATIONS_PER_DAY: u32 = 12;
    /// `parallelMigrationsPerCluster` where the KubeVirt CR is silent.
    pub const PARALLEL_MIGRATIONS_PER_CLUSTER: u32 = 5;
    /// `parallelOutboundMigrationsPerNode` where the KubeVirt CR is silent.
    pub const PARALLEL_OUTBOUND_MIGRATIONS_PER_NODE: u32 = 2;
}

/// The descheduler's annotations.
pub mod descheduler {
    /// Evict this pod even if the descheduler's filters would spare it.
    pub const EVICT: &str = "descheduler.alpha.kubernetes.io/evict";
    /// Rather do not evict this pod.
    pub const PREFER_NO_EVICTION: &str = super::marks::PREFER_NO_EVICTION;
    /// The pod's owner moves it when asked to evict (KubeVirt's launchers say so).
    pub const REQUEST_EVICT_ONLY: &str = "descheduler.alpha.kubernetes.io/request-evict-only";
    /// An eviction was asked for and is being carried out.
    pub const EVICTION_IN_PROGRESS: &str = "descheduler.alpha.kubernetes.io/eviction-in-progress";
}

/// Labels, annotations and taints of Kubernetes and its ecosystem.
pub mod kubernetes {
    /// A Node's host name, by which a migration's target is chosen.
    pub const HOSTNAME: &str = "kubernetes.io/hostname";
    /// A Node's processor architecture.
    pub const ARCHITECTURE: &str = "kubernetes.io/arch";
    /// On a Node (label): left out when the node controller counts how much of a zone is down.
    pub const EXCLUDE_DISRUPTION: &str = "node.kubernetes.io/exclude-disruption";
    /// On a Node (label): medik8s' remediators leave it alone.
    pub const EXCLUDE_REMEDIATION: &str = "remediation.medik8s.io/exclude-from-remediation";
    /// A Node's zone.
    pub const ZONE: &str = "topology.kubernetes.io/zone";
    /// A Node's region.
    pub const REGION: &str = "topology.kubernetes.io/region";
    /// A Namespace's name as a label.
    pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
    /// On control-plane Nodes of most clusters; [`crate::control_plane`] knows the others.
    pub const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
    /// On a mirror pod (annotation): the kubelet started it from a file.
    pub const MIRROR_POD: &str = "kubernetes.io/config.mirror";
}

/// Types of our conditions (`status.conditions[].type`).
pub mod condition {
    /// All is well: the object is understood and served.
    pub const READY: &str = "Ready";
    /// It is served, but not as well as it could be; the message says what is missing.
    pub const DEGRADED: &str = "Degraded";
    /// `miyako pause`: no new move, no suspend.
    pub const PAUSED: &str = "Paused";
    /// `miyako hold`, or an upgrade or backup of `holdWhen`: everything awake, nothing moves.
    pub const HELD: &str = "Held";
    /// Load is known for (almost) all VMs and nodes.
    pub const LOAD_KNOWN: &str = "LoadKnown";
    /// Another policy, or another class, claims the same.
    pub const CONFLICT: &str = "Conflict";
    /// A NodeHealthCheck counts sleeping nodes as broken ones, or a MachineHealthCheck would replace their machines.
    pub const SLEEPERS_COUNTED: &str = "SleepersCounted";
    /// Shared nodes stay overloaded because no VM on them can be moved.
    pub const NODES_STUCK: &str = "NodesStuck";
    /// A ConsolidationPlan waits for, or has, its approval.
    pub const APPROVED: &str = "Approved";
    /// A ConsolidationPlan is over.
    pub const COMPLETE: &str = "Complete";
}

/// Reasons of our conditions and Events.
pub mod reason {
    /// Served.
    pub const SERVED: &str = "Served";
    /// `mode: Off`.
    pub const MODE_OFF: &str = "ModeOff";
    /// The spec contradicts itself; the message names the field.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// A class of the policy does not exist.
    pub const UNKNOWN_CLASS: &str = "UnknownClass";
    /// Another policy with a higher priority or an earlier name has the class.
    pub const CLASS_TAKEN: &str = "ClassTaken";
    /// A node is selected by two classes.
    pub const NODE_IN_TWO_CLASSES: &str = "NodeInTwoClasses";
    /// The selector selects nothing.
    pub const SELECTS_NOTHING: &str = "SelectsNothing";
    /// A NodeHealthCheck's selector does not leave sleeping nodes out.
    pub const NODE_HEALTH_CHECK: &str = "NodeHealthCheck";
    /// A MachineHealthCheck selects machines whose nodes could sleep.
    pub const MACHINE_HEALTH_CHECK: &str = "MachineHealthCheck";
    /// No shared node stays overloaded for want of a VM that can be moved.
    pub const NONE_STUCK: &str = "NoneStuck";
    /// No policy uses the class.
    pub const UNUSED: &str = "Unused";
    /// There is no KubeVirt.
    pub const KUBEVIRT_MISSING: &str = "KubeVirtMissing";
    /// KubeVirt is older than the first version with `addedNodeSelector`.
    pub const KUBEVIRT_TOO_OLD: &str = "KubeVirtTooOld";
    /// KubeVirt is not deployed yet.
    pub const KUBEVIRT_NOT_DEPLOYED: &str = "KubeVirtNotDeployed";
    /// KubeVirt is being upgraded, or virt-handler rolled out.
    pub const KUBEVIRT_UPGRADE: &str = "KubeVirtUpgrade";
    /// The cluster is being upgraded.
    pub const CLUSTER_UPGRADE: &str = "ClusterUpgrade";
    /// A backup runs.
    pub const BACKUP: &str = "Backup";
    /// Outside all of the policy's schedules.
    pub const OUTSIDE_SCHEDULE: &str = "OutsideSchedule";
    /// Agents report load.
    pub const AGENTS: &str = "Agents";
    /// Prometheus reports load.
    pub const PROMETHEUS: &str = "Prometheus";
    /// No source of load answers.
    pub const NO_LOAD: &str = "NoLoad";
    /// The newest samples are too old.
    pub const STALE_LOAD: &str = "StaleLoad";
    /// A descheduler spreads the same VMs.
    pub const DESCHEDULER: &str = "Descheduler";
    /// `miyako pause`.
    pub const PAUSED: &str = "Paused";
    /// `miyako hold`.
    pub const HELD: &str = "Held";
    /// `miyako resume`, or never paused or held.
    pub const RESUMED: &str = "Resumed";
    /// No other policy or class claims the same.
    pub const NO_CONFLICT: &str = "NoConflict";
    /// A user's own MigrationPolicy decides how some VMs move.
    pub const USER_MIGRATION_POLICY: &str = "UserMigrationPolicy";

    /// A node is about to be suspended.
    pub const NODE_EMPTYING: &str = "NodeEmptying";
    /// A node is being suspended.
    pub const NODE_SUSPENDING: &str = "NodeSuspending";
    /// A node sleeps.
    pub const NODE_SUSPENDED: &str = "NodeSuspended";
    /// A node is being woken.
    pub const NODE_WAKING: &str = "NodeWaking";
    /// A node is awake again.
    pub const NODE_AWAKE: &str = "NodeAwake";
    /// A node did not wake.
    pub const NODE_WAKE_FAILED: &str = "NodeWakeFailed";
    /// No waker takes up the order to wake a node.
    pub const WAKER_SILENT: &str = "WakerSilent";
    /// A node slept for a test and woke.
    pub const WAKE_TEST_PASSED: &str = "WakeTestPassed";
    /// A node slept for a test and did not wake.
    pub const WAKE_TEST_FAILED: &str = "WakeTestFailed";
    /// What a person asked of a node was done, or can't be.
    pub const REQUEST_ANSWERED: &str = "RequestAnswered";

    /// A VM is being moved.
    pub const MIGRATING: &str = "Migrating";
    /// A VM was moved.
    pub const MIGRATED: &str = "Migrated";
    /// A move failed.
    pub const MIGRATION_FAILED: &str = "MigrationFailed";
    /// A move was taken back because its target pod found no place.
    pub const TARGET_UNSCHEDULABLE: &str = "TargetUnschedulable";
    /// A move was taken back because a quota refused its target pod.
    pub const QUOTA_REFUSED: &str = "QuotaRefused";
    /// A move was taken back because the API server refused to create its target pod.
    pub const TARGET_NOT_CREATED: &str = "TargetNotCreated";
    /// A MigrationPolicy of ours that somebody changed was replaced.
    pub const MIGRATION_POLICY_MENDED: &str = "MigrationPolicyMended";
    /// A migration of ours has been under way for longer than KubeVirt gives one.
    pub const MIGRATION_STALLED: &str = "MigrationStalled";
    /// KubeVirt applied another MigrationPolicy to a move than the one that was meant.
    pub const MODE_IGNORED: &str = "ModeIgnored";
    /// The API server refuses something that the operator writes; the message holds its answer.
    pub const WRITE_REFUSED: &str = "WriteRefused";
    /// A plan waits for approval.
    pub const PLAN_PROPOSED: &str = "PlanProposed";
    /// A plan was approved.
    pub const PLAN_APPROVED: &str = "PlanApproved";
    /// A plan was not begun in time.
    pub const PLAN_EXPIRED: &str = "PlanExpired";
    /// A newer wish took a plan's place.
    pub const PLAN_SUPERSEDED: &str = "PlanSuperseded";
    /// The check just before acting refused a plan.
    pub const PLAN_REFUSED: &str = "PlanRefused";
    /// A plan is done.
    pub const PLAN_SUCCEEDED: &str = "PlanSucceeded";
    /// A step of a plan failed.
    pub const PLAN_FAILED: &str = "PlanFailed";
}
