//! Kubernetes objects → values of [`miyako_core::model`]: pure functions, one file per kind.
//!
//! Whatever an object holds, its conversion yields a value and the problems it met; it never panics and never fails
//! the pass. What can't be read is taken in the way that lets us do less.

pub mod class;
pub mod event;
pub mod health_check;
pub mod kubevirt;
pub mod machine;
pub mod migration;
pub mod migration_policy;
pub mod namespace;
pub mod neighbours;
pub mod node;
pub mod node_power;
pub mod objects;
pub mod plan;
pub mod pod;
pub mod policy;
mod problem;
pub mod quantity;
mod requests;
pub mod schedule;
pub mod scheduling;
pub mod selector;
pub mod storage;
pub mod switches;
pub mod target;
pub mod vm;
pub mod vmi;

pub use problem::{Problem, Problems};

/// A value and what was wrong with the object it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Converted<T> {
    /// The value.
    pub value: T,
    /// What was wrong.
    pub problems: Vec<Problem>,
}

impl<T> Converted<T> {
    /// A value with the problems that were collected.
    #[must_use]
    pub fn new(value: T, problems: Problems) -> Self {
        Self { value, problems: problems.into_vec() }
    }
}
