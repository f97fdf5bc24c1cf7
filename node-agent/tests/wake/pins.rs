//! Pinned certificates of every kind, shown by OpenSSL's own server: whoever pins a fingerprint is served, or told which
//! certificate the BMC needs.

use crate::peers::{Process, free_port, right};
use miyako_agent::wake::{Driver as _, DriverError, Fingerprint, PowerState, Redfish, TlsVersion, Trust};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use std::{path::Path, process::Command};

/// A server that shows the certificate of one of the files beside this one, and has one system.
struct Server {
    port: u16,
    fingerprint: Fingerprint,
    _folder: tempfile::TempDir,
    _process: Process,
}

impl Server {
    fn start(certificate: &str, flags: &[&str]) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wake/certificates").join(certificate);
        let der = CertificateDer::from_pem_slice(&std::fs::read(&file).unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let systems = folder.path().join("redfish/v1/Systems");
        std::fs::create_dir_all(&systems).unwrap();
        let body = r#"{"PowerState":"Off"}"#;
        std::fs::write(
            systems.join("1"),
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()),
        )
        .unwrap();
        let (port, log) = (free_port(), folder.path().join("log"));
        let mut command = Command::new("openssl");
        command.args(["s_server", "-HTTP", "-quiet", "-accept", &format!("127.0.0.1:{port}"), "-cert"]).arg(&file);
        command.arg("-key").arg(&file).args(["-cipher", "DEFAULT:@SECLEVEL=0"]).args(flags).current_dir(folder.path());
        let process = Process::start(&mut command, &log).await_tcp(port, &log);
        Self { port, fingerprint: Fingerprint::of(&der), _folder: folder, _process: process }
    }

    fn driver(&self, trust: Trust) -> Redfish {
        Redfish::new(&format!("https://127.0.0.1:{}/redfish/v1/Systems/1", self.port), right(), trust).unwrap()
    }

    fn pinned(&self) -> Trust {
        Trust::pinned(vec![self.fingerprint])
    }
}

#[tokio::test]
async fn a_pinned_certificate_is_taken_as_it_is() {
    for (certificate, flags) in [
        ("v1.pem", &[][..]),
        ("v1.pem", &["-tls1_2"]),
        ("rsa2048.pem", &[]),
        ("rsa2048.pem", &["-tls1_2"]),
        ("rsa1024.pem", &[]),
        ("rsa1024.pem", &["-tls1_2"]),
    ] {
        let server = Server::start(certificate, flags);
        let driver = server.driver(server.pinned());
        for _ in 0..2 {
            let read = driver.read().await.map_err(|error| error.to_string());
            assert_eq!(read.map(|reading| reading.state), Ok(PowerState::Off), "{certificate} {flags:?}");
        }
        let read = server.driver(server.pinned().up_to(TlsVersion::Tls12)).read().await;
        assert!(read.is_ok(), "{certificate} {flags:?} up to TLS 1.2: {read:?}");
        let error = server.driver(Trust::default()).read().await.unwrap_err();
        assert!(matches!(error, DriverError::CertificateUntrusted { .. }), "{certificate}: {error}");
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_named_with_its_cure() {
    for (certificate, flags, why) in [
        ("p521.pem", &[][..], "its key is on the curve P-521"),
        ("rsa1024.pem", &["-tls1_3"], "its RSA key is too short"),
    ] {
        let server = Server::start(certificate, flags);
        let error = server.driver(server.pinned()).read().await.unwrap_err();
        assert!(error.to_string().contains(why), "{certificate} {flags:?}: {error}");
        assert!(error.to_string().contains(&server.fingerprint.to_string()), "{error}");
        assert!(error.check().contains("give the BMC a certificate of its own with a key of RSA 2048"), "{error}");
    }
    // Those that show no certificate to anybody but whoever asks for its curve.
    for certificate in ["k256.pem", "p521.pem"] {
        let server = Server::start(certificate, &["-tls1_2"]);
        let error = server.driver(server.pinned()).read().await.unwrap_err();
        assert!(
            error.check().contains("RSA 2048") && matches!(error.category(), "TlsFailed" | "CertificateUnusable"),
            "{error}"
        );
    }
    // One of an age before ours.
    let old = Server::start("rsa2048.pem", &["-tls1_1"]);
    let error = old.driver(old.pinned()).read().await.unwrap_err().to_string();
    assert!(error.contains("another version of TLS than 1.2 and 1.3"), "{error}");
}

/// Whoever shows the pinned certificate without its key is not served.
#[tokio::test]
async fn a_pin_still_asks_for_the_key() {
    let server = Server::start("rsa2048.pem", &[]);
    let other = Server::start("v1.pem", &[]);
    let error = server.driver(other.pinned()).read().await.unwrap_err();
    assert_eq!(error, DriverError::CertificateMismatch { seen: server.fingerprint.to_string() });
}
