//! What the `miyako` program can be asked to do: flags and wiring, nothing else.

pub mod approve;
pub mod ask_prometheus;
pub mod cluster;
pub mod explain;
pub mod operator;
pub mod output;
pub mod power;
pub mod prometheus;
pub mod switches;
pub mod wake_kit;
