//! Miyako.

pub mod certificate;
pub mod clean_up;
pub mod clock;
pub mod crds;
pub mod observe;
pub mod sim;
