//! Lab nodes on this machine. They need root's rights, as the lab does.

// An edge: they wait for real processes by the real clock.
#![allow(clippy::disallowed_methods)]

use miyako_lab::child::Program;
use miyako_lab::node::proxy::DIRECT_PORT;
use miyako_lab::node::{Lab, Launcher, LauncherSpec, Node, NodeSpec, sweep_all};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const BINARY: &str = env!("CARGO_BIN_EXE_lab-node");
/// More than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    // In this order: launchers end before their nodes, and these before the lab.
    source: Launcher,
    target: Launcher,
    nodes: [Node; 2],
    lab: Lab,
    _folder: tempfile::TempDir,
    runtime: Runtime,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let mut lab = Lab::begin(Path::new(BINARY), &folder.path().join("lab")).unwrap();
    let mut node = |name: &str| lab.add_node(&NodeSpec { name: name.into(), cores: 0.2, link: None }).unwrap();
    let nodes = [node("n0"), node("n1")];
    let source = nodes[0].start_launcher(launcher("source")).unwrap();
    let target = nodes[1].start_launcher(launcher("target")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    World { source, target, nodes, lab, _folder: folder, runtime }
}

fn launcher(pod: &str) -> LauncherSpec {
    LauncherSpec {
        namespace: "ns".into(),
        name: "vm".into(),
        vmi_uid: "5f0e8cd2-44f1-4a6e-9f2b-3f9c1d1f0b11".into(),
        pod: pod.into(),
        pod_uid: format!("{pod}-uid"),
    }
}

impl World {
    /// The migration's way from launcher to launcher, with a listener in QEMU's place at its end.
    fn connect(&self) -> (UnixListener, UnixStream) {
        let listener = UnixListener::bind(&self.target.sockets_on_host()[&DIRECT_PORT]).unwrap();
        let [from, to] = &self.nodes;
        self.runtime.block_on(async {
            let ports = to.handler().receive("m", self.target.sockets_on_host()).await.unwrap();
            from.handler().send("m", self.source.sockets_on_host(), to.address().into(), ports).await.unwrap();
        });
        (listener, UnixStream::connect(&self.source.sockets_on_host()[&DIRECT_PORT]).unwrap())
    }

    /// The same, once a byte has gone all the way: both ends of it.
    fn connected(&self) -> (UnixStream, UnixStream) {
        let (listener, mut source) = self.connect();
        source.write_all(b"a").unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0]).unwrap();
        (source, stream)
    }

    fn close(&self) {
        self.runtime.block_on(async {
            for node in &self.nodes {
                node.handler().close("m").await.unwrap();
            }
        });
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not in time");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whatever on this machine carries the number of a lab's slot, or the path of its folder.
fn traces(slot: u8, folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let tool = |program: &str, arguments: &[&str]| {
        String::from_utf8(Command::new(program).args(arguments).output().unwrap().stdout).unwrap()
    };
    let names = tool("ip", &["netns", "list"]) + &tool("ip", &["-brief", "link"]);
    let carries = |line: &str| {
        let mut name = line.split(['@', ' ']).next().unwrap_or_default().to_owned();
        name.push('-');
        [format!("miyako-lab-{slot}-"), format!("mlb{slot}-"), format!("mlv{slot}-")]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    found.extend(names.lines().filter(|line| carries(line)).map(str::to_owned));
    for line in fs::read_to_string("/proc/mounts").unwrap().lines() {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let cgroup = Path::new(place).join(format!("miyako-lab-{slot}"));
        if kind.starts_with("cgroup") && cgroup.exists() {
            found.push(cgroup.display().to_string());
        }
        if line.contains(&folder.display().to_string()) || line.contains(&format!("miyako-lab-{slot}-")) {
            found.push(line.to_owned());
        }
    }
    let survivors = miyako_lab::child::survivors_below(folder).unwrap();
    found.extend(survivors.into_iter().map(|(pid, command)| format!("{pid} {command}")));
    found
}

#[test]
fn bytes_go_from_launcher_to_launcher_and_back() {
    let world = world();
    let inside = world.source.migration_socket();
    assert_eq!(inside, Path::new("/var/run/kubevirt/migrationproxy").join(inside.file_name().unwrap()));
    let (listener, mut source) = world.connect();
    assert!(!inside.exists(), "the launcher's socket is the machine's too");
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let expected = sent.clone();
    let end = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).unwrap();
        stream.write_all(b"thanks").unwrap();
        read
    });
    source.write_all(&sent).unwrap();
    source.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    source.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "thanks");
    assert!(end.join().unwrap() == expected, "the bytes changed on their way");
    let carried = world.runtime.block_on(world.nodes[0].handler().carried("m")).unwrap();
    assert_eq!(carried.connections, 1);
    world.close();
    UnixStream::connect(&world.source.sockets_on_host()[&DIRECT_PORT]).unwrap_err();
}

