//! IPMI: OpenIPMI's simulator and pyghmi's fake BMC (suite 3), and the latter taught suite 17, DCMI and ACPI states, which
//! `ipmitool` agrees with.

use crate::peers::{PASSWORD, Process, USER, bmcs, free_udp_port, right, wrong};
use miyako_agent::wake::{
    Belief, Careful, Credentials, Driver, DriverError, Ipmi, Patience, PowerState, Reading, wake,
};
use std::{
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::net::UdpSocket;

fn driver(port: u16, credentials: Credentials) -> Ipmi {
    Ipmi::new(&format!("127.0.0.1:{port}"), credentials).unwrap()
}

/// Reads as soon as the BMC is up.
async fn await_reading(process: &mut Process, log: &Path, driver: &Ipmi) -> Reading {
    for _ in 0..100 {
        process.assert_running(log);
        match driver.read().await {
            Err(DriverError::Unreachable { why, .. }) if why.contains("nothing listens") => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            other => return other.unwrap(),
        }
    }
    panic!("the BMC does not come up: {}", std::fs::read_to_string(log).unwrap());
}

/// OpenIPMI's simulator with a machine that is off, whose power is a file.
struct Simulator {
    folder: tempfile::TempDir,
    port: u16,
    process: Process,
}

impl Simulator {
    fn start() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let port = free_udp_port();
        file("power", "0");
        file(
            "chassis",
            "#!/bin/sh\nstate=$1; shift\necho \"$@\" >>\"$state.log\"\nif [ \"$1\" = set ]; then echo \"$3\" >\"$state\"; else echo \"power:$(cat \"$state\")\"; fi\n",
        );
        std::fs::set_permissions(folder.path().join("chassis"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let auths = "none md2 md5 straight";
        file(
            "lan.conf",
            &format!(
                "name \"sim\"\nset_working_mc 0x20\n  startlan 1\n    addr 127.0.0.1 {port}\n    priv_limit admin\n\
                 \x20   allowed_auths_callback {auths}\n    allowed_auths_user {auths}\n    allowed_auths_operator {auths}\n\
                 \x20   allowed_auths_admin {auths}\n    guid a123456789abcdefa123456789abcdef\n  endlan\n\
                 \x20 chassis_control \"{} {}\"\n  user 2 true \"{USER}\" \"{PASSWORD}\" admin 10 {auths}\n",
                path("chassis"),
                path("power"),
            ),
        );
        file("sim.emu", "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\nmc_enable 0x20\n");
        let mut command = Command::new("ipmi_sim");
        command.args(["-c", &path("lan.conf"), "-f", &path("sim.emu"), "-s", &path(""), "-n"]);
        let process = Process::start(&mut command, &folder.path().join("log"));
        Self { port, process, folder }
    }

    fn text(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(file)).unwrap()
    }
}

#[tokio::test]
async fn the_simulator_is_turned_on() {
    let mut simulator = Simulator::start();
    let (log, ipmi) = (simulator.folder.path().join("log"), driver(simulator.port, right()));
    let reading = await_reading(&mut simulator.process, &log, &ipmi).await;
    assert_eq!(reading.to_string(), "off (chassis off)");
    // The simulator has no DCMI and says to all but administrators that they may not ask for it.
    let error = ipmi.watts().await.unwrap_err();
    assert!(matches!(error, DriverError::NotPermitted(_)), "{error}");

    let patience = Patience { poll: Duration::from_millis(50), ..Patience::default() };
    let drivers: Vec<Box<dyn Driver>> = vec![Box::new(Careful::new(ipmi))];
    let woken = wake(&drivers, Belief::Asleep, patience, 1).await.unwrap();
    assert!(woken.verified && woken.requests == 1, "{woken:?}");
    assert_eq!(simulator.text("power").trim(), "1");
    let asked = simulator.text("power.log");
    assert!(asked.lines().filter(|line| line.starts_with("set")).eq(["set power 1"]), "nothing but on: {asked}");
    assert!(matches!(drivers[0].verify_off().await, Err(DriverError::NotOff(_))));
}

#[tokio::test]
async fn who_may_not_is_told_why() {
    let mut simulator = Simulator::start();
    let log = simulator.folder.path().join("log");
    await_reading(&mut simulator.process, &log, &driver(simulator.port, right())).await;
    let category =
        async |credentials| driver(simulator.port, credentials).wake().await.map_err(|error| error.category());
    assert_eq!(category(wrong()).await, Err("WrongCredentials"));
    assert_eq!(category(Credentials::new("nobody", PASSWORD)).await, Err("WrongCredentials"));
    assert_eq!(category(Credentials::new("much-too-long-a-name", PASSWORD)).await, Err("WrongCredentials"));
    assert_eq!(simulator.text("power").trim(), "0");
}

#[tokio::test]
async fn pyghmis_fake_bmc_is_turned_on() {
    let folder = tempfile::tempdir().unwrap();
    let (port, log) = (free_udp_port(), folder.path().join("log"));
    let mut process = Process::start(Command::new(bmcs("fakebmc")).args(["--port", &port.to_string()]), &log);
    let ipmi = driver(port, Credentials::new("admin", "password"));
    assert_eq!(await_reading(&mut process, &log, &ipmi).await.state, PowerState::Off);
    ipmi.power_on().await.unwrap();
    assert_eq!(ipmi.read().await.unwrap().state, PowerState::On);
}

/// pyghmi's fake BMC, taught cipher suite 17, DCMI and the ACPI state of a machine in S3.
const NEWER_BMC: &str = r"
import hashlib, sys, types
from pyghmi.ipmi.private import constants, serversession
from pyghmi.ipmi import bmc
import hmac, struct

# Suite 17 is suite 3 with another hash; the algorithms' numbers and the code's length are elsewhere.
serversession.hashlib = types.SimpleNamespace(sha1=hashlib.sha256, sha256=hashlib.sha256)

class Session17(serversession.ServerSession):
    def create_open_session_response(self, request):
        if request[12] != 3:
            print('offered', request[12], flush=True)
        self.currhashlen = 16
        response = super().create_open_session_response(request)
        response[16], response[24] = 3, 4
        return response

    def _send_rakp4(self, tag, status):
        payload = bytearray([tag, status, 0, 0]) + self.clientsessionid
        code = hmac.new(self.sik, bytes(self.Rm + self.managedsessionid + self.uuiddata), hashlib.sha256)
        payload += code.digest()[:16]
        self.send_payload(payload, constants.payload_types['rakp4'], retry=False)
        self.confalgo, self.integrityalgo, self.sequencenumber = 'aes', 'sha256', 1
        self.sessionid = struct.unpack('<I', bytes(self.clientsessionid))[0]

serversession.ServerSession = Session17

class Machine(bmc.Bmc):
    power = 'off'
    def get_power_state(self):
        return self.power
    def power_on(self):
        self.power = 'on'
    def handle_raw_request(self, request, session):
        which = (request['netfn'], request['command'])
        if which == (6, 7):
            session.send_ipmi_response(data=[0 if self.power == 'on' else 3, 0])
        elif which == (0x2c, 2):
            session.send_ipmi_response(data=[0xdc, 0x2c, 1, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 0xe8, 3, 0, 0, 0x40])
        else:
            super().handle_raw_request(request, session)

Machine({'admin': sys.argv[2]}, port=int(sys.argv[1])).listen()
";

#[tokio::test]
async fn suite_17_dcmi_and_acpi_states_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let (port, log) = (free_udp_port(), folder.path().join("log"));
    let mut command = Command::new(bmcs("python"));
    command.args(["-u", "-c", NEWER_BMC, &port.to_string(), PASSWORD]);
    let mut process = Process::start(&mut command, &log);
    let ipmi = driver(port, right());
    let reading = await_reading(&mut process, &log, &ipmi).await;
    assert_eq!(reading.to_string(), "asleep (chassis off, ACPI state 0x03)");
    assert_eq!(ipmi.watts().await.unwrap().watts, 300.0);
    ipmi.wake().await.unwrap();
    assert_eq!(ipmi.read().await.unwrap().state, PowerState::On);
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "", "no other suite was offered");
    assert_eq!(driver(port, wrong()).read().await.unwrap_err().category(), "WrongCredentials");

    // A client that others wrote agrees that this is suite 17, and what DCMI says.
    let tool = async |cipher: &str, words: &[&str]| {
        let mut command = tokio::process::Command::new("ipmitool");
        command.args(["-I", "lanplus", "-H", "127.0.0.1", "-p", &port.to_string(), "-U", USER, "-E", "-C", cipher]);
        command.args(["-N", "2", "-R", "1"]).args(words).env("IPMI_PASSWORD", PASSWORD);
        String::from_utf8(command.output().await.unwrap().stdout).unwrap()
    };
    let state = ["power", "status"];
    assert_eq!(tool("17", &state).await, "Chassis Power is on\n");
    assert_ne!(tool("3", &state).await, "Chassis Power is on\n");
    let said = tool("17", &["dcmi", "power", "reading"]).await;
    assert!(
        said.lines().any(|line| line.contains("Instantaneous") && line.trim_end().ends_with(" 300 Watts")),
        "{said}"
    );
}

