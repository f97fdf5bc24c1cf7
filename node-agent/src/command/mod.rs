//! Subcommands with flags of their own.

pub(crate) mod load;
pub(crate) mod sources;
