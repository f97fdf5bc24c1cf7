//! The other side of the drivers.

mod amt;
mod bmc;
mod certificates;
mod process;
mod scripted;

pub(crate) use amt::Amt;
pub(crate) use bmc::Bmc;
pub(crate) use certificates::{Authority, Certified};
pub(crate) use process::{Process, bmcs, free_port, free_udp_port};
pub(crate) use scripted::{HANG, Received, Scripted, answer};

use miyako_agent::wake::Credentials;

/// A password that must never be seen in a log, an error or a process list.
pub(crate) const PASSWORD: &str = "correct-horse";
/// The account's name.
pub(crate) const USER: &str = "admin";

/// The right credentials.
pub(crate) fn right() -> Credentials {
    Credentials::new(USER, PASSWORD)
}

/// Credentials with a wrong password.
pub(crate) fn wrong() -> Credentials {
    Credentials::new(USER, "battery staple")
}
