//! Hands that only count time: how long a migration takes follows from the guest's memory, how fast it is written,
//! and the network (the pre-copy rounds of Liu et al. §3, without their compression of re-dirtied pages).

use super::hands::{Hands, Job, Mode, Stage};
use jiff::Timestamp;
use miyako_core::model::{Bytes, NodeName, Uid, VmKey};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// How a guest writes its memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dirtying {
    /// Bytes dirtied per second.
    pub rate: f64,
    /// The most that is dirty at once: what the guest writes to at all.
    pub working_set: Bytes,
}

/// How fast things go.
#[derive(Debug, Clone)]
pub struct ClockSettings {
    /// The migration network, in bytes per second: 1 GbE, as in the papers' racks, less its protocols.
    pub bandwidth: f64,
    /// How long a target takes to get ready.
    pub prepare: Duration,
    /// How long the switch between hosts takes besides the last data.
    pub handover: Duration,
    /// How long an abort takes.
    pub abort: Duration,
    /// How much speeds and times vary, as a share: 0.1 is ±10 %.
    pub variation: f64,
    /// How guests write when nobody says otherwise.
    pub dirtying: Dirtying,
}

impl Default for ClockSettings {
    fn default() -> Self {
        Self {
            bandwidth: 117e6,
            prepare: Duration::from_millis(80),
            handover: Duration::from_millis(60),
            abort: Duration::from_millis(300),
            variation: 0.1,
            dirtying: Dirtying { rate: 10e6, working_set: Bytes::mib(256) },
        }
    }
}

/// Something that goes wrong with one migration.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// It fails so long after its start; in post-copy the guest is lost.
    Fail {
        /// After its start.
        after: Duration,
        /// The reason that is told.
        reason: String,
    },
    /// It fails so long after its switch to post-copy, if it gets there.
    FailInPostCopy {
        /// After the switch.
        after: Duration,
        /// The reason that is told.
        reason: String,
    },
    /// No byte moves; only an abort or KubeVirt's progress time-out ends it.
    Hang,
    /// The target never gets ready.
    TargetNeverReady,
}

#[derive(Debug)]
struct Running {
    job: Job,
    fault: Option<Fault>,
    bandwidth: f64,
    slowness: f64,
    dirtying: Dirtying,
    prepared: Timestamp,
    course: Option<Course>,
    end: Option<Stage>,
}

/// The course of a migration once memory moves.
#[derive(Debug)]
struct Course {
    started: Timestamp,
    mode: Mode,
    /// When each round ends (seconds after the start) and what it sends.
    rounds: Vec<(f64, f64)>,
    /// When it is over, unless something else happens (seconds after the start); none if it never converges.
    ends: Option<f64>,
    switched: Option<Timestamp>,
    aborted: Option<(Timestamp, String)>,
}

/// Hands that only count time. The same seed and the same order of requests give the same durations.
#[derive(Debug)]
pub struct Clock {
    settings: ClockSettings,
    seed: u64,
    counts: BTreeMap<VmKey, u64>,
    dirtying: BTreeMap<VmKey, Dirtying>,
    faults_of_vm: BTreeMap<VmKey, VecDeque<Fault>>,
    faults_of_target: BTreeMap<NodeName, VecDeque<Fault>>,
    running: BTreeMap<Uid, Running>,
}

impl Clock {
    /// Hands that work at these speeds.
    #[must_use]
    pub fn new(settings: ClockSettings, seed: u64) -> Self {
        Self {
            settings,
            seed,
            counts: BTreeMap::new(),
            dirtying: BTreeMap::new(),
            faults_of_vm: BTreeMap::new(),
            faults_of_target: BTreeMap::new(),
            running: BTreeMap::new(),
        }
    }

    /// How a VM writes its memory from its next migration on.
    pub fn set_dirtying(&mut self, vm: VmKey, dirtying: Dirtying) {
        self.dirtying.insert(vm, dirtying);
    }

    /// Lets one of a VM's next migrations go wrong; several faults strike one after the other.
    pub fn break_vm(&mut self, vm: VmKey, fault: Fault) {
        self.faults_of_vm.entry(vm).or_default().push_back(fault);
    }

    /// Lets one of the next migrations to a node go wrong; several faults strike one after the other.
    pub fn break_target(&mut self, node: NodeName, fault: Fault) {
        self.faults_of_target.entry(node).or_default().push_back(fault);
    }

