//! A link between two machines that is slow, stands still, or breaks.

use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Bytes per second in each direction of each connection.
const RATE: f64 = 16e6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Still,
    Broken,
}

/// A link; dropping it breaks it.
pub(crate) struct Link {
    state: watch::Sender<State>,
}

impl Link {
    /// Accepts connections on one socket and carries them to another.
    pub(crate) fn new(from: &Path, to: &Path) -> anyhow::Result<Self> {
        let (state, watch) = watch::channel(State::Open);
        let (listener, to) = (UnixListener::bind(from)?, to.to_owned());
        tokio::spawn(async move {
            let mut carried = JoinSet::new();
            let mut gate = watch.clone();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = gate.wait_for(|state| *state == State::Broken) => return,
                };
                let (Ok((here, _)), Ok(there)) = (accepted, UnixStream::connect(&to).await) else { return };
                let ((a, b), (c, d)) = (here.into_split(), there.into_split());
                carried.spawn(carry(a, d, watch.clone()));
                carried.spawn(carry(c, b, watch.clone()));
            }
        });
        Ok(Self { state })
    }

    /// Nothing goes through any more, and nobody is told.
    pub(crate) fn stand_still(&self) {
        self.state.send_replace(State::Still);
    }

    /// Closes all connections.
    pub(crate) fn cut(&self) {
        self.state.send_replace(State::Broken);
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut bytes = vec![0; 1 << 16];
    let mut gate = state.clone();
    let work = async {
        loop {
            gate.wait_for(|state| *state == State::Open).await.ok()?;
            let read @ 1.. = from.read(&mut bytes).await.ok()? else { return None::<()> };
            to.write_all(&bytes[..read]).await.ok()?;
            tokio::time::sleep(Duration::from_secs_f64(read as f64 / RATE)).await;
        }
    };
    // A link that is dropped is as good as cut.
    tokio::select! {
        _ = work => {}
        _ = state.wait_for(|state| *state == State::Broken) => {}
    }
}
