//! Waiting for the world to reach a state, never for time to pass.

use anyhow::bail;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// What one look at the world found.
#[derive(Debug)]
pub enum Look<T> {
    /// The state is reached.
    Done(T),
    /// Not yet; what was seen instead, for the error message.
    NotYet(String),
}

impl<T> Look<T> {
    /// `Done` for a value, `NotYet` with the given words for none.
    pub fn some(value: Option<T>, otherwise: impl Into<String>) -> Self {
        value.map_or_else(|| Self::NotYet(otherwise.into()), Self::Done)
    }
}

impl Look<()> {
    /// `Done` when the condition holds.
    pub fn holds(condition: bool, otherwise: impl Into<String>) -> Self {
        Self::some(condition.then_some(()), otherwise)
    }
}

/// Looks again and again until the state is reached. An error of a look counts as "not yet": the API server may be
/// restarting.
///
/// # Errors
/// When `at_most` passes first; it says what the last look saw.
pub async fn until<T, F>(what: &str, at_most: Duration, mut look: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Look<T>>>,
{
    let begin = Instant::now();
    loop {
        let seen = match look().await {
            Ok(Look::Done(value)) => return Ok(value),
            Ok(Look::NotYet(seen)) => seen,
            Err(error) => format!("{error:#}"),
        };
        if begin.elapsed() > at_most {
            bail!("{what}: not within {} s; last seen: {seen}", at_most.as_secs());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Looks again and again for the whole span, and fails the moment the condition does not hold.
///
/// # Errors
/// What the look reports.
pub async fn throughout<F>(what: &str, span: Duration, mut look: impl FnMut() -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<Look<()>>>,
{
    let begin = Instant::now();
    while begin.elapsed() < span {
        if let Look::NotYet(seen) = look().await? {
            bail!("{what}: broken after {} s: {seen}", begin.elapsed().as_secs());
        }
        tokio::time::sleep(INTERVAL).await;
    }
    Ok(())
}
