//! How fast QEMU may believe its network to be.
//!
//! QEMU stops the guest when what is left to send is less than *rate × downtime limit*, and the rate is what the relay
//! took from it. A relay that makes references takes pages as fast as memory, far faster than the wire could carry the
//! pages that the guest writes meanwhile. QEMU would stop the guest too early, and the guest would stand still while
//! real bytes pass a real wire.
//!
//! So in the first round, in which nearly all that can be reused passes, the relay takes pages no faster than what is
//! left of the round in 300 ms, and never slower than the wire would. The round still takes a fraction of the time; the
//! rate that QEMU has last seen, when the round ends and it first thinks of stopping, is the wire's.

/// What is left of the first round should take so long, in milliseconds: KubeVirt's least downtime limit.
const STRETCH_MS: u64 = 300;

/// The first round of a migration: all of the guest's memory, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Round {
    memory: u64,
    passed: u64,
}

impl Round {
    /// A round of so many bytes ([`Reader::memory`](crate::stream::Reader::memory)).
    #[must_use]
    pub fn new(memory: u64) -> Self {
        Self { memory, passed: 0 }
    }

    /// So many bytes of the guest's memory have passed, zero pages at their full size, on any connection.
    pub fn pass(&mut self, bytes: u64) {
        self.passed = self.passed.saturating_add(bytes);
    }

    /// What is left of it.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.memory.saturating_sub(self.passed)
    }

    /// How many bytes a second may be taken from QEMU, on a wire that carries so many. Later rounds go at the wire's
    /// pace.
    #[must_use]
    pub fn bytes_per_second(&self, wire: u64) -> u64 {
        wire.max(self.left().saturating_mul(1000) / STRETCH_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRE: u64 = 125_000_000;

    /// 1 GiB, of which all can be referred to: an order of magnitude faster than the wire, and at its pace in the end.
    #[test]
    fn the_first_round_begins_fast_and_ends_at_the_pace_of_the_wire() {
        let memory = 1 << 30;
        let mut round = Round::new(memory);
        let (mut milliseconds, mut last) = (0, u64::MAX);
        while round.left() > 0 {
            let rate = round.bytes_per_second(WIRE);
            assert!((WIRE..=last).contains(&rate), "{rate} after {last}");
            last = rate;
            round.pass(rate / 1000);
            milliseconds += 1;
        }
        assert_eq!(last, WIRE);
        let plain = memory * 1000 / WIRE;
        assert!(milliseconds * 5 < plain, "{milliseconds} ms, where the wire alone takes {plain}");
    }

    #[test]
    fn later_rounds_go_at_the_pace_of_the_wire() {
        let mut round = Round::new(1 << 30);
        round.pass(u64::MAX);
        round.pass(1);
        assert_eq!((round.left(), round.bytes_per_second(WIRE), round.bytes_per_second(0)), (0, WIRE, 0));
        assert_eq!(Round::new(u64::MAX).bytes_per_second(1), u64::MAX / STRETCH_MS);
    }
}
