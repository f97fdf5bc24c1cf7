//! Tells many waiters that something happened, in the order in which they began to wait.
//!
//! tokio's `watch` spreads its waiters over several lists and picks among them at random, so two runs of one seed would
//! wake the watches of one collection in different orders.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::Notify;

/// Counts what happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signal(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    count: AtomicU64,
    waiting: Notify,
}

impl Signal {
    /// Something happened.
    pub(crate) fn raise(&self) {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        self.0.waiting.notify_waiters();
    }

    /// A listener that has heard everything so far.
    pub(crate) fn listen(&self) -> Listener {
        Listener { heard: self.0.count.load(Ordering::Relaxed), signal: self.clone() }
    }
}

/// One who waits.
#[derive(Debug)]
pub(crate) struct Listener {
    signal: Signal,
    heard: u64,
}

impl Listener {
    /// Takes note of everything so far.
    pub(crate) fn catch_up(&mut self) {
        self.heard = self.signal.0.count.load(Ordering::Relaxed);
    }

    /// Waits until something happens that was not heard yet.
    pub(crate) async fn heard(&mut self) {
        loop {
            let mut next = std::pin::pin!(self.signal.0.waiting.notified());
            // From here on nothing that is raised is missed.
            next.as_mut().enable();
            if self.signal.0.count.load(Ordering::Relaxed) != self.heard {
                break;
            }
            next.await;
        }
        self.catch_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[tokio::test]
    async fn who_waits_first_hears_first() {
        for _ in 0..20 {
            let signal = Signal::default();
            let heard = Arc::new(Mutex::new(vec![]));
            let waiters: Vec<_> = (0..40)
                .map(|number| {
                    let (mut listener, heard) = (signal.listen(), heard.clone());
                    tokio::spawn(async move {
                        listener.heard().await;
                        heard.lock().unwrap().push(number);
                    })
                })
                .collect();
            tokio::task::yield_now().await;
            signal.raise();
            for waiter in waiters {
                waiter.await.unwrap();
            }
            assert_eq!(*heard.lock().unwrap(), (0..40).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn what_was_raised_before_is_heard_at_once_unless_it_was_noted() {
        let signal = Signal::default();
        let mut listener = signal.listen();
        signal.raise();
        listener.heard().await;
        signal.raise();
        listener.catch_up();
        let nothing = tokio::time::timeout(std::time::Duration::from_millis(5), listener.heard()).await;
        assert!(nothing.is_err());
    }
}