/// Passes datagrams on, loses every third and sends every fifth twice.
async fn bad_network(to: u16) -> u16 {
    let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    far.connect(("127.0.0.1", to)).await.unwrap();
    let port = near.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut client, mut count) = (None, 0);
        let (mut there, mut back) = ([0; 2048], [0; 2048]);
        loop {
            count += 1;
            let times = if count % 3 == 0 {
                0
            } else if count % 5 == 0 {
                2
            } else {
                1
            };
            tokio::select! {
                received = near.recv_from(&mut there) => {
                    let (length, from) = received.unwrap();
                    client = Some(from);
                    for _ in 0..times {
                        far.send(&there[..length]).await.unwrap();
                    }
                }
                received = far.recv(&mut back) => {
                    let length = received.unwrap();
                    for _ in 0..times {
                        near.send_to(&back[..length], client.unwrap()).await.unwrap();
                    }
                }
            }
        }
    });
    port
}

#[tokio::test]
async fn lost_and_doubled_datagrams_are_survived() {
    let mut simulator = Simulator::start();
    let log = simulator.folder.path().join("log");
    await_reading(&mut simulator.process, &log, &driver(simulator.port, right())).await;
    let ipmi = driver(bad_network(simulator.port).await, right());
    ipmi.power_on().await.unwrap();
    assert_eq!(simulator.text("power").trim(), "1");
}

