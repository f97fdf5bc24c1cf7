//! Watches a run: what each node's VMs use, where each VM is, which migrations were asked for and how they went.

use super::hands::{Course, mode_name};
use super::results::{MigrationRow, SecondRow, SleepRow, UNDER_WAY, VmRow};
use super::scenario::Detection;
use super::sleep::Sleep;
use super::stand::LabStand;
use futures::StreamExt as _;
use kube::ResourceExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use miyako_lab::guest::Second;
use miyako_lab::qemu::migration::Outcome;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// How often the nodes' CPU time is read. A node's quota is counted anew as often.
const READ_EVERY: Duration = Duration::from_millis(100);
/// Readings in a second.
const READINGS: usize = 10;

/// A reading: seconds since the run began, and the CPU time of each node's VMs.
type Reading = (f64, BTreeMap<String, Duration>);

/// Watches a run until it is dropped.
pub struct Recorder {
    begin: Instant,
    seen: Arc<Mutex<Seen>>,
    requests: Arc<Mutex<BTreeMap<String, Instant>>>,
    tasks: [AbortHandle; 2],
}

#[derive(Debug, Default)]
struct Seen {
    readings: Vec<Reading>,
    /// Where each VM was at the end of each second.
    places: Vec<BTreeMap<String, String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    /// Begins to watch.
    #[must_use]
    pub fn begin(lab: &LabStand, begin: Instant) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let requests = Arc::new(Mutex::new(BTreeMap::new()));
        let machines = lab.machines.clone();
        let kept = Arc::clone(&seen);
        let reading = tokio::spawn(async move {
            let mut ticks = interval_at(begin, READ_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for number in 0.. {
                ticks.tick().await;
                let used = machines.nodes().iter();
                let used = used.map(|(name, node)| (name.clone(), node.cpu_time().unwrap_or_default())).collect();
                let at = Instant::now().saturating_duration_since(begin).as_secs_f64();
                let mut kept = lock(&kept);
                kept.readings.push((at, used));
                if number > 0 && number % READINGS == 0 {
                    kept.places.push(machines.places());
                }
            }
        });
        let (migrations, asked) = (lab.migrations(), Arc::clone(&requests));
        let watching = tokio::spawn(async move {
            let mut events = pin!(watcher(migrations, Config::default()));
            while let Some(event) = events.next().await {
                if let Ok(Event::Apply(migration) | Event::InitApply(migration)) = event {
                    lock(&asked).entry(migration.uid().unwrap_or_default()).or_insert_with(Instant::now);
                }
            }
        });
        Self { begin, seen, requests, tasks: [reading.abort_handle(), watching.abort_handle()] }
    }

    /// The newest second in words, for progress.
    #[must_use]
    pub fn line(&self) -> String {
        let seen = lock(&self.seen);
        let Some((places, nodes)) = seen.places.last().zip(seen.used().next_back()) else { return String::new() };
        let node = |(name, cores): (&String, &f64)| {
            let vms = places.iter().filter(|(_, place)| *place == name).map(|(vm, _)| vm.as_str());
            format!("{name} {cores:.2} [{}]", vms.collect::<Vec<_>>().join(" "))
        };
        nodes.iter().map(node).collect::<Vec<_>>().join("  ")
    }

    /// Second by second, for at most the first `count` seconds.
    #[must_use]
    pub fn seconds(&self, lab: &LabStand, count: usize) -> Vec<SecondRow> {
        let ledgers: BTreeMap<&String, Vec<Second>> = lab
            .machines
            .guests()
            .iter()
            .map(|(name, guest)| (name, guest.ledger().seconds(self.begin, count)))
            .collect();
        let seen = lock(&self.seen);
        let row = |index: usize, nodes: BTreeMap<String, f64>, places: &BTreeMap<String, String>| {
            let vm = |(name, seconds): (&&String, &Vec<Second>)| {
                let node = places.get(*name).cloned().unwrap_or_default();
                let Second { achieved, target } = seconds[index];
                ((*name).clone(), VmRow { node, achieved: rounded(achieved), target: rounded(target) })
            };
            SecondRow { nodes, vms: ledgers.iter().map(vm).collect() }
        };
        let rows = seen.used().zip(&seen.places).take(count).enumerate();
        rows.map(|(index, (nodes, places))| row(index, nodes, places)).collect()
    }

    /// The migrations, with what can be said of each.
    #[must_use]
    pub fn migrations(&self, courses: &[Course], core: f64, detection: Detection) -> Vec<MigrationRow> {
        let requests = lock(&self.requests);
        let seen = lock(&self.seen);
        let since = |at: Instant| self.since(at);
        let mut rows: Vec<MigrationRow> = Vec::new();
        for course in courses {
            let times = course.times.as_ref();
            let requested = requests.get(&course.uid).map(|at| since(*at));
            // A node that a migration has just changed is measured anew.
            let touched = |row: &&MigrationRow| row.source == course.source || row.target == course.source;
            let changed = rows.iter().filter(touched).filter_map(|row| row.ended).fold(0.0, f64::max);
            let overloaded = requested
                .and_then(|until| full_since(&seen.readings, &course.source, core, detection, (changed, until)));
            rows.push(MigrationRow {
                vm: course.vm.clone(),
                source: course.source.clone(),
                target: course.target.clone(),
                outcome: outcome_of(course),
                overloaded,
                requested,
                handed_off: since(course.asked),
                ready: course.ready.map(since),
                started: times.map(|times| since(times.started)),
                rounds: course.rounds,
                stopped: times.and_then(|times| times.stopped).map(since),
                resumed: times.and_then(|times| times.resumed).map(since),
                ended: times.and_then(|times| times.ended).map(since),
                sent: course.sent,
            });
        }
        rows
    }

