//! How long the parts of the sequence may take.

use crate::model::Span;

/// An order to suspend is void after this time unless it is acknowledged: an agent that comes back to life must
/// not find one that nobody means any more (`docs/design/0004-orders-at-most-once.md`).
pub const ORDER_STANDS: Span = Span::from_secs(10);

/// By so much an agent's clock and ours may differ, and its acknowledgement may be late.
pub(super) const ORDER_MARGIN: Span = Span::from_secs(5);

/// An order to wake is given anew after this time.
pub const WAKE_ORDER_STANDS: Span = Span::from_secs(120);

/// So long a taint must have been seen by the scheduler before the node is taken for left alone: a pod whose binding
/// was under way shows up within it.
pub(super) const SETTLES: Span = Span::from_secs(2);

/// A node that failed to wake is asked again after this time, then after twice that, and so on …
pub(super) const ASKED_AGAIN: Span = Span::from_secs(300);

/// … up to this.
pub(super) const ASKED_AT_LEAST_EVERY: Span = Span::from_secs(3600);

/// A waker takes an order up within a second of its watch. After this time somebody must look why none did.
pub(super) const TAKES_UP_WITHIN: Span = Span::from_secs(30);

/// A waker renews its claim every ten seconds and another takes it over after thirty: after this time both are gone.
pub(super) const CLAIM_STANDS: Span = Span::from_secs(60);

/// A node that is not back so long after it was asked is worth the write that says what the waker did.
pub(super) const WORTH_TELLING: Span = Span::from_secs(15);
