//! Plan → API calls. Everything here is idempotent and has no choice left to make.
//!
//! * Every request passes the [`Fence`] first: only a leader whose lease is safely held writes, and a request that
//!   hangs is given up before the lease could be lost.
//! * Names are digests of what they stand for, so a write that was done before is recognised ([`kube::Error`]
//!   `AlreadyExists` is success), and a successor that repeats it changes nothing.
//! * Writes carry the uid they mean: a VM or migration of the same name that came later is not touched.

mod error;
mod events;
mod fenced;
mod look;
mod migrations;
mod plans;
mod power;
mod statuses;

pub use error::{ActError, Class};
pub use events::{Event, Kind as EventKind, Subject};
pub use plans::plan_object;
pub use power::{EnergyNote, LastLook, SleepTerms, unmark};
pub use statuses::{merge_conditions, same_but_for_times};

use crate::clock::Clock;
use kube::Client;
use std::sync::Arc;
use std::time::Duration;

/// Judges, just before each request, whether we may still write: the leader's lease, on a monotonic clock.
pub trait Fence: Send + Sync {
    /// How long a request that begins right now may take: until then nobody else leads. None if none may begin.
    fn remaining(&self) -> Option<Duration>;

    /// What the clock shows by which the lease is held. It goes on while this machine sleeps: others may lead by then.
    fn uptime(&self) -> Duration;

    /// Whether the lease is safely held right now.
    fn holds(&self) -> bool {
        self.remaining().is_some()
    }
}

/// The hands of the operator.
#[derive(Clone)]
pub struct Actor {
    client: Client,
    fence: Arc<dyn Fence>,
    clock: Arc<dyn Clock>,
    /// Who reports, in Events: the pod's name.
    identity: String,
}

impl Actor {
    /// Hands that write through `client` while `fence` holds.
    #[must_use]
    pub fn new(client: Client, fence: Arc<dyn Fence>, clock: Arc<dyn Clock>, identity: impl Into<String>) -> Self {
        Self { client: fenced::client(client, fence.clone()), fence, clock, identity: identity.into() }
    }

    /// The client, once the fence has been asked.
    fn writer(&self) -> Result<Client, ActError> {
        if self.fence.holds() { Ok(self.client.clone()) } else { Err(ActError::NotLeading) }
    }
}
