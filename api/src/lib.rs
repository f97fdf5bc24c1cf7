//! The API: our own resources, the few types of KubeVirt that we touch, and the names both sides agree on.

pub mod kubevirt;
pub mod names;
pub mod wire;
