//! Kubernetes objects as Rust values: KubeVirt's and ours.

mod kubevirt;
mod resources;
