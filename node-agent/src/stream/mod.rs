//! The way to the operator.
//!
//! ```text
//!  sampling ──▶ Newest (a few samples, the oldest drop out) ──┬─▶ session to replica 1
//!                                                             └─▶ session to replica 2 …
//! ```
//!
//! Every replica gets every sample, so that a failover keeps the load windows. A replica that is slow or away costs
//! its own samples and nothing else: what could not be sent in time is dropped, never queued. The first sample of a
//! stream brings along the CPU of the last minutes ([`Past`]), so a new replica's windows are full at once.

mod back_off;
mod dial;
mod fleet;
mod newest;
mod past;
mod sample_log;
mod session;

pub use back_off::BackOff;
pub use dial::{Connection, Dial, DialError, TlsDialer, endpoint};
pub use fleet::{Fleet, LOOK_UP_INTERVAL, Replicas};
pub use newest::{Newest, Reader, newest, newest_with_past};
pub use past::Past;
pub use sample_log::{BootClock, SampleLog};
pub use session::{SessionEnd, run_session};

use std::{sync::Arc, time::Duration};

/// The wall clock in milliseconds since the Unix epoch, handed in: simulations bring their own.
pub type WallClock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How long an unanswered sample may stay unanswered before the connection is given up.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(5);
