//! A client for a leader: each of its requests begins only while the lease is safely held, and is over before the lease
//! could be lost. So none that hangs can write for a leader that has been replaced.
//!
//! ```text
//!   renewed        may begin until           every request is given up        another may lead
//!      │─────────────────│──────── margin ────────────│─────────────────────────────│
//! ```
//!
//! The deadline is judged each time the request is looked after, before it goes on: a process that was frozen, or whose
//! client waits between two attempts, does not send anything when it wakes too late. It is judged by the fence's own clock,
//! which goes on while the machine sleeps; timers stand still then.

use super::Fence;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use kube::Client;
use kube::client::Body;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use thiserror::Error;
use tokio::time::sleep;
use tower::{BoxError, service_fn};

/// The lease is not safely held, so the request was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the leader's lease is not safely held")]
pub(super) struct FenceDown;

/// The request was given up: whether it was carried out is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no answer within {} ms, after which the lease is not safely held any more", .0.as_millis())]
pub(super) struct TooLate(Duration);

/// A client whose requests go through `client` while `fence` lets them.
pub(super) fn client(client: Client, fence: Arc<dyn Fence>) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = service_fn(move |request: Request<Body>| {
        let (client, fence) = (client.clone(), fence.clone());
        async move {
            let now = fence.uptime();
            match fence.remaining() {
                Some(remaining) => within(remaining, (&*fence, now), whole(&client, request)).await,
                None => Err(FenceDown.into()),
            }
        }
    });
    Client::new(service, namespace)
}

/// The work's outcome, unless its time is over first, which began at `began` of the fence's clock.
async fn within<T>(
    time: Duration,
    (fence, began): (&dyn Fence, Duration),
    work: impl Future<Output = Result<T, BoxError>>,
) -> Result<T, BoxError> {
    let (mut work, mut over) = (pin!(work), pin!(sleep(time)));
    poll_fn(|context| {
        // After a freeze, or a sleep of the machine, the timer may not have been told yet that its time has come.
        if over.as_mut().poll(context).is_ready() || fence.uptime().saturating_sub(began) >= time {
            return Poll::Ready(Err(TooLate(time).into()));
        }
        work.as_mut().poll(context)
    })
    .await
}

/// The answer with its body: an answer that ends half-way is none.
async fn whole(client: &Client, request: Request<Body>) -> Result<Response<Full<Bytes>>, BoxError> {
    let (parts, body) = client.send(request).await?.into_parts();
    Ok(Response::from_parts(parts, Full::new(body.collect().await?.to_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::api::{Api, PostParams};
    use miyako_api::kubevirt::VirtualMachineInstanceMigration as Migration;
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    use tokio::time::Instant;

    /// A lease that runs out when its clock shows so much.
    struct Until {
        over: Duration,
        began: Instant,
        /// Seconds that the machine has slept.
        slept: AtomicU64,
    }

    impl Until {
        fn secs(seconds: u64) -> Arc<Self> {
            Arc::new(Self { over: Duration::from_secs(seconds), began: Instant::now(), slept: AtomicU64::new(0) })
        }
    }

    impl Fence for Until {
        fn remaining(&self) -> Option<Duration> {
            let left = self.over.saturating_sub(self.uptime());
            (!left.is_zero()).then_some(left)
        }

        fn uptime(&self) -> Duration {
            self.began.elapsed() + Duration::from_secs(self.slept.load(Ordering::SeqCst))
        }
    }

    /// A server that carries a request out after a while, if its client is still there.
    fn slow_server(takes: Duration, done: Arc<AtomicU32>) -> Client {
        let service = service_fn(move |_: Request<Body>| {
            let done = done.clone();
            async move {
                tokio::time::sleep(takes).await;
                done.fetch_add(1, Ordering::SeqCst);
                Ok::<_, BoxError>(Response::new(Full::new(Bytes::from_static(b"{\"metadata\":{},\"spec\":{}}"))))
            }
        });
        Client::new(service, "default")
    }

    async fn create(client: Client) -> Result<Migration, kube::Error> {
        Api::<Migration>::namespaced(client, "vms").create(&PostParams::default(), &Migration::default()).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_hangs_is_over_before_the_lease_is() {
        let done = Arc::new(AtomicU32::new(0));
        let fence = Until::secs(4);
        let hung = client(slow_server(Duration::from_secs(60), done.clone()), fence.clone());
        let began = Instant::now();
        let error = create(hung.clone()).await.expect_err("nobody answers");
        assert!(error.to_string().contains("no answer"), "{error}");
        assert_eq!(began.elapsed(), Duration::from_secs(4));
        assert!(create(hung).await.expect_err("the lease is over").to_string().contains("not safely held"));
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(done.load(Ordering::SeqCst), 0, "what was given up is not carried out later");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_time_is_answered() {
        let done = Arc::new(AtomicU32::new(0));
        let fence = Until::secs(4);
        create(client(slow_server(Duration::from_secs(3), done.clone()), fence)).await.expect("in time");
        assert_eq!(done.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_goes_on_after_a_freeze() {
        let done = Arc::new(AtomicU32::new(0));
        let fence = Until::secs(4);
        // The work and the lease are due at the same moment when the process wakes.
        let frozen = tokio::spawn(create(client(slow_server(Duration::from_secs(1), done.clone()), fence)));
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(frozen.await.expect("it does not panic").is_err());
        assert_eq!(done.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_goes_on_after_the_machine_slept() {
        let done = Arc::new(AtomicU32::new(0));
        let fence = Until::secs(4);
        let client = client(slow_server(Duration::from_secs(1), done.clone()), fence.clone());
        let asleep = tokio::spawn(create(client.clone()));
        tokio::task::yield_now().await;
        // No timer has heard of the hour that passed.
        fence.slept.store(3600, Ordering::SeqCst);
        assert!(asleep.await.expect("it does not panic").is_err());
        assert!(create(client).await.is_err(), "and nothing begins");
        assert_eq!(done.load(Ordering::SeqCst), 0);
    }
}
