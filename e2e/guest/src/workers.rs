//! The workers: one thread for each virtual CPU, with a working set of its own.

use crate::machine::uptime;
use miyako_guest::benchmark::{Operation, Pace, busy_loop, next_spell, whole};
use miyako_guest::boot::Boot;
use miyako_guest::channel::{Check, Intensity, Permille, Speed, Spoil, State};
use miyako_guest::memory::{Fault, WorkingSet};
use std::hint::black_box;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;

/// What a worker yields to: the two threads that talk to the host.
const NICE: i32 = 5;

/// How long an idle worker sleeps before it looks for a new load: a tenth of a second is not missed, and costs nothing.
const IDLE: Duration = Duration::from_millis(100);

/// Pages that are checked before the worker may go on: some tenths of a millisecond.
const CHECKED_AT_ONCE: usize = 16;

/// All workers and what they are told.
pub(crate) struct Workers {
    each: Vec<Worker>,
    orders: Mutex<Orders>,
    /// Grows with each change of the orders, so that a worker sees one without taking a lock.
    generation: AtomicU64,
    seed: u64,
}

#[derive(Clone, Copy)]
struct Orders {
    load: Permille,
    intensity: Intensity,
    speed: Speed,
}

struct Worker {
    set: Mutex<WorkingSet>,
    operations: AtomicU64,
    writes: AtomicU64,
}

impl Workers {
    /// Fills the memory, shared equally among so many workers, and measures the machine unless its speed is told.
    pub(crate) fn new(boot: Boot, count: usize) -> io::Result<Self> {
        let pages = usize::try_from(boot.pages).map_err(io::Error::other)?;
        let each: Vec<Worker> = (0..count)
            .map(|worker| Worker {
                // A worker's pages differ from another's of the same index.
                set: Mutex::new(WorkingSet::new(
                    boot.seed.wrapping_add(worker as u64),
                    share(pages, count, worker).len(),
                )),
                operations: AtomicU64::new(0),
                writes: AtomicU64::new(0),
            })
            .collect();
        let speed =
            boot.speed.unwrap_or_else(|| each.first().map_or(Speed { loops: 1, reads: 1, writes: 1 }, Worker::measure));
        let orders = Orders { load: boot.load, intensity: boot.intensity, speed };
        Ok(Self { each, orders: Mutex::new(orders), generation: AtomicU64::new(0), seed: boot.seed })
    }

    /// Starts them, for ever.
    pub(crate) fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        for worker in &self.each {
            scope.spawn(|| worker.work(self));
        }
    }

    pub(crate) fn set_load(&self, load: Permille) {
        self.change(|orders| orders.load = load);
    }

    pub(crate) fn set_intensity(&self, intensity: Intensity) {
        self.change(|orders| orders.intensity = intensity);
    }

    pub(crate) fn set_speed(&self, speed: Speed) {
        self.change(|orders| orders.speed = speed);
    }

    /// Operations achieved since boot.
    pub(crate) fn operations(&self) -> u64 {
        self.each.iter().map(|worker| worker.operations.load(Ordering::Relaxed)).sum()
    }

    /// Pages written since boot.
    pub(crate) fn writes(&self) -> u64 {
        self.each.iter().map(|worker| worker.writes.load(Ordering::Relaxed)).sum()
    }

    /// All but the last check.
    pub(crate) fn state(&self) -> State {
        let Orders { load, intensity, speed } = *self.orders();
        let (pages, workers) = (small(self.pages()), small(self.each.len()));
        State { pages, seed: self.seed, workers, load, intensity, speed, check: None }
    }

    /// Looks at every page while the workers go on.
    pub(crate) fn check(&self, command: u64) -> Check {
        let mut check = Check { command, pages: 0, outdated: 0, damaged: 0, first_bad: None };
        for worker in &self.each {
            let pages = worker.set().pages();
            for begin in (0..pages).step_by(CHECKED_AT_ONCE) {
                let set = worker.set();
                for index in begin..pages.min(begin + CHECKED_AT_ONCE) {
                    match set.check(index) {
                        Ok(()) => {}
                        Err(Fault::Outdated) => check.outdated += 1,
                        Err(Fault::Damaged) => check.damaged += 1,
                    }
                    if check.first_bad.is_none() && !check.is_good() {
                        check.first_bad = Some(check.pages);
                    }
                    check.pages += 1;
                }
            }
        }
        check
    }

    /// Spoils a page; one that does not exist is nobody's.
    pub(crate) fn spoil(&self, page: u32, how: Spoil) {
        let Ok(page) = usize::try_from(page) else { return };
        for (number, worker) in self.each.iter().enumerate() {
            let range = share(self.pages(), self.each.len(), number);
            if range.contains(&page) {
                let mut set = worker.set();
                match how {
                    Spoil::Damage => set.damage(page - range.start),
                    Spoil::Outdate => set.outdate(page - range.start),
                }
            }
        }
    }

    fn pages(&self) -> usize {
        self.each.iter().map(|worker| worker.set().pages()).sum()
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.orders());
        self.generation.fetch_add(1, Ordering::Release);
    }
}

