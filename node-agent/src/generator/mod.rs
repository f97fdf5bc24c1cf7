//! An agent for test stands: it speaks for many nodes, each with its own token, and tells invented figures.
//!
//! What it tells is written in a [`Scenario`], which can be replaced while it runs. It can also misbehave in the
//! ways that an operator must survive ([`Fault`]).

mod run;
mod scenario;

pub use run::{Carry, Generator};
pub use scenario::{Fault, FaultWindow, Node, Scenario, ScenarioError, Step, Vm};
