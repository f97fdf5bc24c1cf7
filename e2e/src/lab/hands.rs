//! The stand-in's hands with real QEMU: what KubeVirt's virt-handlers and virt-launchers do when virt-controller has
//! handed a migration off to them.
//!
//! ```text
//! prepare_target   the target's launcher is up ─▶ QEMU -incoming ─▶ target proxy ─▶ it listens ─▶ source proxy   Ready
//! start            QMP migrate on the source, through the launchers' sockets and both proxies                   Moving
//! stage            what QEMU says                                                                        Done | Failed
//! ```
//! Each migration has a task of its own, so that calls return at once.

use super::machines::{Machines, Running};
use anyhow::Context as _;
use futures::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;
use miyako::sim::kubevirt::{Hands, Job, Mode, Stage};
use miyako_core::model::{Bytes, Uid};
use miyako_lab::qemu::migration::{self, Cause, Migration, Outcome, Phase, Settings, Times};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How long a target's launcher may take to come up before the migration is given up: KubeVirt's own patience with a
/// target that does not get ready is longer, but no run of the lab is.
const LAUNCHER_WITHIN: Duration = Duration::from_secs(45);

/// What became of one migration, and when.
#[derive(Debug, Clone)]
pub struct Course {
    /// The VirtualMachineInstanceMigration's uid.
    pub uid: String,
    /// The VM's name.
    pub vm: String,
    /// From which node.
    pub source: String,
    /// To which.
    pub target: String,
    /// The hands heard of it.
    pub asked: Instant,
    /// The target listened.
    pub ready: Option<Instant>,
    /// What QEMU told of its times.
    pub times: Option<Times>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why it ended before it began, if it did.
    pub failure: Option<String>,
    /// Bytes of memory that were sent.
    pub sent: u64,
    /// Rounds over the memory.
    pub rounds: u64,
}

/// All migrations so far, in the order in which they were asked for.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Course>>>);

impl Log {
    /// What is known now.
    #[must_use]
    pub fn courses(&self) -> Vec<Course> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn begin(&self, course: Course) -> usize {
        let mut courses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        courses.push(course);
        courses.len() - 1
    }

    fn change(&self, index: usize, change: impl FnOnce(&mut Course)) {
        if let Some(course) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
            change(course);
        }
    }
}

/// What the stand-in wants of a migration's task.
#[derive(Debug)]
enum Order {
    Start,
    Switch,
    Pause,
    Abort(String),
}

/// A migration that was asked for.
#[derive(Debug)]
struct Underway {
    orders: mpsc::UnboundedSender<Order>,
    stage: watch::Receiver<Stage>,
    task: AbortHandle,
    /// QEMU was told to begin, or is about to be.
    started: bool,
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The hands.
#[derive(Debug)]
pub struct QemuHands {
    machines: Machines,
    log: Log,
    underway: BTreeMap<Uid, Underway>,
}

impl QemuHands {
    /// Hands for these machines, which write what they do into the log.
    #[must_use]
    pub fn new(machines: Machines, log: Log) -> Self {
        Self { machines, log, underway: BTreeMap::new() }
    }

    fn order(&self, migration: &Uid, order: Order) {
        if let Some(underway) = self.underway.get(migration) {
            // A task that is over needs no orders.
            let _ = underway.orders.send(order);
        }
    }
}

impl Hands for QemuHands {
    fn prepare_target(&mut self, job: &Job, _now: Timestamp) {
        let (orders, inbox) = mpsc::unbounded_channel();
        let (sender, stage) = watch::channel(Stage::Preparing);
        let index = self.log.begin(Course {
            uid: job.uid.as_str().to_owned(),
            vm: job.vm.name.to_string(),
            source: job.source.as_str().to_owned(),
            target: job.target.as_str().to_owned(),
            asked: Instant::now(),
            ready: None,
            times: None,
            outcome: None,
            failure: None,
            sent: 0,
            rounds: 0,
        });
        let task = Task {
            machines: self.machines.clone(),
            log: self.log.clone(),
            index,
            job: job.clone(),
            orders: inbox,
            stage: sender,
        };
        let task = tokio::spawn(task.run()).abort_handle();
        self.underway.insert(job.uid.clone(), Underway { orders, stage, task, started: false });
    }

    fn start(&mut self, job: &Job, _now: Timestamp) {
        if let Some(underway) = self.underway.get_mut(&job.uid)
            && !std::mem::replace(&mut underway.started, true)
        {
            self.order(&job.uid, Order::Start);
        }
    }

