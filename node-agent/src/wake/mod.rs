//! Waking nodes through their BMC or network card.
//!
//! * [`Driver`]: what every protocol can do; [`Amt`], [`Redfish`], [`Ipmi`], [`Wol`].
//! * [`Careful`]: deadlines, one call at a time, silence after a refused password.
//! * [`Sequence`]: which driver to ask what and when to give up, as a pure state machine; [`wake()`] carries it out.
//! * [`driver_for`]: from a class and a Secret to a driver; [`KeptDrivers`] remember. [`Template`]: addresses of many nodes in one line. [`Credentials`] never print.
//!
//! **Invariant**: nothing here can reset, cycle or force off a machine, because a sleeping node's memory may hold what
//! can't be replaced.

mod amt;
mod careful;
mod carry_out;
mod credentials;
mod driver;
mod error;
mod http;
mod ipmi;
mod kept;
mod redfish;
mod sequence;
mod setup;
mod shown;
mod wol;

pub use amt::Amt;
pub use careful::{CALL_DEADLINE, Careful, HOLD_OFF};
pub use carry_out::wake;
pub use credentials::{Credentials, CredentialsError};
pub use driver::{Driver, PowerState, Reading, WattsReading};
pub use error::{DriverError, Retry, excerpt};
pub use http::{Fingerprint, FingerprintError, TlsVersion, Trust};
pub use ipmi::Ipmi;
pub use kept::KeptDrivers;
pub use miyako_api::wake::{
    AllowedHosts, AllowedHostsError, Endpoint, EndpointError, MacAddress, MacAddressError, Node, Template,
    TemplateError, address_of, protocol_name,
};
pub use redfish::Redfish;
pub use sequence::{Answer, Belief, Candidate, Patience, Sequence, Step, Tried, WakeFailure, Woken};
pub use setup::{SetupError, driver_for};
pub use wol::{APART, BROADCAST, REPEATS, SecureOn, SecureOnError, Wol, magic_packet};
