//! Control groups: where they are, which is a pod's, and what they count.

mod find;
mod group;
mod hierarchy;

pub(super) use find::{PodUid, pod_groups};
pub(super) use group::{Group, parsed, quota};
pub(super) use hierarchy::Hierarchies;

#[cfg(test)]
mod tests;
