//! The few KubeVirt types we touch, pruned to what we read or write.
//!
//! KubeVirt's own CRDs are its to install; these types only have to read what a cluster holds. Unknown fields are
//! ignored, and a status field of unexpected shape reads as absent, so that one odd object can't make a whole list
//! unreadable. Specs are held to their shape by KubeVirt's CRDs and by virt-api, so they are read as they are.

pub mod fields;
mod installation;
mod migration;
mod migration_policy;
mod tolerant;
mod vm;
mod vmi;
mod vmi_status;

pub use installation::{
    DeveloperConfiguration, KubeVirt, KubeVirtConfiguration, KubeVirtSpec, KubeVirtStatus, MigrationConfiguration,
};
pub use migration::{
    PhaseTransition, VirtualMachineInstanceMigration, VirtualMachineInstanceMigrationSpec,
    VirtualMachineInstanceMigrationStatus,
};
pub use migration_policy::{MigrationPolicy, MigrationPolicySpec, Selectors};
pub use vm::{VirtualMachine, VirtualMachineSpec, VirtualMachineStatus};
pub use vmi::{
    ClaimRef, Cpu, CpuFeature, Device, Devices, Domain, Hugepages, Interface, Memory, Resources,
    VirtualMachineInstance, VirtualMachineInstanceSpec, Volume,
};
pub use vmi_status::{
    CpuTopology, KubeVirtCondition, MemoryStatus, MigratedVolume, MigrationState, VirtualMachineInstanceStatus,
    VolumeStatus,
};
