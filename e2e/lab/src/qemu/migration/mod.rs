//! Leading a VM from one QEMU to another.
//!
//! [`Migration::start`] prepares both ends and begins with pre-copy; a task then follows the events of both. The owner
//! decides when to switch to post-copy, to pause the guest, or to give up: the lab plays virt-launcher with these.

mod course;
mod settings;

pub use course::{Cause, Mode, Outcome, Phase, Times};
pub use settings::Settings;

use super::machine::Machine;
use super::qmp::{Events, Progress, Qmp, QmpError};
use super::spec::{BadSpec, check_socket};
use course::{Course, End};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// How often the source is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// How often the state is looked at although nothing was heard.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a source may take to say how much it has sent, once all is over.
const LAST_FIGURES_WITHIN: Duration = Duration::from_secs(1);

/// The two sockets of the way, as the QEMU at each end sees them. A proxy may lie between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where the target listens.
    pub listen: PathBuf,
    /// Where the source connects to.
    pub connect: PathBuf,
}

impl Route {
    /// Without a proxy between.
    pub fn direct(socket: impl Into<PathBuf>) -> Self {
        let listen = socket.into();
        Self { connect: listen.clone(), listen }
    }
}

/// Why a migration did not begin. The source runs on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A socket that can't be.
    #[error(transparent)]
    Socket(#[from] BadSpec),
    /// The source could not be prepared.
    #[error("the source: {0}")]
    Source(QmpError),
    /// The target could not be prepared.
    #[error("the target: {0}")]
    Target(QmpError),
}

/// A target that listens.
#[derive(Debug)]
pub struct Prepared<'target> {
    target: &'target Machine,
    settings: Settings,
}

/// A migration under way, or ended. Dropping it stops following it; QEMU goes on.
#[derive(Debug)]
pub struct Migration {
    source: Qmp,
    course: Arc<Mutex<Course>>,
    phase: watch::Receiver<Phase>,
    follower: JoinHandle<()>,
    asker: JoinHandle<()>,
}

impl Migration {
    /// Lets the target listen.
    ///
    /// # Errors
    /// When the target refuses, is gone, or stands still.
    pub async fn prepare<'target>(
        target: &'target Machine,
        listen: &Path,
        settings: Settings,
    ) -> Result<Prepared<'target>, StartError> {
        check_socket(listen)?;
        set(target.qmp(), settings).await.map_err(StartError::Target)?;
        let uri = format!("unix:{}", listen.display());
        target.qmp().execute("migrate-incoming", json!({"uri": uri})).await.map_err(StartError::Target)?;
        Ok(Prepared { target, settings })
    }

    /// Prepares both ends and begins.
    ///
    /// # Errors
    /// When an end refuses, is gone, or stands still. What happens later is the [`Outcome`].
    pub async fn start(
        source: &Machine,
        target: &Machine,
        route: &Route,
        settings: Settings,
    ) -> Result<Self, StartError> {
        Self::prepare(target, &route.listen, settings).await?.start(source, &route.connect).await
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Shows each change of where it stands.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    /// When things happened, as far as they have.
    #[must_use]
    pub fn times(&self) -> Times {
        lock(&self.course).times.clone()
    }

    /// How far it is, by what the source said last; the whole of it once it has ended.
    #[must_use]
    pub fn progress(&self) -> Progress {
        lock(&self.course).progress()
    }

    /// Waits until the first round over the memory is under way, or the migration has ended.
    pub async fn under_way(&self) -> Phase {
        self.wait_for(|phase| *phase != Phase::Connecting).await
    }

    /// Waits for the end. It comes when both ends said so or died; a QEMU that is frozen, or cut off without notice, keeps
    /// the migration where it is until someone cancels it, kills an end, or lets it go on.
    pub async fn outcome(&self) -> Outcome {
        loop {
            if let Phase::Ended(outcome) = self.wait_for(|phase| matches!(phase, Phase::Ended(_))).await {
                return outcome;
            }
        }
    }

    async fn wait_for(&self, wanted: impl FnMut(&Phase) -> bool) -> Phase {
        let mut phase = self.phase.clone();
        // The follower ends only after it has told the end.
        phase.wait_for(wanted).await.map_or_else(|_| self.phase(), |phase| *phase)
    }

    /// Switches to post-copy: the guest runs on the target within moments, and can't come back.
    ///
    /// # Errors
    /// When QEMU refuses (post-copy was not allowed, or the migration is over), is gone, or stands still.
    pub async fn switch_to_post_copy(&self) -> Result<(), QmpError> {
        // The moment of the wish, not of the answer.
        let now = Instant::now();
        self.source.execute("migrate-start-postcopy", json!({})).await?;
        lock(&self.course).told_to_switch(now);
        Ok(())
    }

    /// Gives up. Before the guest runs on the target this leaves the source running.
    ///
    /// # Errors
    /// When QEMU is gone or stands still.
    pub async fn cancel(&self) -> Result<(), QmpError> {
        lock(&self.course).told_to_cancel();
        self.source.execute("migrate_cancel", json!({})).await.map(drop)
    }

    /// Pauses the guest so that the migration finishes, as KubeVirt does when it takes too long and post-copy is not
    /// allowed. The guest runs on when it has arrived.
    ///
    /// # Errors
    /// When QEMU is gone or stands still.
    pub async fn pause_guest(&self) -> Result<(), QmpError> {
        lock(&self.course).told_to_pause();
        self.source.execute("stop", json!({})).await.map(drop)
    }

    /// Allows this downtime from now on.
    ///
    /// # Errors
    /// When QEMU is gone or stands still.
    pub async fn allow_downtime(&self, limit: Duration) -> Result<(), QmpError> {
        /// QEMU's longest.
        const LONGEST: Duration = Duration::from_secs(2000);
        let limit = u64::try_from(limit.min(LONGEST).as_millis()).unwrap_or(u64::MAX);
        self.source.execute("migrate-set-parameters", json!({"downtime-limit": limit})).await.map(drop)
    }
}