    fn switch_to_post_copy(&mut self, migration: &Uid, _now: Timestamp) {
        self.order(migration, Order::Switch);
    }

    fn pause(&mut self, migration: &Uid, _now: Timestamp) {
        self.order(migration, Order::Pause);
    }

    fn abort(&mut self, migration: &Uid, reason: &str, _now: Timestamp) {
        self.order(migration, Order::Abort(reason.to_owned()));
    }

    fn stage(&mut self, migration: &Uid, _now: Timestamp) -> Stage {
        let Some(underway) = self.underway.get(migration) else { return Stage::Unknown };
        match underway.stage.borrow().clone() {
            // Between the order and its effect.
            Stage::Ready { .. } if underway.started => Stage::Moving { mode: Mode::PreCopy, sent: Bytes(0) },
            stage => stage,
        }
    }

    fn forget(&mut self, migration: &Uid) {
        self.underway.remove(migration);
    }
}

/// One migration.
struct Task {
    machines: Machines,
    log: Log,
    index: usize,
    job: Job,
    orders: mpsc::UnboundedReceiver<Order>,
    stage: watch::Sender<Stage>,
}

/// How a migration ended, for the stand-in.
enum End {
    Arrived,
    Stayed { reason: String, aborted: bool },
    Lost { reason: String },
}

impl Task {
    async fn run(mut self) {
        let end = match self.carry_out().await {
            Ok(end) => end,
            Err(error) => {
                let reason = format!("{error:#}");
                self.log.change(self.index, |course| course.failure = Some(reason.clone()));
                End::Stayed { reason, aborted: false }
            }
        };
        let at = Timestamp::now();
        self.stage.send_replace(match end {
            End::Arrived => Stage::Done { at },
            End::Stayed { reason, aborted } => Stage::Failed { at, reason, aborted, lost: false },
            End::Lost { reason } => Stage::Failed { at, reason, aborted: false, lost: true },
        });
    }

    async fn carry_out(&mut self) -> anyhow::Result<End> {
        let machines = self.machines.clone();
        let target_pod = self.job.target_pod.clone();
        let source = machines.up(&self.job.source_pod, LAUNCHER_WITHIN).await?;
        let coming_up = machines.up(&target_pod, LAUNCHER_WITHIN);
        let target = match self.unless_aborted(coming_up.boxed()).await? {
            Ok(target) => target,
            Err(end) => return Ok(end),
        };
        let end = self.migrate(&source, &target).await;
        for running in [&source, &target] {
            // A node that is gone has nothing to close.
            if let Err(error) = running.node().handler().close(self.job.uid.as_str()).await {
                tracing::debug!(%error, "a proxy was not closed");
            }
        }
        end
    }

    /// Waits for something, unless the stand-in gives up first.
    async fn unless_aborted<T>(&mut self, waiting: BoxFuture<'_, anyhow::Result<T>>) -> anyhow::Result<Result<T, End>> {
        let mut waiting = waiting;
        loop {
            tokio::select! {
                found = &mut waiting => return found.map(Ok),
                order = self.orders.recv() => match order {
                    Some(Order::Abort(reason)) => return Ok(Err(End::Stayed { reason, aborted: true })),
                    Some(_) => {}
                    None => anyhow::bail!("forgotten"),
                },
            }
        }
    }

    async fn migrate(&mut self, source: &Running, target: &Running) -> anyhow::Result<End> {
        let settings = Settings {
            bandwidth: self.job.bandwidth,
            downtime_limit: self.job.max_downtime,
            post_copy: self.job.allow_post_copy,
            auto_converge: self.job.allow_auto_converge,
            limited_cpu: self.job.limited_cpu,
        };
        let name = self.job.uid.as_str().to_owned();
        let from = source.machine()?;
        let machine = self.machines.launch(target, true).await.context("the target's QEMU")?;
        let prepared = Migration::prepare(&machine, &target.launcher().migration_socket(), settings).await?;
        let address = target.node().address();
        let ports = target.node().handler().receive(&name, target.launcher().sockets_on_host()).await?;
        // As KubeVirt tells them: a port of virt-handler to the port within the launcher.
        let told = ports.iter().map(|(inside, outside)| (outside.to_string(), i64::from(*inside))).collect();
        let sockets = source.launcher().sockets_on_host();
        source.node().handler().send(&name, sockets, address.into(), ports).await?;
        self.log.change(self.index, |course| course.ready = Some(Instant::now()));
        self.stage.send_replace(Stage::Ready { address: address.to_string(), ports: told });
        loop {
            match self.orders.recv().await.context("forgotten")? {
                Order::Start => break,
                Order::Abort(reason) => return Ok(End::Stayed { reason, aborted: true }),
                Order::Switch | Order::Pause => {}
            }
        }
        let migration = prepared.start(&from, &source.launcher().migration_socket()).await?;
        let outcome = self.follow(&migration).await?;
        let times = migration.times();
        self.log.change(self.index, |course| {
            course.times = Some(times);
            course.outcome = Some(outcome.0);
        });
        self.settle(outcome, &from, &machine).await
    }

