//! The kubelet's own word on its health.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

/// How long the kubelet may take to answer.
const LONGEST: Duration = Duration::from_secs(2);

/// Asks the kubelet's `/healthz`, which listens on the node's loopback only.
#[derive(Debug, Clone)]
pub struct KubeletProbe {
    /// Where it listens (`healthzBindAddress` and `healthzPort`); nobody is asked without.
    pub address: Option<SocketAddr>,
    /// The node's network namespace; absent when the agent is in it.
    pub network: Option<PathBuf>,
}

impl KubeletProbe {
    /// Where kubelets listen unless they are told otherwise.
    pub const DEFAULT: &str = "127.0.0.1:10248";

    /// Asks at `address` in the network of the host's first process. It is entered only when the agent's own is
    /// another, since that takes privileges.
    #[must_use]
    pub fn on_host(address: SocketAddr, proc: &Path) -> Self {
        let inode = |namespace: &Path| std::fs::metadata(namespace).ok().map(|file| file.ino());
        let network = proc.join("1/ns/net");
        let same = inode(&network).is_some_and(|host| inode(&proc.join("self/ns/net")) == Some(host));
        Self { address: Some(address), network: (!same).then_some(network) }
    }

    /// The answer. Moves its thread into the node's network for good: to be called on a thread of its own.
    ///
    /// # Errors
    /// Why the kubelet is not known to be healthy.
    pub fn ask(&self) -> Result<(), String> {
        let Some(address) = self.address else { return Ok(()) };
        if let Some(network) = &self.network {
            enter(network).map_err(|error| format!("could not enter {}: {error}", network.display()))?;
        }
        let status = request(address).map_err(|error| format!("the kubelet does not answer at {address}: {error}"))?;
        match status {
            Some(200) => Ok(()),
            Some(status) => Err(format!("the kubelet calls itself unhealthy (HTTP {status})")),
            None => Err(format!("what answers at {address} does not speak HTTP")),
        }
    }
}

fn enter(network: &Path) -> std::io::Result<()> {
    let namespace = File::open(network)?;
    let kind = rustix::thread::LinkNameSpaceType::Network;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind)).map_err(Into::into)
}

fn request(address: SocketAddr) -> std::io::Result<Option<u16>> {
    let mut stream = TcpStream::connect_timeout(&address, LONGEST)?;
    stream.set_read_timeout(Some(LONGEST))?;
    stream.set_write_timeout(Some(LONGEST))?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    // The status is in the first line; the rest is a few bytes.
    stream.take(512).read_to_end(&mut answer)?;
    Ok(status(&answer))
}

/// The status code in an answer's first line.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let rest = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?;
    rest.get(2..5)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::TcpListener;

    fn answering(answer: &'static str) -> KubeletProbe {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().ok();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /healthz HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        KubeletProbe { address, network: None }
    }

    #[test]
    fn the_kubelet_is_healthy_when_it_says_so() {
        assert_eq!(answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").ask(), Ok(()));
        let unhealthy = answering("HTTP/1.1 500 Internal Server Error\r\n\r\n").ask().unwrap_err();
        assert!(unhealthy.contains("500"), "{unhealthy}");
        assert!(answering("SSH-2.0-OpenSSH\r\n").ask().unwrap_err().contains("HTTP"));
    }

    #[test]
    fn a_kubelet_that_does_not_answer_is_not_healthy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().ok();
        drop(listener);
        let why = KubeletProbe { address, network: None }.ask().unwrap_err();
        assert!(why.contains("does not answer"), "{why}");
    }

    proptest! {
        #[test]
        fn any_answer_is_read(answer: Vec<u8>, tail in "[ -~]{0,8}") {
            status(&answer);
            status(format!("HTTP/1.{tail}").as_bytes());
        }
    }
}
