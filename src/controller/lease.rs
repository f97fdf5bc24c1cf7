//! One leader. The Lease tells the replicas who writes; a deadline tells the leader when it must stop.
//!
//! A follower takes the Lease over only when it has not changed for its whole duration on the follower's own clock.
//! A leader begins a write only while its last successful renewal *began* less than the renew deadline ago, less a
//! margin, and gives it up at that deadline: the margin is the least time that a write has.
//! As the deadline is shorter than the duration, the old leader has stopped before a new one starts, even if it was
//! frozen or its machine slept in between: the deadline is judged, just before each write, on a clock that goes on all the
//! while ([`Uptime`]).

use crate::act::Fence;
use crate::clock::{Clock, Uptime};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How a lease is timed.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTimes {
    /// After this time without a change others take over.
    pub duration: Duration,
    /// After this time without a renewal the leader stops writing.
    pub renew_deadline: Duration,
    /// It begins nothing new this much earlier still: what was begun is given up at the deadline.
    pub margin: Duration,
    /// Between renewals, and between looks at another's lease.
    pub retry: Duration,
}

impl Default for LeaseTimes {
    /// A dead leader is replaced within about 20 s, for 12 small writes a minute.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            margin: Duration::from_secs(2),
            retry: Duration::from_secs(5),
        }
    }
}

/// Whether this replica leads.
pub struct Leadership {
    times: LeaseTimes,
    uptime: Uptime,
    /// When the last successful renewal began.
    renewed: Mutex<Option<Duration>>,
}

impl Leadership {
    /// Not leading. `uptime` is the clock by which the lease is held.
    #[must_use]
    pub fn new(times: LeaseTimes, uptime: Uptime) -> Arc<Self> {
        Arc::new(Self { times, uptime, renewed: Mutex::new(None) })
    }

    fn set(&self, renewed: Option<Duration>) {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
    }
}

impl Fence for Leadership {
    fn remaining(&self) -> Option<Duration> {
        let renewed = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.times.renew_deadline.checked_sub(self.uptime().saturating_sub(renewed?))?;
        (left > self.times.margin).then_some(left)
    }

    fn uptime(&self) -> Duration {
        (self.uptime)()
    }
}

/// What a follower has seen of another's lease, and when on its own clock. That clock may stand still while its machine
/// sleeps: the lease then lasts longer for it, never shorter.
struct Seen {
    holder: String,
    renewals: Option<String>,
    at: Instant,
}

/// The replica's part in the election.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    leadership: Arc<Leadership>,
    clock: Arc<dyn Clock>,
    seen: Option<Seen>,
    /// The Lease as we last wrote it: a leader renews it without reading it first, and a conflict tells if it may not.
    held: Option<Lease>,
}

impl Candidate {
    /// A candidate named `identity` for the Lease `namespace/name`.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        identity: &str,
        leadership: Arc<Leadership>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name: name.into(), identity: identity.into(), leadership, clock, seen: None, held: None }
    }

    /// Takes part in the election until it is dropped.
    pub async fn run(&mut self) {
        let times = self.leadership.times;
        loop {
            // A renewal that hangs is given up: the deadline runs from its beginning anyway.
            match tokio::time::timeout(times.renew_deadline, self.round()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(error = crate::error_chain(&error), "could not read or renew the lease");
                }
                Err(_) => tracing::warn!("the API server did not answer about the lease in time"),
            }
            tokio::time::sleep(times.retry).await;
        }
    }

    /// Gives the Lease up, so that another replica need not wait for its end.
    ///
    /// # Errors
    /// The API server's answer; the Lease then ends by itself.
    pub async fn release(&self) -> Result<(), kube::Error> {
        self.leadership.set(None);
        let Some(mut lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&self.identity) {
            spec.holder_identity = None;
            self.api.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }

    /// One look at the Lease: renews ours, takes over one that nobody renews, else waits.
    ///
    /// # Errors
    /// The API server's answer. A conflict is none: another replica was faster, and we do not lead.
    pub async fn round(&mut self) -> Result<(), kube::Error> {
        let began = self.leadership.uptime();
        let held = self.held.take();
        let found = if held.is_some() { held } else { self.api.get_opt(&self.name).await? };
        let Some(lease) = found else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(None)) };
            let created = self.api.create(&PostParams::default(), &lease).await;
            return self.judge(began, created);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        if holder != self.identity && !holder.is_empty() && !self.is_abandoned(&holder, &spec) {
            self.leadership.set(None);
            return Ok(());
        }
        let lease = Lease { spec: Some(self.spec(Some(&spec))), ..lease };
        let replaced = self.api.replace(&self.name, &PostParams::default(), &lease).await;
        self.judge(began, replaced)
    }

    fn judge(&mut self, began: Duration, written: Result<Lease, kube::Error>) -> Result<(), kube::Error> {
        match written {
            Ok(lease) => {
                self.held = Some(lease);
                if !self.leadership.holds() {
                    tracing::info!(identity = self.identity, "leading");
                }
                self.leadership.set(Some(began));
                self.seen = None;
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                self.leadership.set(None);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Whether another's lease has not changed for its whole duration, on our clock.
    fn is_abandoned(&mut self, holder: &str, spec: &LeaseSpec) -> bool {
        let renewals = spec.renew_time.as_ref().map(|time| time.0.to_string());
        match &self.seen {
            Some(seen) if seen.holder == holder && seen.renewals == renewals => {
                let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
                seen.at.elapsed() > lasts.map_or(self.leadership.times.duration, Duration::from_secs)
            }
            _ => {
                self.seen = Some(Seen { holder: holder.into(), renewals, at: Instant::now() });
                false
            }
        }
    }

    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(crate::time::to_api(self.clock.now()).0);
        let kept = before.filter(|spec| spec.holder_identity.as_deref() == Some(&self.identity));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.leadership.times.duration.as_secs()).ok(),
            acquire_time: kept.and_then(|spec| spec.acquire_time.clone()).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if kept.is_some() { transitions } else { transitions.saturating_add(1) }),
            ..LeaseSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn a_leader_whose_machine_slept_leads_no_more() {
        let seconds = Arc::new(AtomicU64::new(1000));
        let shown = seconds.clone();
        let uptime = Arc::new(move || Duration::from_secs(shown.load(Ordering::SeqCst)));
        let leadership = Leadership::new(LeaseTimes::default(), uptime);
        assert!(!leadership.holds());
        leadership.set(Some(leadership.uptime()));
        seconds.store(1007, Ordering::SeqCst);
        assert_eq!(leadership.remaining(), Some(Duration::from_secs(3)));
        // No timer of the process has moved.
        seconds.store(1007 + 3600, Ordering::SeqCst);
        assert_eq!(leadership.remaining(), None);
    }
}
