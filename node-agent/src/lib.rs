//! The node agent: it measures what its node uses and tells every replica of the operator, once a second.
//!
//! * [`load`]: what is read and how often; the figures' source stands behind a trait.
//! * [`stream`]: the way to the operator: dialling, identity, bounded buffers, reconnecting.
//! * [`power`]: orders to sleep, carried out at most once, and what a node needs when it wakes.
//! * [`wake`]: how nodes are woken through their BMC or network card.
//! * [`waker`]: who wakes them: claims orders and carries them out.
//! * [`generator`]: an agent for test stands that speaks for many nodes with invented figures.
//!
//! The agent never links the operator (`ARCHITECTURE.md`); what both say to each other is `miyako_api::wire`.

pub mod generator;
pub mod load;
pub mod power;
pub mod stream;
pub mod wake;
pub mod waker;
