//! Miyako.

pub mod crds;
pub mod observe;
pub mod sim;