#[test]
fn a_command_inside_sees_the_launchers_sockets_and_the_nodes_network() {
    let world = world();
    let run = |script: &str| {
        let program = Program::new("inside", "sh").arg("-c").arg(script).behind(world.source.prefix());
        let child = program.start(world.source.folder()).unwrap();
        until("the command ends", || child.ended().unwrap().is_some());
        child.output().unwrap()
    };
    let _sockets = world.connect();
    let name = world.source.migration_socket();
    assert!(run(&format!("ls {}", name.display())).contains(name.to_str().unwrap()));
    assert!(run("cat /proc/net/fib_trie").contains(&world.nodes[0].address().to_string()));
    assert!(run("cat /proc/self/cgroup").contains("/n0/machine/kubepods/burstable/podsource-uid/compute"));
    // What is not of the launcher's own is the machine's.
    assert_eq!(run("ls /var/lib"), {
        let output = Command::new("ls").arg("/var/lib").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    });
}

#[test]
fn a_node_has_no_more_than_its_quota() {
    let world = world();
    let burner = Program::new("burner", "sh").arg("-c").arg("while :; do :; done").behind(world.source.prefix());
    let _burner = burner.start(world.source.folder()).unwrap();
    let root = world.nodes[0].cgroup_root();
    let file = ["cpu/cpu.stat", "cpu.stat"].map(|name| root.join(name)).into_iter().find(|file| file.exists());
    let file = file.unwrap();
    until("the quota takes effect", || {
        let text = fs::read_to_string(&file).unwrap();
        let throttled = text.lines().find_map(|line| line.strip_prefix("nr_throttled ")).unwrap();
        throttled.parse::<u64>().unwrap() > 0
    });
}

#[test]
fn a_frozen_node_stands_still_and_goes_on() {
    let world = world();
    let (mut source, mut stream) = world.connected();
    let mut byte = [0];
    world.nodes[1].freeze();
    source.write_all(b"b").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.read_exact(&mut byte).unwrap_err();
    world.nodes[1].thaw();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"b");
}

#[test]
fn a_node_that_is_cut_off_hears_nothing_until_its_cable_is_back() {
    let world = world();
    let (mut source, mut stream) = world.connected();
    let mut byte = [0];
    world.nodes[0].cut_off().unwrap();
    source.write_all(b"b").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.read_exact(&mut byte).unwrap_err();
    world.nodes[0].reconnect().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"b");
}

#[test]
fn a_link_is_as_slow_as_it_is_told() {
    const BITS_PER_SECOND: u64 = 80_000_000;
    const BYTES: usize = 8 << 20;
    let world = world();
    world.nodes[1].set_link(Some(BITS_PER_SECOND)).unwrap();
    let (listener, mut source) = world.connect();
    let reader = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap()
    });
    let begin = Instant::now();
    source.write_all(&vec![7; BYTES]).unwrap();
    source.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(reader.join().unwrap(), BYTES as u64);
    // A slow machine only makes it longer. One burst goes unlimited.
    let least = Duration::from_secs_f64(BYTES as f64 * 8.0 / BITS_PER_SECOND as f64 * 0.9);
    assert!(begin.elapsed() > least, "{:?} for {BYTES} bytes", begin.elapsed());
}

#[test]
fn a_launcher_that_ends_takes_everything_inside_with_it() {
    let world = world();
    let World { source, target, lab, _folder: folder, .. } = world;
    let sleeper = Program::new("sleeper", "sleep").arg("1000").behind(source.prefix()).start(source.folder()).unwrap();
    until("the sleeper is inside", || source.members().len() == 2);
    source.end().unwrap();
    assert!(sleeper.ended().unwrap().is_some());
    assert_eq!(target.members().len(), 1);
    drop((target, world.nodes));
    let slot = lab.slot();
    lab.end().unwrap();
    assert_eq!(traces(slot, folder.path()), Vec::<String>::new());
}

#[test]
fn a_lab_that_is_dropped_leaves_nothing() {
    let world = world();
    let (slot, folder) = (world.lab.slot(), world._folder.path().to_owned());
    assert!(traces(slot, &folder).len() > 5);
    world.nodes[0].freeze();
    drop(world);
    assert_eq!(traces(slot, &folder), Vec::<String>::new());
}

/// Begins a lab and says so; see the next test, whose child it is.
#[test]
#[ignore = "waits to be killed"]
fn a_run_to_be_killed() {
    let folder = PathBuf::from(std::env::var_os("LAB_FOLDER").unwrap());
    let world = world();
    // The test that kills us knows the lab by this folder.
    symlink(world._folder.path(), folder.join("lab")).unwrap();
    world.nodes[1].freeze();
    println!("\nslot {}", world.lab.slot());
    thread::sleep(PATIENCE);
}

#[test]
fn a_lab_whose_runner_is_killed_leaves_nothing_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "a_run_to_be_killed", "--nocapture"])
        .env("LAB_FOLDER", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(run.stdout.take().unwrap()).lines().map_while(Result::ok);
    let slot: u8 = lines.filter_map(|line| line.strip_prefix("slot ")?.parse().ok()).next().unwrap();
    let lab = folder.path().join("lab").canonicalize().unwrap();
    assert!(traces(slot, &lab).len() > 5);
    kill_process(Pid::from_raw(i32::try_from(run.id()).unwrap()).unwrap(), Signal::KILL).unwrap();
    run.wait().unwrap();
    sweep_all().unwrap();
    // Another test may have taken the slot in the meantime; its own things are not this lab's.
    let still = || traces(slot, &lab).into_iter().filter(|trace| trace.contains(&lab.display().to_string()));
    assert_eq!(still().count(), 0, "{:?}", still().collect::<Vec<_>>());
    fs::remove_dir_all(&lab).unwrap();
}
