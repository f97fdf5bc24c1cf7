//! Miyako.

pub mod certificate;
pub mod clock;
pub mod crds;
pub mod observe;
pub mod sim;
