//! IPMI 2.0 over the network (RMCP+), cipher suites 17 and 3.
//!
//! Written here because the agent's image holds one static program and nothing to run beside it, and because the crates
//! that exist lack suite 17, which current BMCs insist on.
//!
//! IPMI 1.5 and sessions without authentication or encryption are not spoken.

mod handshake;
mod meaning;
mod packet;
mod session;
mod suite;

use super::{Credentials, Driver, DriverError, Endpoint, EndpointError, Reading, WattsReading};
use futures::future::{BoxFuture, FutureExt as _};
use miyako_api::node_power_class::WakeProtocol;
use session::Session;
use std::sync::{Mutex, PoisonError};
use suite::Suite;

/// Speaks IPMI with one BMC.
#[derive(Debug)]
pub struct Ipmi {
    endpoint: Endpoint,
    text: String,
    credentials: Credentials,
    /// What the BMC took the last time: it is offered first, and the others after it.
    suite: Mutex<Option<Suite>>,
}

impl Ipmi {
    /// A driver for `HOST[:PORT]`, UDP port 623 by default.
    ///
    /// # Errors
    ///
    /// Another address.
    pub fn new(address: &str, credentials: Credentials) -> Result<Self, EndpointError> {
        let endpoint = Endpoint::parse(WakeProtocol::Ipmi, address, false)?;
        Ok(Self { text: endpoint.authority(), endpoint, credentials, suite: Mutex::new(None) })
    }

    /// A call's work, logged in before and out after.
    async fn logged_in<T>(
        &self,
        work: impl AsyncFnOnce(&mut Session) -> Result<T, DriverError> + Send,
    ) -> Result<T, DriverError> {
        let known = *self.suite.lock().unwrap_or_else(PoisonError::into_inner);
        let others = Suite::ALL.into_iter().filter(|suite| Some(*suite) != known);
        let suites: Vec<_> = known.into_iter().chain(others).collect();
        let mut session = Session::open(&self.endpoint, &self.credentials, &suites).await?;
        *self.suite.lock().unwrap_or_else(PoisonError::into_inner) = session.suite();
        let result = work(&mut session).await;
        session.close().await;
        result
    }

    async fn power_state(session: &mut Session) -> Result<Reading, DriverError> {
        let chassis = session.command("get chassis status", 0x00, 0x01, &[]).await?;
        let acpi = match session.command("get ACPI power state", 0x06, 0x07, &[]).await {
            Ok(data) => Some(data),
            // Optional, and many BMCs lack it.
            Err(
                DriverError::NotSupported(_)
                | DriverError::NotPermitted(_)
                | DriverError::Refused(_)
                | DriverError::Busy(_),
            ) => None,
            Err(error) => return Err(error),
        };
        meaning::power_state(&chassis, acpi.as_deref())
    }
}

impl Driver for Ipmi {
    fn protocol(&self) -> WakeProtocol {
        WakeProtocol::Ipmi
    }

    fn address(&self) -> &str {
        &self.text
    }

    fn read(&self) -> BoxFuture<'_, Result<Reading, DriverError>> {
        self.logged_in(async |session| Self::power_state(session).await).boxed()
    }

    fn wake(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        // Chassis control "power up" does nothing to a machine that is on.
        self.logged_in(async |session| session.command("power up", 0x00, 0x02, &[1]).await.map(drop)).boxed()
    }

    fn power_on(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        self.wake()
    }

    fn watts(&self) -> BoxFuture<'_, Result<WattsReading, DriverError>> {
        let reading = async |session: &mut Session| {
            let data = session.command("DCMI power reading", 0x2c, 0x02, &[0xdc, 1, 0, 0]).await?;
            meaning::watts(&data)
        };
        self.logged_in(reading).boxed()
    }
}
