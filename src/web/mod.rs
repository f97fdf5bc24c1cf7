//! Health, metrics and the page.

mod probes;

pub use probes::{Ready, Site, serve};
