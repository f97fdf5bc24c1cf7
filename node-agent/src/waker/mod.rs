//! The agent in its waker role: carries out orders to be awake for nodes that can't hear them, and asks the BMCs of nodes
//! that were ordered to power off whether they are.
//!
//! ```text
//!  NodePower ──▶ judge ──▶ claim (status.waker) ──▶ Errand ──▶ drivers of the node's class ──▶ outcome (status.waker)
//! ```
//!
//! Two replicas run on nodes that never sleep, with a ServiceAccount of their own that alone may read BMC Secrets. They
//! share the work through `status.waker`: whoever takes an order up writes it there first, with the version it has
//! read, so that one of two wins. A claim that nobody renewed for [`CLAIM_LAPSES`] is taken over: asking a BMC twice to
//! turn a machine on does no harm, and nothing here can do anything else.
//!
//! Where no operator runs, a person's request to wake a node (`miyako wake`) is carried out without one: a waker that has
//! seen it unanswered for [`OPERATOR_ANSWERS`] takes it up itself. The rest of the way, taint and labels, waits for an operator.
//!
//! What the BMCs measure is read here too: see [`meters`].

mod claim;
mod errand;
pub mod meters;
mod role;
mod secret;

pub use claim::{CLAIM_LAPSES, Goal, Judgement, OPERATOR_ANSWERS, Task, judge, request_to_wake};
pub use miyako_api::wake::{NoWay, Way, Ways, ways, ways_without_node};
pub use role::Waker;

use crate::wake::{Driver, KeptDrivers, Node};
use miyako_api::node_power_class::WakeDriver;
use std::collections::BTreeMap;

/// Makes drivers: [`KeptDrivers`] in a cluster, others in tests.
pub trait MakeDriver: Send + Sync + 'static {
    /// The driver for one node as its class has it. `secret` is the data of the Secret that the class names, if any.
    ///
    /// # Errors
    ///
    /// What is wrong with the class or the Secret, in words for the class's owner.
    fn make(
        &self,
        spec: &WakeDriver,
        node: Node<'_>,
        secret: Option<&BTreeMap<String, Vec<u8>>>,
    ) -> Result<Box<dyn Driver>, String>;
}

impl MakeDriver for KeptDrivers {
    fn make(
        &self,
        spec: &WakeDriver,
        node: Node<'_>,
        secret: Option<&BTreeMap<String, Vec<u8>>>,
    ) -> Result<Box<dyn Driver>, String> {
        self.driver_for(spec, node, secret).map_err(|error| error.to_string())
    }
}
