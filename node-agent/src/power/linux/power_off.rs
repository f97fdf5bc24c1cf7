//! An orderly shutdown, through logind.
//!
//! logind and not the system call or a signal to systemd: only logind tells the kubelet, which holds a delay lock for
//! it, so that pods are ended in order within the kubelet's `shutdownGracePeriod`, and only then are services stopped
//! and file systems unmounted (org.freedesktop.login1(5), "Graceful Node Shutdown" in the Kubernetes documentation).

use crate::power::host::HostError;
use std::{path::Path, time::Duration};
use tokio::time::timeout;
use zbus::{Connection, connection};

/// How long logind may take to begin.
const LONGEST: Duration = Duration::from_secs(10);

/// Asks the logind that the system bus at `socket` leads to.
pub(super) async fn through_logind(socket: &Path) -> Result<(), HostError> {
    let shutdown = async {
        let Some(path) = socket.to_str() else { return Err("its path is no text".to_owned()) };
        let address = format!("unix:path={path}");
        let bus = connection::Builder::address(address.as_str()).build().await;
        power_off(&bus.map_err(|error| error.to_string())?).await
    };
    let failed = |why: String| {
        HostError::Shutdown(format!(
            "logind did not begin the shutdown ({}): {why}; the host's /run/dbus must be mounted into the agent",
            socket.display()
        ))
    };
    match timeout(LONGEST, shutdown).await {
        Ok(done) => done.map_err(failed),
        Err(_) => Err(HostError::TimedOut { what: "the beginning of the shutdown", limit: LONGEST }),
    }
}

async fn power_off(bus: &Connection) -> Result<(), String> {
    // false: nobody is there to be asked for a password. A lock that blocks shutdowns is obeyed, and named in the
    // error.
    let (name, path, manager) = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager");
    bus.call_method(Some(name), path, Some(manager), "PowerOff", &false).await.map_err(|error| error.to_string())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };
    use zbus::{Guid, fdo, interface};

    /// logind, as far as it is asked.
    struct Logind {
        locked: bool,
        asked: Arc<AtomicU32>,
    }

    #[interface(name = "org.freedesktop.login1.Manager")]
    impl Logind {
        fn power_off(&self, interactive: bool) -> fdo::Result<()> {
            assert!(!interactive);
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.locked {
                return Err(fdo::Error::AccessDenied("Access denied due to active block inhibitor".into()));
            }
            Ok(())
        }
    }

    async fn ask(locked: bool) -> (Result<(), String>, u32) {
        let (ours, its) = UnixStream::pair().unwrap();
        let asked = Arc::new(AtomicU32::new(0));
        let logind = Logind { locked, asked: Arc::clone(&asked) };
        let server = async {
            let builder = connection::Builder::unix_stream(its).server(Guid::generate()).p2p();
            builder.serve_at("/org/freedesktop/login1", logind).build().await.unwrap()
        };
        let client = async { connection::Builder::unix_stream(ours).p2p().build().await.unwrap() };
        let (_server, client) = tokio::join!(server, client);
        (power_off(&client).await, asked.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn logind_is_asked_once() {
        assert_eq!(ask(false).await, (Ok(()), 1));
    }

    #[tokio::test]
    async fn a_lock_against_shutdowns_is_named() {
        let (asked, times) = ask(true).await;
        assert_eq!(times, 1);
        assert!(asked.unwrap_err().contains("block inhibitor"));
    }

    #[tokio::test]
    async fn without_a_bus_the_error_says_what_to_mount() {
        let error = through_logind(Path::new("/nonexistent/system_bus_socket")).await.unwrap_err();
        assert!(error.to_string().contains("/run/dbus must be mounted"), "{error}");
    }
}
