//! The loop: observe → plan → check → act, once a second; and what surrounds it: one leader, status, metrics.
//!
//! Every replica observes and decides, so that each is ready to lead and to explain; only the leader writes.

mod deadline;
mod energy;
mod held;
mod history;
mod hung;
mod lease;
mod metrics;
mod pass;
mod perform;
mod picture;
mod power;
mod refusals;
mod stalled;
mod status;
mod statuses;
mod stuck;
mod tell;
mod tell_nodes;
mod wakes;

pub use history::{History, Move, MoveKind, Point, PowerChange, PowerCounts, PowerNow};
pub use lease::{Candidate, Leadership, LeaseTimes};
pub use metrics::Metrics;
pub use picture::{ConditionPicture, NodePicture, Onlooker, Onlookers, Picture, PolicyPicture, VmPicture};
pub use status::LoadView;
mod operator;
pub use operator::{Operator, Options, View};
