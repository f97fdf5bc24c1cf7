//! Carries a [`Sequence`] out with real drivers.

use super::{Answer, Belief, Candidate, Driver, Patience, Sequence, Step, WakeFailure, Woken, protocol_name};
use tokio::time::{Instant, sleep};

/// Wakes one machine by the first of its drivers that can, and says how or why not. `seed` decides the jitter of waits.
///
/// # Errors
///
/// What each driver said and what to check.
pub async fn wake(
    drivers: &[Box<dyn Driver>],
    belief: Belief,
    patience: Patience,
    seed: u64,
) -> Result<Woken, WakeFailure> {
    let candidates = drivers.iter().map(|driver| Candidate {
        protocol: driver.protocol(),
        address: driver.address().to_owned(),
        can_read: driver.can_read(),
    });
    let mut sequence = Sequence::new(candidates.collect(), belief, patience, seed);
    let start = Instant::now();
    let mut answer = Answer::Start;
    loop {
        let step = sequence.next(answer, start.elapsed());
        tracing::debug!(?step, "waking");
        answer = match step {
            Step::Read(index) => {
                let read = drivers[index].read().await;
                log(&*drivers[index], "read", read.as_ref().err());
                Answer::Read(read)
            }
            Step::Wake(index) => {
                let ordered = drivers[index].wake().await;
                log(&*drivers[index], "wake", ordered.as_ref().err());
                Answer::Ordered(ordered)
            }
            Step::PowerOn(index) => {
                let ordered = drivers[index].power_on().await;
                log(&*drivers[index], "power on", ordered.as_ref().err());
                Answer::Ordered(ordered)
            }
            Step::Wait(time) => {
                sleep(time).await;
                Answer::Waited
            }
            Step::Done(outcome) => return outcome,
        };
    }
}

fn log(driver: &dyn Driver, call: &str, error: Option<&super::DriverError>) {
    let (protocol, address) = (protocol_name(driver.protocol()), driver.address());
    match error {
        None => tracing::info!(protocol, address, call, "the BMC answered"),
        Some(error) => tracing::warn!(protocol, address, call, %error, reason = error.category(), "the BMC failed"),
    }
}
