//! The agent's end.

use super::{Answer, Question};
use miyako_agent::power::preflight::Facts;
use miyako_agent::power::{Host, HostError, Machine, SimulatedHost};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A machine behind a socket.
#[derive(Debug)]
pub struct RemoteHost {
    socket: PathBuf,
}

impl RemoteHost {
    /// The machine that [`super::serve`] plays at this socket.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Asks and waits. All but sleep is answered at once, so the agent's only thread may stand still meanwhile.
    fn ask(&self, question: &Question) -> Result<Answer, HostError> {
        let read = |source| HostError::Read { path: self.socket.clone(), source };
        let answer = exchange(&self.socket, question).map_err(read)?;
        match answer {
            Answer::Refused(why) => Err(HostError::Write {
                path: self.socket.clone(),
                value: format!("{question:?}"),
                source: io::Error::new(io::ErrorKind::ResourceBusy, why),
            }),
            answer => Ok(answer),
        }
    }

    fn other(&self, found: &Answer) -> HostError {
        HostError::Unexpected {
            path: self.socket.clone(),
            found: format!("{found:?}"),
            expected: "an answer to the question".into(),
        }
    }

    fn flag(&self, question: &Question) -> Result<bool, HostError> {
        match self.ask(question)? {
            Answer::Flag(flag) => Ok(flag),
            other => Err(self.other(&other)),
        }
    }
}

fn exchange(socket: &Path, question: &Question) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    let mut text = serde_json::to_vec(question)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

impl Host for RemoteHost {
    fn machine(&self) -> Result<Machine, HostError> {
        match self.ask(&Question::Machine)? {
            Answer::Machine { boot_id, asleep } => Ok(Machine { boot_id, asleep }),
            other => Err(self.other(&other)),
        }
    }

    fn facts(&self) -> Result<Facts, HostError> {
        SimulatedHost::new().facts()
    }

    fn choose_deep(&self) -> Result<(), HostError> {
        Ok(())
    }

    fn set_alarm(&self, after: Duration) -> Result<(), HostError> {
        self.ask(&Question::SetAlarm(after)).map(drop)
    }

    fn clear_alarm(&self) -> Result<bool, HostError> {
        self.flag(&Question::ClearAlarm)
    }

    async fn wakeup_count(&self) -> Result<u64, HostError> {
        match self.ask(&Question::WakeupCount)? {
            Answer::Count(count) => Ok(count),
            other => Err(self.other(&other)),
        }
    }

    fn confirm_wakeup_count(&self, count: u64) -> Result<bool, HostError> {
        self.flag(&Question::ConfirmWakeupCount(count))
    }

    async fn enter_mem(&self) -> Result<(), HostError> {
        let machine = Self::new(&self.socket);
        // While it sleeps the whole process is frozen; until then, and when it wakes, the other tasks go on.
        let asked = tokio::task::spawn_blocking(move || machine.ask(&Question::EnterMem)).await;
        asked.map_err(|error| HostError::Shutdown(error.to_string()))?.map(drop)
    }

    fn wake_source(&self) -> Option<String> {
        None
    }

    async fn power_off(&self) -> Result<(), HostError> {
        Err(HostError::Shutdown("this machine only sleeps".into()))
    }

    async fn kubelet(&self) -> Result<(), String> {
        Ok(())
    }
}
