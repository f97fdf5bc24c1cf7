//! Emulators as child processes.

use std::{
    net::{TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

/// A child process that ends with the test.
pub(crate) struct Process(Child);

impl Process {
    /// Starts a program without input; its output goes to a file for the case that it doesn't come up.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let file = std::fs::File::create(log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}; e2e/tools/apt installs what is needed")))
    }

    /// Waits until it listens on a TCP port of this machine.
    pub(crate) fn await_tcp(mut self, port: u16, log: &Path) -> Self {
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return self;
            }
            self.assert_running(log);
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("nothing listens on port {port}: {}", std::fs::read_to_string(log).unwrap_or_default());
    }

    /// Fails with its output if it has ended.
    pub(crate) fn assert_running(&mut self, log: &Path) {
        if let Some(status) = self.0.try_wait().unwrap() {
            panic!("it ended with {status}: {}", std::fs::read_to_string(log).unwrap_or_default());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A UDP port that is free now.
pub(crate) fn free_udp_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A program of the Python environment with emulated BMCs, which is installed if it is missing.
pub(crate) fn bmcs(program: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/tools/bmcs/install");
        let output = Command::new(&script).output().unwrap();
        assert!(output.status.success(), "{script:?}: {}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8(output.stdout).unwrap().lines().last().unwrap())
    });
    folder.join("bin").join(program)
}
