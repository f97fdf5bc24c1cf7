use super::*;
use std::path::Path;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines as AsyncLines};
use tokio::net::UnixListener;
use tokio::net::unix::OwnedReadHalf;

const PATIENCE: Duration = Duration::from_secs(60);

/// One QEMU's end of the guest's serial port.
struct Port {
    lines: AsyncLines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Port {
    async fn open(guest: &Guest, socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        guest.attach(socket);
        let (reader, writer) = listener.accept().await.unwrap().0.into_split();
        Self { lines: BufReader::new(reader).lines(), writer }
    }

    async fn say(&mut self, text: &str) {
        self.writer.write_all(text.as_bytes()).await.unwrap();
    }

    async fn report(&mut self, sequence: u64, applied: u64) {
        let report = Report { sequence, uptime_ms: sequence * 100, operations: sequence, applied, ..Report::default() };
        self.say(&Message::Report(report).line()).await;
    }

    async fn state(&mut self, check: Option<Check>) {
        self.say(&Message::State(State { check, ..STATE }).line()).await;
    }

    /// The next command that arrives whole.
    async fn command(&mut self) -> Command {
        loop {
            let line = self.lines.next_line().await.unwrap().unwrap();
            if let Ok(command) = Command::parse(line.as_bytes()) {
                return command;
            }
        }
    }
}

const STATE: State = State {
    pages: 8,
    seed: 1,
    workers: 2,
    load: Permille::FULL,
    intensity: Intensity::MIXED,
    speed: Speed { loops: 1, reads: 1, writes: 1 },
    check: None,
};

async fn reaches(guest: &Guest, sequence: u64) {
    while guest.last().is_none_or(|last| last.sequence < sequence) {
        guest.reports(PATIENCE).await.unwrap();
    }
}

#[tokio::test]
async fn a_command_is_repeated_until_it_is_applied_and_not_after() {
    let folder = tempfile::tempdir().unwrap();
    let guest = Guest::new("vm0");
    let mut port = Port::open(&guest, &folder.path().join("a")).await;
    port.state(None).await;
    // The guest has obeyed somebody else before.
    port.report(1, 70).await;
    guest.booted(PATIENCE).await.unwrap();
    let play = async {
        let first = port.command().await;
        assert_eq!(first, Command { number: 71, order: Order::Intensity(Intensity::READ_MOSTLY) });
        // It got lost.
        assert_eq!(port.command().await, first);
        port.report(2, 71).await;
    };
    let (done, ()) = tokio::join!(guest.set_intensity(Intensity::READ_MOSTLY, PATIENCE), play);
    done.unwrap();

    let play = async {
        let command = loop {
            let command = port.command().await;
            if command.number > 71 {
                break command;
            }
        };
        assert_eq!(command, Command { number: 72, order: Order::Check });
        let check = |command| Check { command, pages: 8, outdated: 0, damaged: 2, first_bad: Some(3) };
        // An earlier check's outcome is not this one's.
        port.state(Some(check(60))).await;
        port.report(3, 72).await;
        port.state(Some(check(72))).await;
    };
    let (check, ()) = tokio::join!(guest.check(PATIENCE), play);
    assert_eq!(check.unwrap().command, 72);
}

#[tokio::test]
async fn a_guest_is_followed_to_another_machine_through_torn_lines() {
    let folder = tempfile::tempdir().unwrap();
    let guest = Guest::new("vm0");
    let mut source = Port::open(&guest, &folder.path().join("a")).await;
    let mut target = Port::open(&guest, &folder.path().join("b")).await;
    source.state(None).await;
    source.report(1, 0).await;
    source.say("R 2 200 2 0 ").await;
    reaches(&guest, 1).await;
    drop(source);
    target.say("0 0 12345678\n").await;
    target.report(3, 0).await;
    reaches(&guest, 3).await;
    assert_eq!(guest.ledger().observations().len(), 2, "the torn report is lost, and its successor holds all of it");
    assert_eq!(guest.ran_twice(), None);

    // Commands go where the guest is now.
    let play = async {
        let command = target.command().await;
        target.report(4, command.number).await;
    };
    let (done, ()) = tokio::join!(guest.set_load(Permille::FULL, PATIENCE), play);
    done.unwrap();
}

#[tokio::test]
async fn a_guest_that_runs_on_two_machines_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let guest = Guest::new("vm0");
    let mut source = Port::open(&guest, &folder.path().join("a")).await;
    let mut target = Port::open(&guest, &folder.path().join("b")).await;
    source.report(1, 0).await;
    reaches(&guest, 1).await;
    target.report(3, 0).await;
    reaches(&guest, 3).await;
    // The source's last words are read late: no harm.
    source.report(2, 0).await;
    target.report(4, 0).await;
    reaches(&guest, 4).await;
    assert_eq!(guest.ran_twice(), None);
    // But it goes on.
    source.report(3, 0).await;
    source.report(5, 0).await;
    reaches(&guest, 5).await;
    assert_eq!(guest.ran_twice(), Some(3));
}

#[tokio::test]
async fn a_guest_that_says_nothing_is_not_waited_for_for_ever() {
    let guest = Guest::new("vm0");
    guest.attach("/no/such/socket");
    tokio::time::pause();
    let silent = guest.booted(PATIENCE).await.unwrap_err();
    assert_eq!(silent.to_string(), "the guest of vm0 did not boot within 60 s; its last report: None");
}

#[tokio::test]
async fn a_guest_that_lags_behind_its_script_skips_loads_but_fails_their_operations() {
    let folder = tempfile::tempdir().unwrap();
    let guest = Guest::new("vm0");
    let mut port = Port::open(&guest, &folder.path().join("a")).await;
    port.state(None).await;
    port.report(1, 0).await;
    reaches(&guest, 1).await;
    let load = |thousandths| Permille::new(thousandths).unwrap();
    let millisecond = Duration::from_millis(1);
    let script = Script::new(vec![(millisecond, load(100)), (millisecond * 5, load(900))]).unwrap();
    let begin = Instant::now();
    let play = async {
        // It hears the first load and does nothing.
        loop {
            let command = port.command().await;
            if command.order == Order::Load(load(900)) {
                break port.report(2, command.number).await;
            }
        }
    };
    tokio::join!(guest.follow(&script, begin), play);
    // 1800 operations a second from two workers, from the moment of the wish.
    let second = guest.ledger().seconds(begin + millisecond * 1000, 1)[0];
    assert_eq!(second.target.round(), 1800.0);
}
