//! What the source knows of the target, and tells of what passes.

use crate::PAGE;
use crate::hash::{Digest, Fingerprint, Tag};
use crate::index::{Held, Sum};
use crate::stream::Place;

/// What passed at a place of the guest, for those who keep an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed<'a> {
    /// A page, with its hash where it was hashed anyway.
    Page(&'a [u8; PAGE], Option<Tag>),
    /// A page of zeros.
    Zero,
    /// It is another page now, which nobody knows.
    Changed,
}

/// What the source knows of the target, shared by all connections of a migration.
pub trait Knowledge {
    /// Whether the target holds a page of this hash, as far as it has said.
    fn holds(&self, fingerprint: Fingerprint) -> bool;

    /// Whether the target holds a page that this VM may share.
    fn shares(&self, _digest: &Digest) -> bool {
        false
    }

    /// The target says that it holds a page.
    fn learn(&mut self, fingerprint: Fingerprint);

    /// It turned out that it does not.
    fn forget(&mut self, fingerprint: Fingerprint);

    /// The target has said all. Whoever has learnt something else in between knows it by the sum.
    fn learnt(&mut self, _sum: Sum) {}

    /// A page of the guest passes, in the order of its connection. `number` orders it among connections of multifd.
    fn passes(&mut self, _place: Place, _number: Option<u64>, _what: Passed<'_>) {}
}

impl Knowledge for Held {
    fn holds(&self, fingerprint: Fingerprint) -> bool {
        self.contains(fingerprint)
    }

    fn learn(&mut self, fingerprint: Fingerprint) {
        self.insert(fingerprint);
    }

    fn forget(&mut self, fingerprint: Fingerprint) {
        self.remove(fingerprint);
    }
}
