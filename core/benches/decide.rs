//! What one decision costs, and how that grows: 100 nodes with 2 000 VMs, 1 000 with 20 000, 10 000 with 200 000; and
//! what the worst clusters that we know of cost.
//!
//! Prints medians and, from each size to the next, the exponent of growth: 1 is linear, n log n is about 1.1 at these
//! sizes. `cargo bench -p miyako-core`; with `--test` only the smallest size runs, once; numbers choose other sizes,
//! names choose clusters.
//! What is measured is the thread's own time on a CPU, so that neighbours on the machine matter less. They do matter:
//! a large cluster fits no cache, and memory is shared.

mod clusters;

use clusters::CLUSTERS;
use miyako_core::{check::check, fit::Occupancy, generate::Cluster, plan::decide};
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

/// The medians for one cluster: the index alone, a decision, and the check of its plan.
fn measure(nodes: usize, make: fn(usize) -> Cluster, measurements: usize) -> [Duration; 3] {
    let Cluster { snapshot, policies, now } = make(nodes);
    let (plan, report) = decide(&snapshot, &policies, now, 1);
    assert_eq!(check(&snapshot, &policies, &plan, now), [], "the plan is safe");
    println!(
        "{nodes} nodes, {} VMs, {} pods, {} policies: {} steps, {} VMs reported on",
        snapshot.vms.len(),
        snapshot.pods.len(),
        policies.policies.len(),
        plan.steps.len(),
        report.vms.len()
    );
    [
        median(measurements, || drop(black_box(Occupancy::new(&snapshot)))),
        median(measurements, || drop(black_box(decide(&snapshot, &policies, now, 1)))),
        median(measurements, || drop(black_box(check(&snapshot, &policies, &plan, now)))),
    ]
}

/// Measures clusters of one kind at all sizes, and how the times grow.
fn grow(sizes: &[usize], make: fn(usize) -> Cluster, measurements: usize) {
    let mut before: Option<(usize, [Duration; 3])> = None;
    for &nodes in sizes {
        let medians = measure(nodes, make, measurements);
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

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let brief = arguments.iter().any(|argument| argument == "--test");
    let chosen: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = match (brief, chosen.is_empty()) {
        (true, _) => &SIZES[..1],
        (false, true) => &SIZES[..],
        (false, false) => &chosen,
    };
    let named = |name: &str| arguments.iter().any(|argument| argument == name);
    let any_named = CLUSTERS.iter().any(|(name, ..)| named(name));
    for (name, what, make) in CLUSTERS.iter().filter(|(name, ..)| !any_named || named(name)) {
        println!("{name}: {what}");
        grow(sizes, *make, if brief { 1 } else { 9 });
    }
}
