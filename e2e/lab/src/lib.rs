//! The machines of the QEMU lab. It knows nothing of Kubernetes; `miyako-e2e` ties it to the control plane.
//!
//! * [`child`]: programs whose life is tied to ours.
//! * [`node`]: a node is a network namespace, a cgroup with a CPU quota, a rate-limited link and a virt-handler's proxy.
//! * [`qemu`]: stock QEMU processes and what is said to them through QMP.
//! * [`guest`]: what runs inside them, and the channel that controls and reads it.

// This is an edge: the lab waits for real machines by the real clock.
#![allow(clippy::disallowed_methods)]

pub mod child;
pub mod guest;
pub mod node;
pub mod qemu;
