//! What the agent costs: 50 busy VMs in real control groups, read and reported once a second, beside Prometheus'
//! node exporter (if it is installed) scraped as often. Needs root.
//!
//! The agent is the real program with all it needs: a watch of its launchers, and a stream over TLS whose samples are
//! answered. `cargo bench --package miyako-agent --bench load -- [--seconds N] [--vms N]`

#[path = "../../tests/burners/mod.rs"]
mod burners;

mod stand;

use anyhow::Context as _;
use burners::{Burn, Burner, Burnt, Groups, can_burn, run_if_burner};
use clap::Parser;
use stand::{ApiServer, Operator};
use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

#[derive(Parser)]
struct Flags {
    /// How long to measure.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many VMs.
    #[arg(long, default_value_t = 50)]
    vms: usize,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    run_if_burner();
    let flags = Flags::parse();
    if let Err(reason) = can_burn() {
        println!("not measured: we {reason}");
        return Ok(());
    }
    let groups = Groups::new()?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let pods: Vec<String> = (0..flags.vms).map(|number| format!("00000000-0000-0000-0000-{number:012}")).collect();
    // A core in all, so that the others have room; threads as of a small VM in a launcher.
    let burn = Burn {
        cores: 1.0 / flags.vms as f64,
        threads: 1,
        idle_threads: 9,
        bytes_written: 64 << 10,
        folder: folder.path().to_owned(),
        bytes_sent: 64 << 10,
        ..Burn::default()
    };
    let mut vms = pods.iter().map(|pod| Burner::start(&burn, &groups, pod)).collect::<anyhow::Result<Vec<_>>>()?;
    let operator = Operator::start(folder.path())?;
    let api_server = ApiServer::start(&pods, folder.path())?;
    let mut agent = Measured::start(
        "miyako-agent",
        Command::new(env!("CARGO_BIN_EXE_miyako-agent"))
            .args(["run", "--node-name=bench", "--cgroup=/sys/fs/cgroup"])
            .arg(format!("--operator={}", operator.address))
            .arg(format!("--ca-file={}", operator.ca_file.display()))
            .arg(format!("--token-file={}", operator.token_file.display()))
            .arg(format!("--kubeconfig={}", api_server.kubeconfig.display()))
            .env("RUST_LOG", "warn"),
    )?;
    let exporter_port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let mut exporter = Measured::start(
        "prometheus-node-exporter",
        Command::new("prometheus-node-exporter")
            .arg(format!("--web.listen-address=127.0.0.1:{exporter_port}"))
            .arg("--no-collector.systemd")
            .arg("--log.level=error"),
    )
    .ok();
    operator.wait_for_vms(flags.vms)?;
    operator.forget();
    for vm in &mut vms {
        vm.go()?;
    }
    agent.begin()?;
    if let Some(exporter) = &mut exporter {
        exporter.begin()?;
    }
    let begun = now();
    while begun.elapsed() < Duration::from_secs(flags.seconds) {
        let turn = now();
        if exporter.is_some() {
            scrape(exporter_port)?;
        }
        thread::sleep(Duration::from_secs(1).saturating_sub(turn.elapsed()));
    }
    println!("{} busy VMs, one reading and report a second, for {} s:", flags.vms, flags.seconds);
    agent.print()?;
    match exporter {
        Some(exporter) => exporter.print()?,
        None => println!("  prometheus-node-exporter is not installed (apt-get install prometheus-node-exporter)"),
    }
    let burnt = vms.iter_mut().map(Burner::stop).collect::<anyhow::Result<Vec<_>>>()?;
    // The last samples are on their way.
    thread::sleep(Duration::from_millis(2500));
    let (samples, longest_gap) = operator.pace();
    println!("  {samples} samples came, at most {:.1} s apart", f64::from(u32::try_from(longest_gap)?) / 1e3);
    compare(&operator.sums(), &pods, &burnt)
}

/// One of a burner's figures.
type Figure = fn(&Burnt) -> f64;

/// Prints the sums of the samples beside what the burners used by their own count.
fn compare(sums: &BTreeMap<String, Burnt>, pods: &[String], burnt: &[Burnt]) -> anyhow::Result<()> {
    let figures: [(&str, Figure); 3] = [
        ("CPU seconds", |burnt| burnt.cpu_seconds),
        ("bytes written", |burnt| burnt.bytes_written),
        ("bytes sent", |burnt| burnt.bytes_sent),
    ];
    for (name, figure) in figures {
        let told: f64 = pods.iter().filter_map(|pod| sums.get(pod)).map(figure).sum();
        let truth: f64 = burnt.iter().map(figure).sum();
        let off = (told / truth - 1.0) * 100.0;
        println!("  {name} of all VMs: reported {told:.2}, used {truth:.2}: off by {off:+.2} %");
    }
    let worst = pods.iter().zip(burnt).map(|(pod, burnt)| {
        let told = sums.get(pod).map_or(0.0, |sum| sum.cpu_seconds);
        (told / burnt.cpu_seconds - 1.0).abs() * 100.0
    });
    println!("  CPU seconds of the VM that is off most: {:.2} %", worst.fold(0.0, f64::max));
    Ok(())
}

/// A program whose cost is measured.
struct Measured {
    name: &'static str,
    child: Child,
    begun: Option<(Instant, f64)>,
}

impl Measured {
    fn start(name: &'static str, command: &mut Command) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::null()).spawn().with_context(|| format!("could not start {name}"))?;
        Ok(Self { name, child, begun: None })
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        self.begun = Some((now(), self.cpu_seconds()?));
        Ok(())
    }

    /// What all its threads ran, as the scheduler counts it.
    fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let mut nanos = 0_u64;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            nanos += text.split_whitespace().next().context("no figures in schedstat")?.parse::<u64>()?;
        }
        Ok(nanos as f64 / 1e9)
    }

    fn print(&self) -> anyhow::Result<()> {
        let (begun, before) = self.begun.context("not begun")?;
        let cpu = (self.cpu_seconds()? - before) / begun.elapsed().as_secs_f64() * 100.0;
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        };
        let mib = |key| kib(key).map_or(f64::NAN, |kib| kib / 1024.0);
        println!(
            "  {}: {cpu:.2} % of a core, {:.1} MiB resident (of them {:.1} MiB not shared with its file)",
            self.name,
            mib("VmRSS:"),
            mib("RssAnon:")
        );
        Ok(())
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Reads the exporter's metrics once, as Prometheus would.
fn scrape(port: u16) -> anyhow::Result<()> {
    let mut connection = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = Vec::new();
    connection.read_to_end(&mut text)?;
    anyhow::ensure!(text.windows(9).any(|part| part == b"node_cpu_"), "the exporter tells no CPU figures");
    Ok(())
}

#[allow(clippy::disallowed_methods)] // a benchmark lives in real time
fn now() -> Instant {
    Instant::now()
}
