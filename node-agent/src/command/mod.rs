//! Subcommands with flags of their own.

pub(crate) mod load;
pub(crate) mod power;
pub(crate) mod power_flags;
pub(crate) mod sources;
pub(crate) mod wake;
pub(crate) mod waker;
