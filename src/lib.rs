//! Miyako.
pub mod observe;