impl Worker {
    fn set(&self) -> MutexGuard<'_, WorkingSet> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, all: &Workers) {
        nice(NICE);
        loop {
            let generation = all.generation.load(Ordering::Acquire);
            let Orders { load, intensity, speed } = *all.orders();
            let (pace, operation) = (Pace::of(load), Operation::sized(speed, intensity));
            let changed = || all.generation.load(Ordering::Acquire) != generation;
            let mut due = uptime();
            let (mut credit, mut writes, mut reads) = (0.0, 0.0, 0.0);
            while !changed() {
                credit += pace.operations();
                while credit >= 1.0 && !changed() {
                    credit -= 1.0;
                    writes += operation.writes;
                    reads += operation.reads;
                    self.operate(operation.loops, whole(writes), whole(reads));
                    writes = writes.fract();
                    reads = reads.fract();
                }
                due = next_spell(due, pace, uptime());
                let sleep = if pace.busy.is_zero() { IDLE } else { due.saturating_sub(uptime()) };
                thread::sleep(sleep);
            }
        }
    }

    fn operate(&self, loops: u64, writes: u64, reads: u64) {
        (0..loops).for_each(|number| {
            black_box(busy_loop(number));
        });
        if writes + reads > 0 {
            let mut set = self.set();
            (0..writes).for_each(|_| set.write());
            (0..reads).for_each(|_| {
                black_box(set.read());
            });
            self.writes.fetch_add(writes, Ordering::Relaxed);
        }
        self.operations.fetch_add(1, Ordering::Relaxed);
    }

    /// The paper's S_cpu and S_mem. Bursts are short and the fastest counts, so that a crowded host or a CPU quota does
    /// not make the machine look slow.
    fn measure(&self) -> Speed {
        Speed {
            loops: fastest(|| {
                black_box(busy_loop(1));
            }),
            reads: fastest(|| {
                black_box(self.set().read());
            }),
            writes: fastest(|| self.set().write()),
        }
    }
}

/// How often in a second something can be done: the best of some bursts.
fn fastest(mut work: impl FnMut()) -> u64 {
    const BURSTS: usize = 30;
    const BURST: u32 = 500;
    let shortest = (0..BURSTS).map(|_| {
        let begin = uptime();
        (0..BURST).for_each(|_| work());
        uptime().saturating_sub(begin)
    });
    let shortest = shortest.min().unwrap_or_default().max(Duration::from_nanos(1));
    whole(f64::from(BURST) / shortest.as_secs_f64()).max(1)
}

/// The pages of one worker among so many.
fn share(pages: usize, count: usize, worker: usize) -> Range<usize> {
    let cut = |worker: usize| pages * worker / count.max(1);
    cut(worker)..cut(worker + 1)
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Takes only what nobody else wants of the CPU.
pub(crate) fn yield_to_all() {
    nice(19);
}

fn nice(by: i32) {
    if let Err(error) = rustix::process::nice(by) {
        println!("miyako-guest: a thread keeps its priority: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_page_has_one_worker(pages in 0..5000usize, count in 1..9usize) {
            let shares: Vec<usize> = (0..count).flat_map(|worker| share(pages, count, worker)).collect();
            prop_assert_eq!(shares, (0..pages).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_bad_page_is_named_whichever_worker_owns_it() {
        let workers = Workers::new(Boot { pages: 50, ..Boot::default() }, 3).unwrap();
        let good = workers.check(1);
        assert_eq!(good, Check { command: 1, pages: 50, outdated: 0, damaged: 0, first_bad: None });
        for page in 0..50 {
            workers.spoil(page, Spoil::Damage);
            let bad = workers.check(2);
            assert_eq!((bad.damaged, bad.outdated, bad.first_bad), (1, 0, Some(page)));
            workers.spoil(page, Spoil::Damage);
        }
        workers.spoil(50, Spoil::Outdate);
        assert!(workers.check(3).is_good(), "there is no page 50");
    }

    #[test]
    fn a_working_set_of_nothing_is_good() {
        let workers = Workers::new(Boot { pages: 0, ..Boot::default() }, 2).unwrap();
        assert_eq!(workers.check(1).pages, 0);
    }
}