#[tokio::test]
async fn a_port_without_a_bmc_is_told_from_one_that_is_silent() {
    let error = driver(free_udp_port(), right()).read().await.unwrap_err();
    assert!(error.to_string().contains("nothing listens on this UDP port"), "{error}");
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let error =
        Careful::with_deadline(driver(silent.local_addr().unwrap().port(), right()), Duration::from_millis(300));
    assert!(matches!(error.read().await, Err(DriverError::TimedOut(_))));
}

/// What a BMC that has only suite 3 makes of an offer of suite 17.
#[derive(Debug, Clone, Copy)]
enum Dislike {
    /// It never answers.
    Silence,
    /// It refuses the offer with this status, cut short or not.
    Status(u8, bool),
    /// It agrees, and is silent after that.
    AgreesAndIsSilent,
    /// It agrees, and refuses RAKP 1 with this status.
    AgreesAndRefuses(u8),
    /// It agrees, and proves another password.
    AgreesAndProvesWrongly,
    /// It agrees, and answers with suite 3.
    AgreesToAnother,
}

/// The simulator, which has suite 3, behind a BMC's own way to refuse suite 17. Counts the offers of 17.
async fn disliking(to: u16, dislike: Dislike) -> (u16, Arc<AtomicU32>) {
    const BMC: [u8; 4] = [0x17; 4];
    let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    far.connect(("127.0.0.1", to)).await.unwrap();
    let port = near.local_addr().unwrap().port();
    let offers = Arc::new(AtomicU32::new(0));
    let count = offers.clone();
    let plain = |kind: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_le_bytes();
        [&[6, 0, 0xff, 7, 6, kind], &[0; 8][..], &length, content].concat()
    };
    tokio::spawn(async move {
        let (mut client, mut console) = (None, [0; 4]);
        let (mut there, mut back) = ([0; 2048], [0; 2048]);
        loop {
            tokio::select! {
                received = near.recv_from(&mut there) => {
                    let (length, from) = received.unwrap();
                    client = Some(from);
                    let packet = &there[..length];
                    let is = |kind: u8| packet[4] == 6 && packet[5] & 0x3f == kind;
                    let answer = if is(0x10) && packet[16 + 12] == 3 {
                        count.fetch_add(1, Ordering::Relaxed);
                        let tag = packet[16];
                        console.copy_from_slice(&packet[20..24]);
                        let agree = |auth: u8, integrity: u8| {
                            let chosen = [[0, 0, 0, 8, auth, 0, 0, 0], [1, 0, 0, 8, integrity, 0, 0, 0], [2, 0, 0, 8, 1, 0, 0, 0]];
                            [&[tag, 0, 4, 0], &console[..], &BMC, &chosen.concat()].concat()
                        };
                        match dislike {
                            Dislike::Silence => None,
                            Dislike::Status(status, true) => Some(plain(0x11, &[tag, status])),
                            Dislike::Status(status, false) => Some(plain(0x11, &[&[tag, status, 0, 0], &console[..]].concat())),
                            Dislike::AgreesToAnother => Some(plain(0x11, &agree(1, 1))),
                            _ => Some(plain(0x11, &agree(3, 4))),
                        }
                    } else if is(0x12) && packet[20..24] == BMC {
                        let head = |status: u8| [&[packet[16], status, 0, 0], &console[..]].concat();
                        match dislike {
                            Dislike::AgreesAndRefuses(status) => Some(plain(0x13, &head(status))),
                            Dislike::AgreesAndProvesWrongly => Some(plain(0x13, &[&head(0)[..], &[5; 64]].concat())),
                            _ => None,
                        }
                    } else {
                        far.send(packet).await.unwrap();
                        None
                    };
                    if let Some(answer) = answer {
                        near.send_to(&answer, from).await.unwrap();
                    }
                }
                received = far.recv(&mut back) => {
                    near.send_to(&back[..received.unwrap()], client.unwrap()).await.unwrap();
                }
            }
        }
    });
    (port, offers)
}

