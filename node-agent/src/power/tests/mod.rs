//! The agent against a simulated machine and a cluster of one object.

mod at_most_once;
mod recovery;
mod world;
