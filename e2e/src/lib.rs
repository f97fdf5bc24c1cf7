//! The test stands: everything an end-to-end scenario needs around the operator.
//!
//! [`control_plane`] is a real Kubernetes control plane on this machine: etcd, kube-apiserver, kube-scheduler,
//! kube-controller-manager, and kwok for the kubelets. [`driver`] runs scenarios on it, one after the other.
//!
//! **Nothing outlives the run.** Every program is started through [`child`], which ties its life to ours in three
//! ways, so that even a killed test run leaves nothing behind.

// This is an edge: stands wait for real programs by the real clock.
#![allow(clippy::disallowed_methods)]

pub mod control_plane;
pub mod driver;
pub mod https;
pub mod installation;
pub mod kubevirt;
pub mod lab;
pub mod machine;
pub mod prometheus;
pub mod random_pods;
pub mod scene;
pub mod sleepers;
pub mod tools;
pub mod wait;

// The lab's machines start their programs in the same way.
pub use miyako_lab::child;
