//! A machine that only seems to sleep, apart from the process of its agent: the agent can be killed, frozen and started
//! anew while the machine sleeps on, as it would beneath a real one.
//!
//! ```text
//!  stand-agent (a process) ── Unix socket, one question per connection ──▶ serve() ──▶ SimulatedHost (the stand's process)
//! ```

mod remote;

pub use remote::RemoteHost;

use anyhow::Context as _;
use miyako_agent::power::{Host as _, HostError, SimulatedHost};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// What an agent asks its machine, as a line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Question {
    /// Which boot this is, and how long it slept in it.
    Machine,
    /// Set the alarm.
    SetAlarm(Duration),
    /// Take the alarm back.
    ClearAlarm,
    /// Wake-up events so far.
    WakeupCount,
    /// Sleep only if there were no more.
    ConfirmWakeupCount(u64),
    /// Sleep.
    EnterMem,
}

/// What the machine answers, as a line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Answer {
    /// To [`Question::Machine`].
    Machine {
        /// The boot id.
        boot_id: String,
        /// How long it slept since.
        asleep: Duration,
    },
    /// It is done.
    Done,
    /// Yes or no.
    Flag(bool),
    /// A number of events.
    Count(u64),
    /// It does not do that (EBUSY).
    Refused(String),
}

/// Answers the agents of a machine at a socket until dropped. What an agent began goes on when the agent is killed.
///
/// # Errors
/// When the socket can't be made.
pub fn serve(socket: &Path, host: Arc<SimulatedHost>) -> anyhow::Result<impl Future<Output = ()> + Send + use<>> {
    let listener = UnixListener::bind(socket).with_context(|| format!("listening at {}", socket.display()))?;
    Ok(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let host = Arc::clone(&host);
            // On its own, so that the machine sleeps on without whoever asked.
            tokio::spawn(async move {
                if let Err(error) = answer(stream, &host).await {
                    tracing::debug!(%error, "nobody waits for the machine's answer any more");
                }
            });
        }
    })
}

async fn answer(stream: UnixStream, host: &SimulatedHost) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line)? {
        Question::Machine => host.machine().map(|it| Answer::Machine { boot_id: it.boot_id, asleep: it.asleep }),
        Question::SetAlarm(after) => host.set_alarm(after).map(|()| Answer::Done),
        Question::ClearAlarm => host.clear_alarm().map(Answer::Flag),
        Question::WakeupCount => host.wakeup_count().await.map(Answer::Count),
        Question::ConfirmWakeupCount(count) => host.confirm_wakeup_count(count).map(Answer::Flag),
        Question::EnterMem => host.enter_mem().await.map(|()| Answer::Done),
    };
    let answer = answer.unwrap_or_else(|error: HostError| Answer::Refused(error.in_full()));
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    stream.get_mut().write_all(&text).await?;
    Ok(())
}
