//! Numbers that look random and follow from their question alone.

/// A source of such numbers for one VM, or whatever has a name, and one purpose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chance(u64);

/// The finaliser of splitmix64 (Steele, Lea and Flood 2014): fast, and every bit of the input matters.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Chance {
    pub(crate) fn new(seed: u64, who: &str) -> Self {
        let named =
            who.bytes().fold(seed, |state, byte| mix(state ^ u64::from(byte)).wrapping_add(0x9e37_79b9_7f4a_7c15));
        Self(mix(named))
    }

    /// A source for one of many things of the same kind: the purpose and a running number.
    pub(crate) fn of(self, purpose: u64, number: i64) -> Self {
        #[allow(clippy::cast_sign_loss)] // any 64 bits will do
        let number = number as u64;
        Self(mix(self.0 ^ mix(purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number)))
    }

    /// A number from 0 up to 1.
    pub(crate) fn unit(self) -> f64 {
        (mix(self.0) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number between two bounds.
    pub(crate) fn between(self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }
}
