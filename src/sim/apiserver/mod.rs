//! A Kubernetes API server in memory, beneath an ordinary `kube::Client`.
//!
//! It serves the simulated cluster, the demo and tests. It is deterministic: uids, generated names, versions and
//! timestamps follow from a seed, counters and an injected clock, and nothing depends on hash order. It does what
//! controllers can observe of the real one: list and watch with bookmarks, paging and expiry, optimistic concurrency,
//! the four kinds of patch with field ownership, status subresources, finalizers, owner references, dry runs, CRD
//! defaults, pruning and validation, and the real server's Status objects. [`conformance`] holds the script of requests
//! that both must answer alike.
//!
//! ```text
//! kube::Client ─▶ service (faults, counters) ─▶ request ─▶ read | watch | write | apply | delete ─▶ store
//!                                                              admission, schema, managed fields
//! ```
//!
//! **Deliberately absent**: authentication and authorisation (an actor's name is believed), quotas, protobuf, several
//! versions of one object, aggregated APIs, graceful pod deletion (pods leave at once unless finalizers keep them).

mod admission;
mod builtin;
mod clock;
pub mod conformance;
mod delete;
mod discovery;
mod error;
mod events;
mod evict;
mod faults;
mod held;
mod history;
mod http;
mod lifetime;
mod log;
mod managed;
mod metadata;
mod patch;
mod read;
mod registry;
mod request;
mod schema;
mod selectors;
mod server;
mod service;
mod shape;
mod signal;
mod store;
mod watch;
mod write;

pub use admission::{Admission, ClusterView, Operation, Refused, Review};
pub use clock::{EPOCH_SECONDS, from_the_beginning};
pub use discovery::KUBERNETES_VERSION;
pub use error::{ApiError, FieldError};
pub use faults::{Crash, Fault, FaultPlan, FaultRates, RandomFaults, RequestInfo};
pub use held::Held;
pub use history::{ChangeKind, HistoryLimit};
pub use log::{LoggedRequest, RequestKind};
pub use registry::{Generation, Registry, RegistryError, Resource};
pub use request::Verb;
pub use schema::Schema;
pub use server::{ApiServer, Options};

#[cfg(test)]
mod tests;
