//! What every driver needs and none should write itself: a deadline for each call, one call at a time per machine, and
//! silence after a refused password.

use super::{Driver, DriverError, Reading, WattsReading};
use futures::future::{BoxFuture, FutureExt as _};
use miyako_api::node_power_class::WakeProtocol;
use std::time::Duration;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, timeout},
};

/// How long a BMC may take for one call, with a login of several round trips in it.
pub const CALL_DEADLINE: Duration = Duration::from_secs(15);
/// How long nothing is asked after a refused password. BMCs lock an account after a few wrong tries, for some minutes.
pub const HOLD_OFF: Duration = Duration::from_secs(300);

/// A driver with deadlines.
pub struct Careful<D> {
    inner: D,
    deadline: Duration,
    /// When the password was last refused. BMCs carry out one request at a time, so the lock is held during a call.
    refused_at: Mutex<Option<Instant>>,
}

impl<D: Driver> Careful<D> {
    /// With [`CALL_DEADLINE`] for each call.
    #[must_use]
    pub fn new(inner: D) -> Self {
        Self::with_deadline(inner, CALL_DEADLINE)
    }

    /// With another deadline.
    #[must_use]
    pub fn with_deadline(inner: D, deadline: Duration) -> Self {
        Self { inner, deadline, refused_at: Mutex::new(None) }
    }

    async fn turn(&self) -> Result<MutexGuard<'_, Option<Instant>>, DriverError> {
        let refused_at = self.refused_at.lock().await;
        match refused_at.map(|at| at.elapsed()) {
            Some(ago) if ago < HOLD_OFF => Err(DriverError::HeldOff {
                ago: Duration::from_secs(ago.as_secs()),
                again_in: Duration::from_secs((HOLD_OFF - ago).as_secs() + 1),
            }),
            _ => Ok(refused_at),
        }
    }

    async fn call<T>(&self, call: BoxFuture<'_, Result<T, DriverError>>) -> Result<T, DriverError> {
        let mut refused_at = self.turn().await?;
        let result = timeout(self.deadline, call).await.unwrap_or(Err(DriverError::TimedOut(self.deadline)));
        match &result {
            Err(DriverError::WrongCredentials(_) | DriverError::AccountLocked(_)) => {
                *refused_at = Some(Instant::now());
            }
            Err(_) => {}
            Ok(_) => *refused_at = None,
        }
        result
    }
}

impl<D: Driver> Driver for Careful<D> {
    fn protocol(&self) -> WakeProtocol {
        self.inner.protocol()
    }

    fn address(&self) -> &str {
        self.inner.address()
    }

    fn can_read(&self) -> bool {
        self.inner.can_read()
    }

    fn read(&self) -> BoxFuture<'_, Result<Reading, DriverError>> {
        self.call(self.inner.read()).boxed()
    }

    fn wake(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        self.call(self.inner.wake()).boxed()
    }

    fn power_on(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        self.call(self.inner.power_on()).boxed()
    }

    fn verify_off(&self) -> BoxFuture<'_, Result<Reading, DriverError>> {
        self.call(self.inner.verify_off()).boxed()
    }

    fn watts(&self) -> BoxFuture<'_, Result<WattsReading, DriverError>> {
        self.call(self.inner.watts()).boxed()
    }
}
