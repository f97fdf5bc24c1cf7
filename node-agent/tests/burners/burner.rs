//! What a burner does.

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    net::UdpSocket,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How much a burner uses each second.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Burn {
    /// CPU, in cores, shared by its threads.
    pub cores: f64,
    /// Threads that burn, named as QEMU names those of a guest's CPUs.
    pub threads: usize,
    /// Threads that only wait.
    pub idle_threads: usize,
    /// Bytes written to a file of its own.
    pub bytes_written: u64,
    /// Where that file is.
    pub folder: PathBuf,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Memory that it holds.
    pub memory: usize,
    /// Bytes of it that it writes to, page after page.
    pub bytes_dirtied: u64,
}

/// What a burner used, by its own count.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Burnt {
    pub cpu_seconds: f64,
    pub bytes_written: f64,
    pub bytes_sent: f64,
}

/// Turns.
const TURN: Duration = Duration::from_millis(50);

/// Blocks that are written at once.
const BLOCK: usize = 4096;
/// A file is written over and over, so that no space has to be found for it meanwhile.
const BLOCKS: u64 = 256;

/// A datagram's payload, and its headers down to Ethernet.
const PAYLOAD: usize = 1400;
const HEADERS: u64 = 8 + 20 + 14;

/// Burns, if this process is a burner; then it never returns.
pub fn run_if_burner() {
    let Ok(burn) = std::env::var("MIYAKO_BURN") else { return };
    let burn: Burn = serde_json::from_str(&burn).expect("MIYAKO_BURN is what `Burner` wrote");
    run(&burn).expect("a burner burns");
    std::process::exit(0);
}

fn run(burn: &Burn) -> anyhow::Result<()> {
    std::fs::write("/proc/self/comm", "qemu-kvm")?;
    let burning = Arc::new(AtomicBool::new(false));
    for number in 0..burn.threads {
        let (burning, share) = (Arc::clone(&burning), burn.cores / burn.threads as f64);
        thread::Builder::new().name(format!("CPU {number}/KVM")).spawn(move || use_cpu(&burning, share))?;
    }
    for _ in 0..burn.idle_threads {
        thread::Builder::new().name("worker".to_owned()).spawn(thread::park)?;
    }
    let disk = if burn.bytes_written > 0 { Some(Disk::new(burn)?) } else { None };
    let network = if burn.bytes_sent > 0 { Some(Network::new()?) } else { None };
    let mut orders = std::io::stdin().lines();
    writeln!(std::io::stdout(), "ready")?;
    while let Some(order) = orders.next().transpose()? {
        if order != "go" {
            continue;
        }
        burning.store(true, Ordering::Relaxed);
        let (stopped, begun) = (Arc::new(AtomicBool::new(false)), cpu_seconds());
        let io = {
            let (stopped, burn) = (Arc::clone(&stopped), burn.clone());
            let (disk, network) =
                (disk.as_ref().map(Disk::again).transpose()?, network.as_ref().map(Network::again).transpose()?);
            thread::spawn(move || use_io(&stopped, &burn, disk, network))
        };
        orders.next().transpose()?;
        burning.store(false, Ordering::Relaxed);
        stopped.store(true, Ordering::Relaxed);
        let (bytes_written, bytes_sent) = io.join().map_err(|_| anyhow::anyhow!("the thread for I/O failed"))??;
        // The threads notice within a turn.
        thread::sleep(TURN * 2);
        let burnt = Burnt {
            cpu_seconds: cpu_seconds() - begun,
            bytes_written: bytes_written as f64,
            bytes_sent: bytes_sent as f64,
        };
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&burnt)?)?;
    }
    Ok(())
}

/// What this process used, by the clock that the kernel keeps for it.
fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

fn use_cpu(burning: &AtomicBool, share: f64) {
    loop {
        let turn = now();
        while burning.load(Ordering::Relaxed) && turn.elapsed() < TURN.mul_f64(share) {
            std::hint::black_box((0..1000_u64).sum::<u64>());
        }
        thread::sleep(TURN.saturating_sub(turn.elapsed()));
    }
}

/// Writes and sends until it is stopped, and says how much.
fn use_io(
    stopped: &AtomicBool,
    burn: &Burn,
    mut disk: Option<Disk>,
    network: Option<Network>,
) -> anyhow::Result<(u64, u64)> {
    let (begun, mut written, mut sent, mut dirtied) = (now(), 0, 0, 0);
    let mut memory = vec![1_u8; burn.memory];
    while !stopped.load(Ordering::Relaxed) {
        let due = |per_second: u64| per_second as f64 * begun.elapsed().as_secs_f64();
        while disk.is_some() && (written as f64) < due(burn.bytes_written) {
            written += disk.as_mut().map_or(Ok(0), Disk::write)?;
        }
        while network.is_some() && (sent as f64) < due(burn.bytes_sent) {
            sent += network.as_ref().map_or(Ok(0), Network::send)?;
        }
        while (dirtied as f64) < due(burn.bytes_dirtied) {
            let at = dirtied % memory.len();
            memory[at] = memory[at].wrapping_add(1);
            dirtied += BLOCK;
        }
        thread::sleep(TURN);
    }
    Ok((written, sent))
}

struct Disk {
    file: File,
    memory: Vec<u8>,
    next: u64,
}

impl Disk {
    fn new(burn: &Burn) -> anyhow::Result<Self> {
        // Past the page cache: what is written later by the kernel's own threads is nobody's.
        let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits())?;
        let path = burn.folder.join(format!("burner-{}", std::process::id()));
        let file = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(direct).open(&path)?;
        std::fs::remove_file(&path)?;
        let mut disk = Self { file, memory: vec![0x5a; 2 * BLOCK], next: 0 };
        for _ in 0..BLOCKS {
            disk.write()?;
        }
        disk.file.sync_all()?;
        Ok(disk)
    }

    fn again(&self) -> anyhow::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, memory: self.memory.clone(), next: 0 })
    }

    fn write(&mut self) -> anyhow::Result<u64> {
        let aligned = self.memory.as_ptr().align_offset(BLOCK);
        let block = &self.memory[aligned..aligned + BLOCK];
        self.file.write_all_at(block, self.next % BLOCKS * BLOCK as u64)?;
        self.next += 1;
        Ok(BLOCK as u64)
    }
}

struct Network(UdpSocket);

impl Network {
    fn new() -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("10.9.0.1:0")?;
        socket.connect("10.9.0.2:9")?;
        Ok(Self(socket))
    }

    fn again(&self) -> anyhow::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    fn send(&self) -> anyhow::Result<u64> {
        let payload = self.0.send(&[0x5a; PAYLOAD])? as u64;
        Ok(payload + HEADERS)
    }
}

#[allow(clippy::disallowed_methods)] // a burner lives in real time
fn now() -> Instant {
    Instant::now()
}
