//! Load comes in: samples from the nodes' agents, or, where there are none, from a Prometheus server.
//!
//! ```text
//!  agents ──TLS, gRPC──▶ agents::serve ──┐
//!                                        ├─▶ LoadStore ──lend──▶ Snapshot.load ──▶ plan
//!  Prometheus ◀──HTTP── prometheus::poll ┘       ▲
//!                                     inventory: the nodes and VMs that exist
//! ```
//!
//! Every replica takes in everything and only the leader acts, so a failover keeps the windows.
//! [`judge`] decides what is believed, [`store`] keeps it; both are plain functions of what came and when.

pub mod agents;
pub mod inventory;
pub mod judge;
mod meters;
mod past;
pub mod prometheus;
mod rivals;
mod served;
pub mod store;

pub use inventory::{Inventory, VmPlace};
pub use judge::{Figures, Refusal};
pub use meters::{Metered, WattsQuestion};
pub use store::{LoadStore, NodeProblem, SharedLoadStore, Source, StreamId, Verdict};

#[cfg(test)]
mod tests;