impl Prepared<'_> {
    /// Begins.
    ///
    /// # Errors
    /// When the source refuses, is gone, or stands still.
    pub async fn start(self, source: &Machine, connect: &Path) -> Result<Migration, StartError> {
        check_socket(connect)?;
        set(source.qmp(), self.settings).await.map_err(StartError::Source)?;
        let running = source.is_running().await.map_err(StartError::Source)?;
        let course = Arc::new(Mutex::new(Course::new(Instant::now(), running)));
        let (sender, phase) = watch::channel(Phase::Connecting);
        // Both are followed before anything can happen; what the source heard of earlier migrations is past.
        let follower = Follower {
            course: Arc::clone(&course),
            phase: sender,
            source: Side::of(source),
            target: Side::of(self.target),
        };
        let uri = format!("unix:{}", connect.display());
        source.qmp().execute("migrate", json!({"uri": uri})).await.map_err(StartError::Source)?;
        let asker = tokio::spawn(ask(source.qmp().clone(), Arc::clone(&course)));
        let follower = tokio::spawn(follower.follow());
        Ok(Migration { source: source.qmp().clone(), course, phase, follower, asker })
    }
}

impl Drop for Migration {
    fn drop(&mut self) {
        self.follower.abort();
        self.asker.abort();
    }
}

fn lock(course: &Mutex<Course>) -> MutexGuard<'_, Course> {
    course.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn set(qmp: &Qmp, settings: Settings) -> Result<(), QmpError> {
    qmp.execute("migrate-set-capabilities", settings.capabilities(qmp.version())).await?;
    qmp.execute("migrate-set-parameters", settings.parameters(qmp.version())).await.map(drop)
}

/// Asks the source how far it is, for as long as it answers.
async fn ask(source: Qmp, course: Arc<Mutex<Course>>) {
    loop {
        match source.execute("query-migrate", json!({})).await {
            Ok(answer) => lock(&course).progressed(Progress::read(&answer)),
            Err(QmpError::Silent { .. }) => {}
            Err(_) => return,
        }
        sleep(ASK_EVERY).await;
    }
}

/// One end, as it is followed.
struct Side {
    qmp: Qmp,
    events: Events,
}

impl Side {
    fn of(machine: &Machine) -> Self {
        Self { qmp: machine.qmp().clone(), events: machine.qmp().events_from_now() }
    }
}

struct Follower {
    course: Arc<Mutex<Course>>,
    phase: watch::Sender<Phase>,
    source: Side,
    target: Side,
}

impl Follower {
    async fn follow(mut self) {
        // A QMP connection closes when its process ends, and never before.
        let (mut source_lives, mut target_lives) = (true, true);
        loop {
            tokio::select! {
                biased;
                event = self.source.events.next(), if source_lives => match event {
                    Some(event) => lock(&self.course).heard(End::Source, &event),
                    None => source_lives = false,
                },
                event = self.target.events.next(), if target_lives => match event {
                    Some(event) => lock(&self.course).heard(End::Target, &event),
                    None => target_lives = false,
                },
                () = sleep(LOOK_EVERY) => {},
            }
            let (errand, phase) = {
                let mut course = lock(&self.course);
                if !source_lives {
                    course.died(End::Source);
                }
                if !target_lives {
                    course.died(End::Target);
                }
                (course.errand(), course.phase(Instant::now()))
            };
            if let Some(end) = errand {
                let side = if end == End::Source { &self.source } else { &self.target };
                // If this fails the end is gone, and its events say so.
                if let Err(error) = side.qmp.execute("cont", json!({})).await {
                    tracing::warn!(%error, ?end, "a guest could not be told to run on");
                }
            }
            if matches!(phase, Phase::Ended(_)) && source_lives {
                // The last figures; a source that has just been frozen must not hold up the end.
                if let Ok(Ok(answer)) =
                    timeout(LAST_FIGURES_WITHIN, self.source.qmp.execute("query-migrate", json!({}))).await
                {
                    lock(&self.course).progressed(Progress::read(&answer));
                }
            }
            self.phase.send_if_modified(|old| std::mem::replace(old, phase) != phase);
            if matches!(phase, Phase::Ended(_)) {
                return;
            }
        }
    }
}
