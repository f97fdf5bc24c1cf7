//! Miyako.

pub mod certificate;
pub mod crds;
pub mod observe;
pub mod sim;
