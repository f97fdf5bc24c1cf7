//! The only program of a lab guest: the papers' benchmark and a checksum of its memory, as `/init` of a tiny Linux.
//!
//! Threads: one worker for each virtual CPU, which yields to the two that talk to the host on the second serial port (one
//! reports, one listens), and now and then one that checks the memory with what the workers leave over. If any of them
//! fails, the program ends, the kernel panics, and QEMU ends with it (`panic=-1`, `-no-reboot`): a broken guest is never
//! mistaken for an idle one.

mod machine;
mod workers;

use machine::{Port, uptime};
use miyako_guest::benchmark::target_millis;
use miyako_guest::boot::Boot;
use miyako_guest::channel::{Check, Command, Lines, Message, Order, Report, State};
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use workers::Workers;

/// How often the counters are told.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// How many reports pass between two tellings of a state that has not changed.
const STATE_EVERY: u64 = 10;

fn main() {
    if std::process::id() != 1 {
        eprintln!("miyako-guest is the init of a lab guest and does nothing elsewhere; e2e/tools/guest packs it");
        std::process::exit(2);
    }
    // Only an end of this process tells the host that something broke; a thread that dies alone would not.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        hook(panic);
        std::process::exit(1);
    }));
    if let Err(error) = run() {
        fail(&*error);
    }
}

/// Ends the program, and with it the machine.
fn fail(error: &dyn std::error::Error) -> ! {
    println!("miyako-guest: {error}");
    std::process::exit(1);
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    machine::mount()?;
    let boot = Boot::parse(&std::fs::read_to_string("/proc/cmdline")?)?;
    let count = std::thread::available_parallelism()?.get();
    let workers = Workers::new(boot, count)?;
    let State { speed, pages, .. } = workers.state();
    println!("miyako-guest: {pages} pages, {count} workers, {speed:?}");
    let guest = Guest { workers, news: Mutex::new(News::default()), changed: Condvar::new() };
    let port = Port::open("/dev/ttyS1")?;
    std::thread::scope(|scope| {
        guest.workers.start(scope);
        scope.spawn(|| guest.check());
        scope.spawn(|| guest.listen(&port).unwrap_or_else(|error| fail(&error)));
        guest.speak(&port)
    })?;
    Ok(())
}

struct Guest {
    workers: Workers,
    news: Mutex<News>,
    /// Something in the news changed and is to be told at once.
    changed: Condvar,
}

/// What the reports say beside the counters.
#[derive(Default)]
struct News {
    /// The last command that was applied.
    applied: u64,
    /// The command whose check is under way.
    checking: Option<u64>,
    check: Option<Check>,
    untold: bool,
}

impl Guest {
    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn speak(&self, port: &Port) -> io::Result<()> {
        for sequence in 1.. {
            let mut news = self.news();
            if !news.untold {
                news = self
                    .changed
                    .wait_timeout(news, REPORT_INTERVAL)
                    .map_or_else(|poison| poison.into_inner().0, |woken| woken.0);
            }
            let state = State { check: news.check, ..self.workers.state() };
            let tell_state = std::mem::take(&mut news.untold) || sequence % STATE_EVERY == 1;
            let report = Report {
                sequence,
                uptime_ms: u64::try_from(uptime().as_millis()).unwrap_or(u64::MAX),
                operations: self.workers.operations(),
                target_millis: target_millis(state.load, state.workers),
                writes: self.workers.writes(),
                applied: news.applied,
            };
            drop(news);
            // The state goes first: whoever reads that a command was applied knows already what came of it.
            let mut text = if tell_state { Message::State(state).line() } else { String::new() };
            text += &Message::Report(report).line();
            port.write(text.as_bytes())?;
        }
        Ok(())
    }

    fn listen(&self, port: &Port) -> io::Result<()> {
        let mut lines = Lines::default();
        loop {
            let mut bytes = [0; 256];
            let read = port.read(&mut bytes)?;
            let mut commands = Vec::new();
            lines.push(&bytes[..read], |line| commands.extend(Command::parse(line)));
            for command in commands {
                self.apply(command)?;
            }
        }
    }

    /// Checks the memory whenever that was asked for.
    fn check(&self) {
        workers::yield_to_all();
        loop {
            let mut news = self.news();
            let command = loop {
                if let Some(command) = news.checking.take() {
                    break command;
                }
                news = self.changed.wait(news).unwrap_or_else(PoisonError::into_inner);
            };
            drop(news);
            let check = self.workers.check(command);
            let mut news = self.news();
            news.check = Some(check);
            news.untold = true;
            self.changed.notify_all();
        }
    }

    fn apply(&self, Command { number, order }: Command) -> io::Result<()> {
        if number <= self.news().applied {
            return Ok(());
        }
        match order {
            Order::Load(load) => self.workers.set_load(load),
            Order::Intensity(intensity) => self.workers.set_intensity(intensity),
            Order::Speed(speed) => self.workers.set_speed(speed),
            Order::Spoil { page, how } => self.workers.spoil(page, how),
            Order::Check => self.news().checking = Some(number),
            Order::PowerOff => machine::power_off()?,
        }
        let mut news = self.news();
        news.applied = number;
        news.untold = true;
        self.changed.notify_all();
        Ok(())
    }
}
