//! What one decision costs, and how that grows: 100 nodes with 2 000 VMs, 1 000 with 20 000, 10 000 with 200 000.
//!
//! Prints medians and, from each size to the next, the exponent of growth: 1 is linear, n log n is about 1.1 at these
//! sizes. `cargo bench -p miyako-core`; with `--test` only the smallest size runs, once; numbers choose other sizes.
//! What is measured is the thread's own time on a CPU, so that neighbours on the machine matter less.

use miyako_core::{
    check::check,
    fit::Occupancy,
    generate::{Cluster, Shape},
    plan::decide,
};
use std::{
    hint::black_box,
    sync::OnceLock,
    time::{Duration, Instant},
};

const SIZES: [usize; 3] = [100, 1_000, 10_000];

/// The time that this thread has spent on a CPU, where the kernel tells; else the wall clock's.
#[allow(clippy::disallowed_methods)] // a benchmark reads the clock
fn time() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    let on_cpu = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = on_cpu.as_deref().and_then(|text| text.split_whitespace().next()?.parse().ok());
    nanoseconds.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

/// The kernel's account is brought up to date every few milliseconds only, so short work is repeated this long.
const LEAST: Duration = Duration::from_millis(40);

/// The median of so many measurements, each of one run or of the mean of many short ones.
fn median(measurements: usize, mut run: impl FnMut()) -> Duration {
    let mut measure = || {
        let (begin, mut runs) = (time(), 0);
        loop {
            run();
            runs += 1;
            let spent = time().saturating_sub(begin);
            if spent >= LEAST {
                return spent / runs;
            }
        }
    };
    let mut times: Vec<_> = (0..measurements).map(|_| measure()).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// The medians for one size: the index alone, a decision, and the check of its plan.
fn measure(nodes: usize, measurements: usize) -> [Duration; 3] {
    let Cluster { mut snapshot, policies, now } = Cluster::generate(&Shape::large(nodes), 7);
    // Whatever the dice said, let the planner work.
    snapshot.switches = miyako_core::model::Switches::default();
    (snapshot.incomplete, snapshot.evacuations_waiting, snapshot.kubevirt.rolling_out) = (None, 0, false);
    let (plan, report) = decide(&snapshot, &policies, now, 1);
    assert_eq!(check(&snapshot, &policies, &plan, now), [], "the plan is safe");
    println!(
        "{nodes} nodes, {} VMs, {} pods: {} steps, {} VMs reported on",
        snapshot.vms.len(),
        snapshot.pods.len(),
        plan.steps.len(),
        report.vms.len()
    );
    [
        median(measurements, || drop(black_box(Occupancy::new(&snapshot)))),
        median(measurements, || drop(black_box(decide(&snapshot, &policies, now, 1)))),
        median(measurements, || drop(black_box(check(&snapshot, &policies, &plan, now)))),
    ]
}

fn main() {
    let brief = std::env::args().any(|argument| argument == "--test");
    let chosen: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = match (brief, chosen.is_empty()) {
        (true, _) => &SIZES[..1],
        (false, true) => &SIZES[..],
        (false, false) => &chosen,
    };
    let mut before: Option<(usize, [Duration; 3])> = None;
    for &nodes in sizes {
        let medians = measure(nodes, if brief { 1 } else { 9 });
        for (at, name) in ["index", "decide", "check"].into_iter().enumerate() {
            let growth = before.map(|(fewer, shorter)| {
                let times = medians[at].as_secs_f64() / shorter[at].as_secs_f64();
                times.ln() / (nodes as f64 / fewer as f64).ln()
            });
            let growth = growth.map_or(String::new(), |exponent| format!("  grows as n^{exponent:.2}"));
            println!("  {name:<7} {:>9.3} ms{growth}", medians[at].as_secs_f64() * 1000.0);
        }
        before = Some((nodes, medians));
    }
}
