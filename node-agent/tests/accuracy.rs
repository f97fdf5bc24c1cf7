//! What is read against what was really used: burners in real control groups count for themselves. Only ratios are
//! judged. Without root there are no control groups to make, and the trials say so.

mod burners;

use anyhow::Context as _;
use burners::{Burn, Burner, Burnt, Groups, can_burn, run_if_burner};
use libtest_mimic::{Arguments, Failed, Trial};
use miyako_agent::load::{
    KernelReader, LoadReader as _, Measured, Sources, dirty_rate,
    pods::{Launcher, Launchers, VmIdentity},
    report,
};
use std::{
    collections::BTreeMap,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// How much a sum of samples may differ from the truth.
const TOLERANCE: f64 = 0.01;

/// Seconds that the burners burn.
const SECONDS: u32 = 12;

fn main() {
    run_if_burner();
    let reason = can_burn().err();
    let trial = |name: &str, test: fn() -> anyhow::Result<()>| {
        Trial::test(name, move || test().map_err(|error| Failed::from(format!("{error:#}"))))
            .with_ignored_flag(reason.is_some())
    };
    if let Some(reason) = &reason {
        eprintln!("ignored, because we {reason}");
    }
    let trials = vec![
        trial("samples_add_up_to_what_was_used", samples_add_up_to_what_was_used),
        trial("a_vm_that_ends_between_two_readings_leaves_no_sample", a_vm_that_ends_leaves_no_sample),
        trial("waiting_for_a_core_is_seen", waiting_for_a_core_is_seen),
        trial("a_dirty_rate_is_estimated_within_its_error", a_dirty_rate_is_estimated_within_its_error),
    ];
    let mut arguments = Arguments::from_args();
    // They would burn each other's CPU.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit();
}

/// A reader of the groups, with a clock for it.
struct Reading {
    reader: KernelReader,
    sources: Sources,
    launchers: Launchers,
    begun: Instant,
    /// CPU seconds, bytes written and sent of each VM, and of the node.
    sums: BTreeMap<String, Burnt>,
    last: Option<Duration>,
}

impl Reading {
    #[allow(clippy::disallowed_methods)] // burners burn in real time
    fn new(groups: &Groups, pods: &[&str]) -> Self {
        let launchers = Launchers::default();
        let vm = |name: &str| VmIdentity { namespace: "test".into(), name: name.into(), uid: format!("uid-{name}") };
        let launcher = |name: &&str| ((*name).to_owned(), Launcher { vm: vm(name), created: 0 });
        launchers.set(pods.iter().map(launcher).collect());
        let sources = Sources {
            proc: "/proc".into(),
            cgroup: "/sys/fs/cgroup".into(),
            node_cgroup: Some(groups.name()),
            interfaces: Vec::new(),
            powercap: std::path::PathBuf::new(),
        };
        let reader = KernelReader::new(sources.clone(), launchers.clone());
        Self { reader, sources, launchers, begun: Instant::now(), sums: BTreeMap::new(), last: None }
    }

    /// Reads, and adds up.
    fn read(&mut self) -> anyhow::Result<Option<Measured>> {
        let now = self.begun.elapsed();
        let measured = self.reader.read(now)?;
        let seconds = self.last.replace(now).map_or(0.0, |last| (now - last).as_secs_f64());
        if let Some(measured) = &measured {
            let vms = measured.vms.iter().map(|vm| (vm.name.clone(), vm.usage.unwrap_or_default()));
            for (name, usage) in vms.chain([("node".to_owned(), measured.usage)]) {
                let sum = self.sums.entry(name).or_default();
                let bytes = |rate: Option<f64>| rate.unwrap_or(0.0) * seconds;
                sum.cpu_seconds += usage.cpu_cores * seconds;
                sum.bytes_written += bytes(usage.disk_write_bytes_per_second);
                sum.bytes_sent += bytes(usage.network_transmit_bytes_per_second);
            }
        }
        Ok(measured)
    }
}

fn near(what: &str, measured: f64, truth: f64) -> anyhow::Result<()> {
    println!("{what}: measured {measured:.3}, used {truth:.3}, off by {:+.3} %", (measured / truth - 1.0) * 100.0);
    anyhow::ensure!((measured - truth).abs() <= TOLERANCE * truth, "{what}: measured {measured}, but {truth} was used");
    Ok(())
}

fn samples_add_up_to_what_was_used() -> anyhow::Result<()> {
    let groups = Groups::new()?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let burn = |cores, bytes_written, bytes_sent| Burn {
        cores,
        threads: 2,
        idle_threads: 1,
        bytes_written,
        folder: folder.path().to_owned(),
        bytes_sent,
        ..Burn::default()
    };
    let pods = ["00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"];
    let mut vms = vec![
        Burner::start(&burn(0.3, 4 << 20, 2 << 20), &groups, pods[0])?,
        Burner::start(&burn(0.2, 0, 0), &groups, pods[1])?,
    ];
    let mut reading = Reading::new(&groups, &pods);
    reading.read()?;
    thread::sleep(Duration::from_secs(1));
    reading.read()?;
    reading.sums.clear();
    for vm in &mut vms {
        vm.go()?;
    }
    for _ in 0..SECONDS {
        thread::sleep(Duration::from_secs(1));
        reading.read()?;
    }
    let burnt = vms.iter_mut().map(Burner::stop).collect::<anyhow::Result<Vec<_>>>()?;
    thread::sleep(Duration::from_secs(1));
    reading.read()?;
    let of = |name: &str| reading.sums.get(name).copied().with_context(|| format!("no samples of {name}"));
    for (pod, burnt) in pods.iter().zip(&burnt) {
        near(&format!("CPU seconds of {pod}"), of(pod)?.cpu_seconds, burnt.cpu_seconds)?;
    }
    near("bytes written", of(pods[0])?.bytes_written, burnt[0].bytes_written)?;
    near("bytes sent", of(pods[0])?.bytes_sent, burnt[0].bytes_sent)?;
    near("CPU seconds of the node", of("node")?.cpu_seconds, burnt.iter().map(|burnt| burnt.cpu_seconds).sum())
}

fn a_vm_that_ends_leaves_no_sample() -> anyhow::Result<()> {
    let groups = Groups::new()?;
    let pod = "00000000-0000-0000-0000-00000000000c";
    let burn = Burn { cores: 0.2, threads: 1, ..Burn::default() };
    let mut vm = Burner::start(&burn, &groups, pod)?;
    vm.go()?;
    let mut reading = Reading::new(&groups, &[pod]);
    let seen = |reading: &mut Reading| -> anyhow::Result<usize> {
        thread::sleep(Duration::from_millis(300));
        Ok(reading.read()?.map_or(0, |measured| measured.vms.len()))
    };
    seen(&mut reading)?;
    anyhow::ensure!(seen(&mut reading)? == 1, "it is seen while it runs");
    drop(vm);
    drop(groups);
    // The node's group is gone with it: that is an error, and no figure.
    thread::sleep(Duration::from_millis(300));
    let error = reading.read().map(|measured| measured.is_some());
    anyhow::ensure!(error.is_err(), "a node that is gone has no figures, but there was {error:?}");
    Ok(())
}

/// Twice as many burning threads as CPUs: about half of what they want they wait for.
fn waiting_for_a_core_is_seen() -> anyhow::Result<()> {
    let groups = Groups::new()?;
    let pod = "00000000-0000-0000-0000-00000000000d";
    let threads = thread::available_parallelism()?.get() * 2;
    let mut vm = Burner::start(&Burn { cores: threads as f64, threads, ..Burn::default() }, &groups, pod)?;
    let mut reading = Reading::new(&groups, &[pod]);
    reading.read()?;
    vm.go()?;
    thread::sleep(Duration::from_secs(1));
    reading.read()?;
    thread::sleep(Duration::from_secs(2));
    let measured = reading.read()?.context("no figures of the node")?;
    let usage = measured.vms.first().and_then(|vm| vm.usage).context("no figures of the VM")?;
    let waited = usage.cpu_wait_cores.context("the kernel does not tell how long tasks waited")?;
    println!("used {:.2} cores, waited for {waited:.2}", usage.cpu_cores);
    let wanted = usage.cpu_cores + waited;
    anyhow::ensure!(waited > 0.25 * threads as f64 && wanted < 1.1 * threads as f64, "waited for {waited} cores");
    Ok(())
}

fn a_dirty_rate_is_estimated_within_its_error() -> anyhow::Result<()> {
    let groups = Groups::new()?;
    let pod = "00000000-0000-0000-0000-00000000000e";
    let bytes_dirtied = 32 << 20;
    let mut vm = Burner::start(&Burn { memory: 256 << 20, bytes_dirtied, ..Burn::default() }, &groups, pod)?;
    vm.go()?;
    // It fills its memory first.
    thread::sleep(Duration::from_secs(2));
    let reading = Reading::new(&groups, &[pod]);
    let qemu = dirty_rate::qemu_of(&reading.sources, &reading.launchers, &format!("test/{pod}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rate = runtime.block_on(dirty_rate::measure(Path::new("/proc"), qemu, Duration::from_secs(2)))?;
    println!("{}", report::dirty_rate("it", &rate));
    let off = (rate.bytes_per_second - bytes_dirtied as f64).abs();
    anyhow::ensure!(off < 5.0 * rate.standard_error + 0.1 * bytes_dirtied as f64, "{rate:?}");
    let missing = dirty_rate::qemu_of(&reading.sources, &reading.launchers, "test/other");
    anyhow::ensure!(missing.is_err(), "a VM that is not here was found: {missing:?}");
    Ok(())
}