    /// What hangs of a VM's migration, or does not get ready, works from now on.
    pub fn heal(&mut self, vm: &VmKey, now: Timestamp) {
        for running in self.running.values_mut().filter(|running| running.job.vm == *vm) {
            running.fault = None;
            if let Some(course) = &mut running.course {
                course.started = now;
            }
        }
    }

    fn next_fault(&mut self, job: &Job) -> Option<Fault> {
        let of_vm = self.faults_of_vm.get_mut(&job.vm).and_then(VecDeque::pop_front);
        of_vm.or_else(|| self.faults_of_target.get_mut(&job.target).and_then(VecDeque::pop_front))
    }

    /// A generator of its own for each migration, so that one more VM does not shift the others' numbers.
    fn generator(&mut self, vm: &VmKey) -> ChaCha8Rng {
        let count = self.counts.entry(vm.clone()).or_default();
        *count += 1;
        let digest = Sha256::digest(format!("{}/{vm}/{count}", self.seed));
        ChaCha8Rng::from_seed(digest.into())
    }
}

/// A number from −1 to 1.
fn swing(generator: &mut ChaCha8Rng) -> f64 {
    f64::from(generator.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0
}

fn seconds_since(earlier: Timestamp, now: Timestamp) -> f64 {
    (now.as_millisecond() - earlier.as_millisecond()) as f64 / 1000.0
}

fn later(start: Timestamp, seconds: f64) -> Timestamp {
    // Ten years are longer than any simulation; more would leave the range of timestamps.
    let span = Duration::from_secs_f64(seconds.clamp(0.0, 3e8));
    start.checked_add(span).unwrap_or(start)
}

impl Running {
    /// Rounds of pre-copy: each sends what was dirtied during the one before, until that fits into the downtime.
    fn rounds(&self) -> (Vec<(f64, f64)>, Option<f64>) {
        const MOST_ROUNDS: usize = 10_000;
        let working_set = self.dirtying.working_set.0.min(self.job.memory.0) as f64;
        let (mut rounds, mut clock, mut volume) = (Vec::new(), 0.0, self.job.memory.0 as f64);
        for _ in 0..MOST_ROUNDS {
            let takes = volume / self.bandwidth;
            if !rounds.is_empty() && takes <= self.job.max_downtime.as_secs_f64() {
                return (rounds, Some(clock + takes + self.slowness));
            }
            clock += takes;
            rounds.push((clock, volume));
            let dirtied = (self.dirtying.rate * takes).min(working_set);
            if dirtied >= volume * 0.999 {
                break;
            }
            volume = dirtied;
        }
        (rounds, None)
    }

    /// What is still to be sent `elapsed` seconds after the start: the rest of this round, and what was dirtied in it.
    fn remaining(&self, course: &Course, elapsed: f64) -> f64 {
        let working_set = self.dirtying.working_set.0.min(self.job.memory.0) as f64;
        let mut began = 0.0;
        for (ends, volume) in &course.rounds {
            if elapsed < *ends {
                let sent = (elapsed - began) * self.bandwidth;
                let dirtied = (self.dirtying.rate * (elapsed - began)).min(working_set);
                return (volume - sent).max(0.0) + dirtied.min(sent);
            }
            began = *ends;
        }
        // Pre-copy that does not converge sends the same again and again.
        course.rounds.last().map_or(0.0, |(_, volume)| volume.min(working_set))
    }

    fn stage(&self, now: Timestamp) -> Stage {
        if let Some(end) = &self.end {
            return end.clone();
        }
        let Some(course) = &self.course else {
            if now < self.prepared || self.fault == Some(Fault::TargetNeverReady) {
                return Stage::Preparing;
            }
            let address = format!("192.0.2.{}", 1 + self.job.target.as_str().bytes().map(u64::from).sum::<u64>() % 250);
            return Stage::Ready { address, ports: BTreeMap::from([("49152".into(), 0), ("49153".into(), 49_153)]) };
        };
        let failed = |at: Timestamp, reason: &str, aborted: bool| Stage::Failed {
            at,
            reason: reason.to_owned(),
            aborted,
            lost: course.switched.is_some_and(|switched| at >= switched),
        };
        if let Some((at, reason)) = &course.aborted
            && now >= *at
        {
            return failed(*at, reason, true);
        }
        let hangs = self.fault == Some(Fault::Hang);
        let end = course.ends.filter(|_| !hangs).map(|ends| later(course.started, ends));
        let fault = match (&self.fault, course.switched) {
            (Some(Fault::Fail { after, reason }), _) => Some((later(course.started, after.as_secs_f64()), reason)),
            (Some(Fault::FailInPostCopy { after, reason }), Some(switched)) => {
                Some((later(switched, after.as_secs_f64()), reason))
            }
            _ => None,
        };
        match (fault, end) {
            (Some((at, reason)), end) if now >= at && end.is_none_or(|end| at <= end) => failed(at, reason, false),
            (_, Some(end)) if now >= end => Stage::Done { at: end },
            _ => {
                let elapsed = if hangs { 0.0 } else { seconds_since(course.started, now) };
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // not negative, far below 2^64
                Stage::Moving { mode: course.mode, sent: Bytes((elapsed * self.bandwidth) as u64) }
            }
        }
    }

    /// The rest goes in one piece: by post-copy, or while the guest stands still.
    fn finish_in_one_go(&mut self, mode: Mode, now: Timestamp) {
        let over = self.stage(now).is_over();
        let Some(course) = self.course.as_ref().filter(|course| course.mode == Mode::PreCopy && !over) else { return };
        let elapsed = seconds_since(course.started, now);
        let rest = self.remaining(course, elapsed) / self.bandwidth + self.slowness;
        if let Some(course) = &mut self.course {
            course.mode = mode;
            course.ends = Some(elapsed + rest);
            course.switched = (mode == Mode::PostCopy).then_some(now);
        }
    }
}

impl Hands for Clock {
    fn prepare_target(&mut self, job: &Job, now: Timestamp) {
        let fault = self.next_fault(job);
        let mut generator = self.generator(&job.vm);
        let mut vary = |value: f64| value * (1.0 + self.settings.variation * swing(&mut generator));
        let limit = job.bandwidth.filter(|limit| *limit > 0).map_or(f64::INFINITY, |limit| limit as f64);
        let running = Running {
            fault,
            bandwidth: vary(self.settings.bandwidth).min(limit).max(1.0),
            slowness: vary(self.settings.handover.as_secs_f64()),
            dirtying: self.dirtying.get(&job.vm).copied().unwrap_or(self.settings.dirtying),
            prepared: later(now, vary(self.settings.prepare.as_secs_f64())),
            job: job.clone(),
            course: None,
            end: None,
        };
        self.running.insert(job.uid.clone(), running);
    }

    fn start(&mut self, job: &Job, now: Timestamp) {
        let Some(running) = self.running.get_mut(&job.uid).filter(|running| running.course.is_none()) else { return };
        let (rounds, ends) = running.rounds();
        running.course =
            Some(Course { started: now, mode: Mode::PreCopy, rounds, ends, switched: None, aborted: None });
    }

    fn switch_to_post_copy(&mut self, migration: &Uid, now: Timestamp) {
        if let Some(running) = self.running.get_mut(migration) {
            running.finish_in_one_go(Mode::PostCopy, now);
        }
    }

    fn pause(&mut self, migration: &Uid, now: Timestamp) {
        if let Some(running) = self.running.get_mut(migration) {
            running.finish_in_one_go(Mode::Paused, now);
        }
    }

    fn abort(&mut self, migration: &Uid, reason: &str, now: Timestamp) {
        let takes = self.settings.abort.as_secs_f64();
        let Some(running) = self.running.get_mut(migration) else { return };
        let over = running.stage(now).is_over();
        match &mut running.course {
            Some(course) if course.mode != Mode::PostCopy && course.aborted.is_none() && !over => {
                course.aborted = Some((later(now, takes), reason.to_owned()));
            }
            _ => {}
        }
    }

    fn stage(&mut self, migration: &Uid, now: Timestamp) -> Stage {
        let Some(running) = self.running.get_mut(migration) else { return Stage::Unknown };
        let stage = running.stage(now);
        if stage.is_over() {
            running.end = Some(stage.clone());
        }
        stage
    }

    fn forget(&mut self, migration: &Uid) {
        self.running.remove(migration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(memory: Bytes) -> Job {
        Job {
            uid: Uid::new("m"),
            vm: VmKey::new("ns", "vm"),
            vmi_uid: Uid::new("v"),
            memory,
            vcpus: 1,
            source: NodeName::new("n1"),
            target: NodeName::new("n2"),
            source_pod: "s".into(),
            target_pod: "t".into(),
            bandwidth: None,
            max_downtime: Duration::from_millis(900),
            allow_post_copy: true,
            allow_auto_converge: false,
            limited_cpu: false,
        }
    }

    fn steady() -> ClockSettings {
        ClockSettings { variation: 0.0, bandwidth: 100e6, ..ClockSettings::default() }
    }

    fn at(seconds: f64) -> Timestamp {
        later(Timestamp::UNIX_EPOCH, seconds)
    }

    fn started(clock: &mut Clock, job: &Job) {
        clock.prepare_target(job, at(0.0));
        clock.start(job, at(0.0));
    }

    /// When it is over, to a tenth of a second.
    fn end(clock: &mut Clock) -> Option<(f64, Stage)> {
        let uid = Uid::new("m");
        (0..36_000).map(|tenth| f64::from(tenth) / 10.0).find_map(|seconds| {
            let stage = clock.stage(&uid, at(seconds));
            stage.is_over().then_some((seconds, stage))
        })
    }

    #[test]
    fn quiet_guests_take_one_pass_and_busy_ones_several() {
        let mut quiet = Clock::new(steady(), 1);
        quiet.set_dirtying(VmKey::new("ns", "vm"), Dirtying { rate: 0.0, working_set: Bytes(0) });
        started(&mut quiet, &job(Bytes(2_000_000_000)));
        let (quiet, _) = end(&mut quiet).unwrap();
        assert!((20.0..20.3).contains(&quiet), "{quiet}");

        let mut busy = Clock::new(steady(), 1);
        busy.set_dirtying(VmKey::new("ns", "vm"), Dirtying { rate: 50e6, working_set: Bytes(2_000_000_000) });
        started(&mut busy, &job(Bytes(2_000_000_000)));
        let (busy, _) = end(&mut busy).unwrap();
        // 20 s + 10 s + 5 s + … until the rest fits into 0.9 s.
        assert!((39.0..40.3).contains(&busy), "{busy}");
    }

    #[test]
    fn what_writes_faster_than_the_network_ends_by_post_copy_alone() {
        let uid = Uid::new("m");
        let mut clock = Clock::new(steady(), 1);
        clock.set_dirtying(VmKey::new("ns", "vm"), Dirtying { rate: 500e6, working_set: Bytes(2_000_000_000) });
        started(&mut clock, &job(Bytes(2_000_000_000)));
        assert_eq!(end(&mut clock), None);
        clock.switch_to_post_copy(&uid, at(4.0));
        clock.abort(&uid, "too late", at(5.0));
        let (seconds, stage) = end(&mut clock).unwrap();
        // 1.6 GB were not sent yet, and all 0.4 GB that were are dirty again.
        assert!((23.9..24.5).contains(&seconds), "{seconds}");
        assert!(matches!(stage, Stage::Done { .. }));
    }

    #[test]
    fn faults_strike_once_and_a_hang_moves_nothing() {
        let (uid, vm) = (Uid::new("m"), VmKey::new("ns", "vm"));
        let mut clock = Clock::new(steady(), 1);
        clock.break_vm(vm.clone(), Fault::FailInPostCopy { after: Duration::from_secs(1), reason: "lost".into() });
        clock.break_vm(vm, Fault::Hang);
        started(&mut clock, &job(Bytes(2_000_000_000)));
        clock.switch_to_post_copy(&uid, at(2.0));
        let (seconds, stage) = end(&mut clock).unwrap();
        assert!((seconds - 3.0).abs() < 0.05 && matches!(stage, Stage::Failed { lost: true, .. }), "{stage:?}");

        started(&mut clock, &job(Bytes(2_000_000_000)));
        assert_eq!(clock.stage(&uid, at(100.0)), Stage::Moving { mode: Mode::PreCopy, sent: Bytes(0) });
        clock.abort(&uid, "stuck", at(100.0));
        assert!(matches!(clock.stage(&uid, at(101.0)), Stage::Failed { aborted: true, lost: false, .. }));

        started(&mut clock, &job(Bytes(2_000_000_000)));
        assert!(matches!(end(&mut clock), Some((_, Stage::Done { .. }))));
    }

    #[test]
    fn the_same_seed_gives_the_same_times_and_another_vm_does_not_shift_them() {
        let duration = |seed: u64, other_first: bool| {
            let mut clock = Clock::new(ClockSettings::default(), seed);
            if other_first {
                let other = Job { uid: Uid::new("o"), vm: VmKey::new("ns", "other"), ..job(Bytes::gib(1)) };
                clock.prepare_target(&other, at(0.0));
            }
            started(&mut clock, &job(Bytes::gib(4)));
            match end(&mut clock) {
                Some((_, Stage::Done { at })) => at,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(duration(1, false), duration(1, true));
        assert_ne!(duration(1, false), duration(2, false));
    }
}
