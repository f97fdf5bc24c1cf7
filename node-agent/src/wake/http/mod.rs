//! HTTP to BMCs: one connection per call, TLS that trusts only what the class names, bounded answers.

mod connection;
mod endpoint;
mod trust;

pub(crate) use connection::{Client, Connection};
pub(crate) use endpoint::Defaults;
pub use endpoint::{Endpoint, EndpointError};
pub use trust::{Fingerprint, FingerprintError, TlsVersion, Trust};
