//! The QEMU lab on the control plane: its nodes' VMs are real QEMU processes, and the operator moves them.
//!
//! ```text
//!   the control plane: etcd, apiserver, scheduler, controller-manager, kwok, KubeVirt's stand-in, the operator
//!      │ launcher pods              │ migrations                    ▲ samples, once a second
//!      ▼                            ▼                               │
//!   Kubelets ── start and end ──▶ Machines ◀── QMP ── QemuHands     miyako-agent of each node
//!                                   │
//!   miyako-lab: nodes, launchers, virt-handlers, QEMU, guests ──────┘ cgroups
//! ```
//! * [`stand`]: all of it together.
//! * [`machines`]: which launcher and which QEMU is where; [`kubelets`] start and end them as their pods come and go.
//! * [`hands`]: the stand-in's hands, which carry migrations out with QEMU.
//! * [`sleep`]: nodes that fall asleep; [`energy`]: what nodes draw, asleep and awake.
//! * [`scenario`], [`run`]: scenarios as files, and how they are played; `swing` plays loads that answer to the operator.
//! * [`record`], [`results`], [`audit`], [`report`]: what came of them, and whether any safety rule was broken.

pub mod audit;
pub mod energy;
pub mod hands;
pub mod kubelets;
pub mod machines;
pub mod record;
pub mod report;
pub mod results;
pub mod run;
pub mod scenario;
pub mod sleep;
pub mod stand;
mod swing;
