//! What the `miyako` program can be asked to do: flags and wiring, nothing else.

pub mod operator;
pub mod prometheus;
