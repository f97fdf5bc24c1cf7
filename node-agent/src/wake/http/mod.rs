//! HTTP to BMCs: one connection per call, TLS that trusts only what the class names, bounded answers.

mod connection;
mod spki;
mod trust;

pub(crate) use connection::{Client, Connection};
pub use trust::{Fingerprint, FingerprintError, TlsVersion, Trust};
