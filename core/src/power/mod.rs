//! How one node goes to sleep and comes back: what its NodePower records, what is seen of it and what
//! is wished for it → at most one write.
//!
//! ```text
//!            wish: asleep            settled, nobody came       acknowledged,
//!            nothing on it           (our NoSchedule taint)      lease lapsed (PowerOff: and its BMC says off)
//!   Awake ─────────────▶ Emptying ─────────────▶ Suspending ─────────────▶ Suspended
//!    ▲ ▲                    │                     │   │                      │  ▲
//!    │ └────── aborted ─────┴── before the order ─┘   │ aborted after it,    │  │ (Suspending only)
//!    │                                                │ refused, or it did   │
//!    │            usable, and the order               │ not sleep            │ wish: awake, work on it, or it woke
//!    │            can't be obeyed any more            ▼                      ▼ by itself (RTC, a person, a cold boot)
//!    ├────────────────────────────────────────────── Waking ◀────────────────┘
//!    │                                                │
//!    │               seen healthy                     │ not usable in time, or every driver failed
//!    └────────────── Quarantined ◀────────────────────┘   (asked again and again, ever more seldom)
//! ```
//!
//! * **One write at a time.** [`advance`] looks at what is recorded and seen, and names one idempotent [`Write`]. The
//!   operator may die before or after any of them: its successor looks at the same and names the same.
//! * **An order is given once for one purpose.** The purpose (a plan, a person's request) is recorded before the
//!   order, and a node that is awake again does not go back to sleep for it.
//! * **An order that may have been obeyed is taken back by waking.** Nobody can tell an agent that is about to write
//!   `mem` from one that never will, so an abort after the order is a wake: the node counts as usable only when the
//!   agent has acknowledged the order (and then never obeys it again) or the order is too old to be obeyed.
//! * **A wake wins.** Whatever wants the node awake is looked at before whatever wants it asleep.
//! * **A waker's word is believed when it is bad.** A node whose drivers all failed is Quarantined at once, with their
//!   words, unless it answers itself; that a driver says "on" proves nothing, only the node does.
//! * **Nothing of ours keeps a woken node from being usable.** While it waits for a DaemonSet's pod that is gone, our
//!   taint only deters ([`NodeMarks::Waking`], [`NodeMarks::Quarantined`]).
//! * **What will not stay asleep is left awake.** A node that refuses, does not fall asleep, or wakes by itself soon, a few
//!   times in a row, is blocked for hours, then for longer ([`Restless`]); a person's request tries it at once.
//! * **No dead end.** Each state is left by time alone, or by facts that come by themselves, but for Suspended, which
//!   is left when anybody wishes, and Quarantined, whose node is asked again until it is seen healthy.

mod advance;
mod facts;
mod hearsay;
mod restless;
mod state;
mod survey;
mod times;
mod write;

#[cfg(test)]
mod tests;

pub use advance::advance;
pub use facts::{Facts, Wish};
pub use restless::FEW;
pub use state::State;
pub use survey::{Seat, survey};
pub use times::{ORDER_STANDS, WAKE_ORDER_STANDS};
pub use write::{PhaseChange, Write};