#[tokio::test]
async fn suite_3_is_offered_whatever_became_of_suite_17() {
    let mut simulator = Simulator::start();
    let log = simulator.folder.path().join("log");
    await_reading(&mut simulator.process, &log, &driver(simulator.port, right())).await;
    let statuses = [0x01, 0x02, 0x04, 0x08, 0x09, 0x0a, 0x0c, 0x0d, 0x0e, 0x11, 0x12, 0x7f];
    let mut ways: Vec<_> = statuses.iter().map(|status| Dislike::Status(*status, status % 2 == 0)).collect();
    ways.extend([
        Dislike::Silence,
        Dislike::AgreesAndIsSilent,
        Dislike::AgreesAndProvesWrongly,
        Dislike::AgreesToAnother,
    ]);
    ways.extend([0x01, 0x02, 0x0d, 0x0f, 0x12].map(Dislike::AgreesAndRefuses));
    for dislike in ways {
        let (port, offers) = disliking(simulator.port, dislike).await;
        let ipmi = Careful::new(driver(port, right()));
        let read = ipmi.read().await.map_err(|error| format!("{dislike:?}: {error}"));
        assert_eq!(read.map(|reading| reading.state), Ok(PowerState::Off));
        let before = offers.load(Ordering::Relaxed);
        ipmi.read().await.unwrap();
        assert_eq!(offers.load(Ordering::Relaxed), before, "{dislike:?}: what works is remembered");
    }
    // A wrong password stays one, and is not called a missing suite.
    for dislike in [Dislike::Status(0x11, false), Dislike::AgreesAndProvesWrongly, Dislike::Silence] {
        let (port, _) = disliking(simulator.port, dislike).await;
        assert_eq!(driver(port, wrong()).read().await.unwrap_err().category(), "WrongCredentials", "{dislike:?}");
    }
}

/// Passes datagrams on, counts the client's that belong to a session, and loses all answers in a session but the first.
async fn falls_silent(to: u16) -> (u16, Arc<AtomicU32>) {
    let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    far.connect(("127.0.0.1", to)).await.unwrap();
    let port = near.local_addr().unwrap().port();
    let sent = Arc::new(AtomicU32::new(0));
    let count = sent.clone();
    tokio::spawn(async move {
        let (mut client, mut answers) = (None, 0);
        let (mut there, mut back) = ([0; 2048], [0; 2048]);
        let in_session = |packet: &[u8]| packet[4] == 6 && packet[5] & 0x3f == 0;
        loop {
            tokio::select! {
                received = near.recv_from(&mut there) => {
                    let (length, from) = received.unwrap();
                    client = Some(from);
                    count.fetch_add(u32::from(in_session(&there[..length])), Ordering::Relaxed);
                    far.send(&there[..length]).await.unwrap();
                }
                received = far.recv(&mut back) => {
                    let packet = &back[..received.unwrap()];
                    answers += u32::from(in_session(packet));
                    if !in_session(packet) || answers == 1 {
                        near.send_to(packet, client.unwrap()).await.unwrap();
                    }
                }
            }
        }
    });
    (port, sent)
}

#[tokio::test]
async fn an_ipmi_session_is_closed_when_its_call_is_given_up() {
    let mut simulator = Simulator::start();
    let log = simulator.folder.path().join("log");
    await_reading(&mut simulator.process, &log, &driver(simulator.port, right())).await;
    let (port, sent) = falls_silent(simulator.port).await;
    let careful = Careful::with_deadline(driver(port, right()), Duration::from_secs(1));
    assert!(matches!(careful.read().await, Err(DriverError::TimedOut(_))));
    // Privilege, chassis status, and what is sent after the call was given up.
    for _ in 0..100 {
        if sent.load(Ordering::Relaxed) == 3 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} packets, and no word that the session is over", sent.load(Ordering::Relaxed));
}