    /// Obeys orders and tells how far it is, until the end. The reason of an abort comes with it.
    async fn follow(&mut self, migration: &Migration) -> anyhow::Result<(Outcome, Option<String>)> {
        let mut phases = migration.watch();
        let mut reason = None;
        loop {
            tokio::select! {
                changed = phases.changed() => changed.context("nobody follows QEMU any more")?,
                order = self.orders.recv() => match order.context("forgotten")? {
                    Order::Start => {}
                    Order::Switch => obeyed(migration.switch_to_post_copy().await),
                    Order::Pause => obeyed(migration.pause_guest().await),
                    Order::Abort(why) => {
                        reason.get_or_insert(why);
                        obeyed(migration.cancel().await);
                    }
                },
            }
            let (mode, progress) = match *phases.borrow_and_update() {
                Phase::Connecting => continue,
                Phase::PreCopy(progress) => (Mode::PreCopy, progress),
                Phase::PostCopy(progress) => (Mode::PostCopy, progress),
                Phase::Ended(outcome) => return Ok((outcome, reason)),
            };
            if mode == Mode::PostCopy {
                // The guest runs there from now on.
                self.machines.settle(self.job.vm.name.as_str(), &self.job.target_pod);
            }
            self.log.change(self.index, |course| {
                course.sent = progress.transferred;
                course.rounds = progress.rounds;
                course.times = Some(migration.times());
            });
            self.stage.send_replace(Stage::Moving { mode, sent: Bytes(progress.transferred) });
        }
    }

    /// What is left to do after the end: a QEMU that is not needed any more goes, as libvirt sees to it.
    async fn settle(
        &self,
        (outcome, reason): (Outcome, Option<String>),
        source: &miyako_lab::qemu::Machine,
        target: &miyako_lab::qemu::Machine,
    ) -> anyhow::Result<End> {
        Ok(match outcome {
            Outcome::Completed(_) => {
                self.machines.settle(self.job.vm.name.as_str(), &self.job.target_pod);
                kill(source);
                End::Arrived
            }
            Outcome::Cancelled => {
                kill(target);
                End::Stayed { reason: reason.unwrap_or_else(|| "cancelled".to_owned()), aborted: true }
            }
            Outcome::Failed(cause) => {
                kill(target);
                let reason = reason.unwrap_or_else(|| format!("Live migration failed: {}", text_of(cause)));
                End::Stayed { reason, aborted: false }
            }
            Outcome::Lost(cause) => {
                kill(source);
                kill(target);
                End::Lost { reason: format!("Live migration failed and the VM is lost: {}", text_of(cause)) }
            }
        })
    }
}

fn kill(machine: &miyako_lab::qemu::Machine) {
    if let Err(error) = machine.process().kill() {
        tracing::error!(%error, "a QEMU that is not needed any more does not die");
    }
}

fn obeyed<E: std::fmt::Display>(answer: Result<(), E>) {
    // What QEMU refuses shows in its phase; a QEMU that is gone, too.
    if let Err(error) = answer {
        tracing::warn!(%error, "QEMU did not obey");
    }
}

fn text_of(cause: Cause) -> &'static str {
    match cause {
        Cause::SourceDied => "the source's QEMU died",
        Cause::TargetDied => "the target's QEMU died",
        Cause::Broken => "the connection broke",
        Cause::CancelledTooLate => "it was cancelled after the switch",
    }
}

/// The name of a way to arrive, as KubeVirt has it.
#[must_use]
pub fn mode_name(mode: migration::Mode) -> &'static str {
    match mode {
        migration::Mode::PreCopy => Mode::PreCopy.as_str(),
        migration::Mode::PostCopy => Mode::PostCopy.as_str(),
        migration::Mode::Paused => Mode::Paused.as_str(),
    }
}
