//! Miyako.

pub mod crds;
pub mod observe;