    /// The sleeps, by the run's clock.
    #[must_use]
    pub fn sleeps(&self, sleeps: &[Sleep]) -> Vec<SleepRow> {
        let row = |sleep: &Sleep| SleepRow {
            node: sleep.node.clone(),
            asleep: self.since(sleep.asleep),
            pressed: sleep.pressed.map(|at| self.since(at)),
            awake: sleep.awake.map(|at| self.since(at)),
            programs: sleep.programs,
            used: sleep.used.as_secs_f64(),
        };
        sleeps.iter().map(row).collect()
    }

    /// Seconds since the run began; before that they are negative.
    fn since(&self, at: Instant) -> f64 {
        rounded(match at.checked_duration_since(self.begin) {
            Some(after) => after.as_secs_f64(),
            None => -self.begin.duration_since(at).as_secs_f64(),
        })
    }
}

impl Seen {
    /// Cores that each node's VMs used, second by second.
    fn used(&self) -> impl DoubleEndedIterator<Item = BTreeMap<String, f64>> {
        let bounds = self.readings.iter().step_by(READINGS).zip(self.readings.iter().skip(READINGS).step_by(READINGS));
        bounds.collect::<Vec<_>>().into_iter().map(|((from, before), (until, after))| {
            let span = (until - from).max(1e-3);
            let used = |(name, time): (&String, &Duration)| {
                let before = before.get(name).copied().unwrap_or_default();
                (name.clone(), rounded(time.saturating_sub(before).as_secs_f64() / span))
            };
            after.iter().map(used).collect()
        })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// When a window over a node's load became full and reached the threshold, last before a migration was asked for. The
/// window slides with every reading and lies after the node's last change. None if the node is not overloaded then, as
/// when an idle VM returns.
fn full_since(
    readings: &[Reading],
    node: &str,
    core: f64,
    Detection { window, threshold }: Detection,
    (changed, until): (f64, f64),
) -> Option<f64> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // seconds of a window
    let step = (window * READINGS as f64).round() as usize;
    let full = |end: &usize| {
        let Some(((from, before), (until, after))) =
            end.checked_sub(step).map(|first| (&readings[first], &readings[*end]))
        else {
            return false;
        };
        let used = |used: &BTreeMap<String, Duration>| used.get(node).copied().unwrap_or_default();
        let share = used(after).saturating_sub(used(before)).as_secs_f64() / ((until - from).max(1e-3) * core);
        *from >= changed && share >= threshold
    };
    let asked = readings.partition_point(|(at, _)| *at <= until);
    let last = (0..asked).rev().find(full)?;
    // One that ended long ago was another.
    if until - readings[last].0 > window {
        return None;
    }
    let first = (0..=last).rev().take_while(full).last()?;
    Some(rounded(readings[first].0))
}

/// Three digits after the point: enough, and short in a file.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn outcome_of(course: &Course) -> String {
    match (&course.outcome, &course.failure) {
        (Some(Outcome::Completed(mode)), _) => mode_name(*mode).to_owned(),
        (Some(Outcome::Cancelled), _) => "cancelled".to_owned(),
        (Some(Outcome::Failed(cause)), _) => format!("failed: {cause:?}"),
        (Some(Outcome::Lost(cause)), _) => format!("lost: {cause:?}"),
        (None, Some(failure)) => format!("did not begin: {failure}"),
        (None, None) => UNDER_WAY.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half a core from the start, all of it from second 10 on.
    fn readings() -> Vec<Reading> {
        let reading = |number: u32| {
            let at = f64::from(number) / 10.0;
            let used = at.mul_add(0.5, (at - 10.0).max(0.0) * 0.5);
            (at, BTreeMap::from([("node".to_owned(), Duration::from_secs_f64(used))]))
        };
        (0..300).map(reading).collect()
    }

    #[test]
    fn a_window_is_full_when_its_average_reaches_the_threshold() {
        let detection = Detection { window: 5.0, threshold: 0.9 };
        let full = |changed, until| full_since(&readings(), "node", 1.0, detection, (changed, until));
        // Four of five seconds at 100 % and one at 50 % are 90 %.
        assert!(full(0.0, 15.5).is_some_and(|at| (at - 14.0).abs() < 0.11), "{:?}", full(0.0, 15.5));
        assert_eq!(full(0.0, 12.0), None, "not yet");
        assert!(full(13.0, 20.0).is_some_and(|at| (at - 18.0).abs() < 0.11), "measured anew");
    }

    #[test]
    fn seconds_come_of_readings() {
        let seen = Seen { readings: readings(), places: Vec::new() };
        let used: Vec<f64> = seen.used().map(|nodes| nodes["node"]).collect();
        assert_eq!(used.len(), 29);
        assert!((used[9] - 0.5).abs() < 1e-3 && (used[10] - 1.0).abs() < 1e-3, "{used:?}");
    }
}
