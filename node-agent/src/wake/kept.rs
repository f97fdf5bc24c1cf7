//! Drivers that are kept between orders. A driver remembers nonces, realms, cipher suites and, above all, that its password
//! was just refused: made anew for every order it would ask again and lock the account.

use super::{
    AllowedHosts, Driver, DriverError, Node, Reading, SetupError, WattsReading, address_of, driver_for, protocol_name,
};
use futures::future::BoxFuture;
use miyako_api::node_power_class::{WakeDriver, WakeProtocol};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The most drivers that are kept. Beyond, all are forgotten and made again when they are needed.
const MOST: usize = 10_000;

/// The drivers of many nodes.
#[derive(Default)]
pub struct KeptDrivers {
    /// The hosts that any account may be shown to; all if there are none.
    allowed: AllowedHosts,
    /// By node, protocol and address: a node may have two ways by one protocol, its class's and a recorded one.
    kept: Mutex<BTreeMap<(String, &'static str, String), Kept>>,
}

struct Kept {
    /// Of what it was made: another address or password makes another driver.
    made_of: [u8; 32],
    driver: Arc<dyn Driver>,
}

impl KeptDrivers {
    /// Drivers whose accounts are shown to these hosts alone, or to all if the list is empty.
    #[must_use]
    pub fn within(allowed: AllowedHosts) -> Self {
        Self { allowed, kept: Mutex::default() }
    }

    /// The driver for one node as its class and the Secret have it now; see [`driver_for`].
    ///
    /// # Errors
    ///
    /// What is wrong, where, and what to write.
    pub fn driver_for(
        &self,
        spec: &WakeDriver,
        node: Node<'_>,
        secret: Option<&BTreeMap<String, Vec<u8>>>,
    ) -> Result<Box<dyn Driver>, SetupError> {
        let made_of = fingerprint(spec, node, secret);
        let address = address_of(spec, node).unwrap_or_default();
        let key = (node.name.to_owned(), protocol_name(spec.driver), address);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.get(&key).filter(|found| found.made_of == made_of) {
            return Ok(Box::new(found.driver.clone()));
        }
        let driver: Arc<dyn Driver> = Arc::from(driver_for(spec, node, secret, &self.allowed)?);
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(key, Kept { made_of, driver: driver.clone() });
        Ok(Box::new(driver))
    }
}

/// A hash of everything that a driver is made of. One way, so that no password is kept in it.
fn fingerprint(spec: &WakeDriver, node: Node<'_>, secret: Option<&BTreeMap<String, Vec<u8>>>) -> [u8; 32] {
    let mut hash = Sha256::new();
    // Written out, a spec is always the same text, and a driver's spec can always be written out.
    hash.update(serde_json::to_vec(spec).unwrap_or_default());
    let labels = node.labels.iter().map(|(key, value)| (key, value.as_bytes()));
    let secret = secret.into_iter().flatten().map(|(key, value)| (key, value.as_slice()));
    for (key, value) in labels.chain(secret) {
        for part in [key.as_bytes(), value] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
    }
    hash.finalize().into()
}

impl Driver for Arc<dyn Driver> {
    fn protocol(&self) -> WakeProtocol {
        (**self).protocol()
    }

    fn address(&self) -> &str {
        (**self).address()
    }

    fn can_read(&self) -> bool {
        (**self).can_read()
    }

    fn read(&self) -> BoxFuture<'_, Result<Reading, DriverError>> {
        (**self).read()
    }

    fn wake(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        (**self).wake()
    }

    fn power_on(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        (**self).power_on()
    }

    fn verify_off(&self) -> BoxFuture<'_, Result<Reading, DriverError>> {
        (**self).verify_off()
    }

    fn watts(&self) -> BoxFuture<'_, Result<WattsReading, DriverError>> {
        (**self).watts()
    }
}
