//! AMT: a strict emulator of ours, which a client that others wrote agrees with, and a digest server that others wrote.

use crate::peers::{self, Certified, Process, Scripted, bmcs, free_port, right, wrong};
use miyako_agent::wake::{
    Amt, Belief, Careful, Driver, DriverError, Patience, PowerState, Trust, WakeFailure, Woken, wake,
};
use std::{
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

type Firmware = Arc<Mutex<peers::Amt>>;

/// A driver for a machine behind plain HTTP.
async fn driver(amt: peers::Amt) -> (Scripted, Firmware, Amt) {
    let (server, firmware) = amt.serve(None).await;
    let driver = Amt::new(&format!("http://{}", server.address), right(), Trust::default()).unwrap();
    (server, firmware, driver)
}

/// A sequence as in earnest, but with little patience.
async fn wake_soon(driver: Amt) -> Result<Woken, WakeFailure> {
    let short = Duration::from_millis(20);
    let patience =
        Patience { first_wait: short, longest_wait: short, poll: short, verify_for: short * 20, ..Patience::default() };
    let drivers: Vec<Box<dyn Driver>> = vec![Box::new(Careful::new(driver))];
    wake(&drivers, Belief::Asleep, patience, 1).await
}

#[track_caller]
fn assert_only_on(firmware: &Firmware, times: usize) {
    let firmware = firmware.lock().unwrap();
    assert_eq!(firmware.requested, vec![2; times], "nothing but power on");
    assert_eq!(firmware.violations, Vec::<String>::new());
}

#[tokio::test]
async fn a_machine_in_s3_is_resumed() {
    let (_server, firmware, driver) = driver(peers::Amt::asleep()).await;
    let reading = driver.read().await.unwrap();
    assert_eq!(reading.to_string(), "asleep (PowerState 4, AMT 16.1.25.2124)");
    let woken = wake_soon(driver).await.unwrap();
    assert!(woken.verified && woken.requests == 1, "{woken:?}");
    assert_only_on(&firmware, 1);
    assert_eq!(firmware.lock().unwrap().unauthorized, 1, "one nonce for all exchanges");
}

#[tokio::test]
async fn a_machine_that_is_on_gets_no_request() {
    let (_server, firmware, driver) =
        driver(peers::Amt { power: 2, os_power_saving: Some(2), ..peers::Amt::asleep() }).await;
    assert_eq!(wake_soon(driver).await.unwrap().requests, 0);
    assert_only_on(&firmware, 0);
}

#[tokio::test]
async fn a_machine_that_is_off_is_turned_on_and_hibernation_counts_as_off() {
    for power in [7, 8] {
        let (_server, firmware, driver) = driver(peers::Amt { power, ..peers::Amt::asleep() }).await;
        assert_eq!(driver.verify_off().await.unwrap().state, PowerState::Off);
        driver.power_on().await.unwrap();
        assert_only_on(&firmware, 1);
    }
}

#[tokio::test]
async fn modern_standby_is_told_apart_and_left_by_its_own_request() {
    let standby = peers::Amt { power: 2, os_power_saving: Some(3), ..peers::Amt::asleep() };
    let (_server, firmware, driver) = driver(standby).await;
    assert_eq!(driver.read().await.unwrap().state, PowerState::Standby);
    assert!(wake_soon(driver).await.unwrap().verified);
    assert_only_on(&firmware, 0);
    assert_eq!(firmware.lock().unwrap().os_requested, [2]);
}

#[tokio::test]
async fn nonces_are_reset_in_mid_conversation() {
    for says_stale in [false, true] {
        let moody = peers::Amt { nonce_uses: 2, says_stale, qop: "auth,auth-int", ..peers::Amt::asleep() };
        let (_server, firmware, driver) = driver(moody).await;
        assert!(wake_soon(driver).await.unwrap().verified);
        assert_only_on(&firmware, 1);
        assert!(firmware.lock().unwrap().unauthorized > 1);
    }
}

#[tokio::test]
async fn a_wrong_password_is_sent_once() {
    let (server, firmware) = peers::Amt::asleep().serve(None).await;
    let driver = Careful::new(Amt::new(&format!("http://{}", server.address), wrong(), Trust::default()).unwrap());
    let error = driver.read().await.unwrap_err();
    assert!(matches!(error, DriverError::WrongCredentials(_)), "{error}");
    assert_eq!(firmware.lock().unwrap().requests, 2, "one for the challenge, one signed");
    assert!(matches!(driver.wake().await, Err(DriverError::HeldOff { .. })));
    assert_eq!(firmware.lock().unwrap().requests, 2);
}

#[tokio::test]
async fn an_account_that_gets_locked_is_told_from_a_wrong_password() {
    let (_server, firmware, driver) = driver(peers::Amt { nonce_uses: 1, ..peers::Amt::asleep() }).await;
    driver.read().await.unwrap();
    firmware.lock().unwrap().locked = true;
    let error = driver.read().await.unwrap_err();
    assert!(matches!(error, DriverError::AccountLocked(_)), "{error}");
}

#[tokio::test]
async fn a_server_that_calls_every_nonce_stale_is_given_up() {
    let (_server, firmware, driver) =
        driver(peers::Amt { nonce_uses: 0, says_stale: true, ..peers::Amt::asleep() }).await;
    assert!(driver.read().await.is_err());
    assert_eq!(firmware.lock().unwrap().requests, 4);
}

#[tokio::test]
async fn return_value_2_is_asked_again() {
    let (_server, firmware, driver) = driver(peers::Amt { returns: vec![2, 4099], ..peers::Amt::asleep() }).await;
    assert!(wake_soon(driver).await.unwrap().verified);
    assert_only_on(&firmware, 3);

    let (_server, firmware, driver) = self::driver(peers::Amt { returns: vec![2; 9], ..peers::Amt::asleep() }).await;
    let error = wake_soon(driver).await.unwrap_err().to_string();
    assert!(error.contains("a remote console, serial or media session may be open (ReturnValue 2)"), "{error}");
    assert_only_on(&firmware, 5);

    let (_server, firmware, driver) = self::driver(peers::Amt { returns: vec![4097; 9], ..peers::Amt::asleep() }).await;
    assert!(wake_soon(driver).await.is_err());
    assert_only_on(&firmware, 1);
}

#[tokio::test]
async fn a_dozing_firmware_misses_the_first_packets() {
    let (_server, firmware, driver) = driver(peers::Amt { dozes: 3, slow: 4, ..peers::Amt::asleep() }).await;
    assert!(wake_soon(driver).await.unwrap().verified);
    assert_only_on(&firmware, 1);
}

#[tokio::test]
async fn firmware_that_only_enumerates_is_read_too() {
    let (_server, firmware, driver) = driver(peers::Amt { only_enumerates: true, ..peers::Amt::asleep() }).await;
    assert_eq!(driver.read().await.unwrap().state, PowerState::Sleeping);
    assert_only_on(&firmware, 0);
}

#[tokio::test]
async fn another_realm_is_another_machine() {
    let (_server, firmware, driver) = driver(peers::Amt { nonce_uses: 1, ..peers::Amt::asleep() }).await;
    driver.read().await.unwrap();
    firmware.lock().unwrap().realm = "Digest:B".into();
    let error = driver.read().await.unwrap_err();
    assert!(matches!(error, DriverError::OtherMachine { .. }), "{error}");
}

#[tokio::test]
async fn tls_is_pinned() {
    let certified = Certified::self_signed();
    let config = certified.server(&[&rustls::version::TLS12, &rustls::version::TLS13]);
    let (server, firmware) = peers::Amt::asleep().serve(Some(config)).await;
    let driver = |trust| Amt::new(&format!("https://{}", server.address), right(), trust).unwrap();
    assert!(wake_soon(driver(Trust::pinned(vec![certified.fingerprint]))).await.unwrap().verified);
    let asked = firmware.lock().unwrap().requests;

    let other = Certified::self_signed().fingerprint;
    let error = driver(Trust::pinned(vec![other])).read().await.unwrap_err();
    assert_eq!(error, DriverError::CertificateMismatch { seen: certified.fingerprint.to_string() });
    assert_eq!(firmware.lock().unwrap().requests, asked, "nothing is said to a stranger");
}

#[tokio::test]
async fn what_is_no_amt_says_so() {
    let port = free_port();
    let driver = Amt::new(&format!("http://127.0.0.1:{port}"), right(), Trust::default()).unwrap();
    let error = driver.read().await.unwrap_err();
    assert!(error.to_string().contains("only the TLS port 16993 is open"), "{error}");
    for (bytes, category) in [
        (peers::answer("401 Unauthorized", &["WWW-Authenticate: Negotiate"], "<html>"), "NotProvisioned"),
        (peers::answer("404 Not Found", &[], "<html>"), "NotProvisioned"),
        (peers::answer("200 OK", &["Content-Type: text/html"], "<html><br></html>"), "Garbled"),
        (peers::answer("400 Bad Request", &["Content-Type: text/html"], "<html>"), "Garbled"),
        (peers::answer("503 Service Unavailable", &[], ""), "Busy"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZZZ\r\n".to_vec(), "Unreachable"),
    ] {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let server = Scripted::start(None, move |_| bytes.clone()).await;
        let driver = Amt::new(&format!("http://{}", server.address), right(), Trust::default()).unwrap();
        let error = driver.read().await.unwrap_err();
        assert_eq!(error.category(), category, "{text}: {error}");
    }
}

/// The emulator as a client that others wrote sees it: it reads the state, turns the machine on, and is refused with a
/// wrong password.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_others_wrote_agrees_with_the_emulator() {
    // The client knows only AMT's own port, so the emulator needs an address of its own.
    let amt = Arc::new(Mutex::new(peers::Amt::asleep()));
    let answering = amt.clone();
    let _server =
        Scripted::start_at("127.16.99.2:16992", None, move |request| answering.lock().unwrap().answer(request)).await;
    let script = "
import sys, time
from amt.client import Client
client = Client('127.16.99.2', sys.argv[1], 'admin')
print('before', client.power_status())
print('returned', client.power_on())
time.sleep(0.1)
client.power_status()
print('after', client.power_status())
try:
    Client('127.16.99.2', 'wrong', 'admin').power_status()
except Exception as error:
    print('wrong', error.response.status_code)
";
    let output = tokio::task::spawn_blocking(move || {
        Command::new(bmcs("python")).args(["-c", script, peers::PASSWORD]).output().unwrap()
    });
    let output = output.await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text, "before 4\nreturned 0\nafter 2\nwrong 401\n", "{}", String::from_utf8_lossy(&output.stderr));
    assert_only_on(&amt, 1);
}

/// Digest against a server that others wrote; the answer behind it is canned.
#[tokio::test]
async fn lighttpd_accepts_the_digest() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let hash = <md5::Md5 as md5::Digest>::digest(format!("{}:amt:{}", peers::USER, peers::PASSWORD));
    let users = file("users", &format!("{}:amt:{hash:x}\n", peers::USER));
    let class = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_AssociatedPowerManagementService";
    let script = file(
        "wsman",
        &format!(
            "#!/bin/sh\nprintf 'Content-Type: application/soap+xml\\r\\n\\r\\n'\ncat <<E\n<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\"><s:Body>\
             <p:CIM_AssociatedPowerManagementService xmlns:p=\"{class}\"><p:PowerState>4</p:PowerState></p:CIM_AssociatedPowerManagementService>\
             </s:Body></s:Envelope>\nE\n"
        ),
    );
    let port = free_port();
    let root = folder.path().display();
    let config = file(
        "lighttpd.conf",
        &format!(
            "server.document-root = \"{root}\"\nserver.bind = \"127.0.0.1\"\nserver.port = {port}\n\
             server.modules = (\"mod_auth\", \"mod_authn_file\", \"mod_cgi\")\n\
             auth.backend = \"htdigest\"\nauth.backend.htdigest.userfile = \"{users}\"\n\
             auth.require = (\"/wsman\" => (\"method\" => \"digest\", \"realm\" => \"amt\", \"require\" => \"valid-user\"))\n\
             cgi.assign = (\"wsman\" => \"/bin/sh\")\n"
        ),
    );
    assert!(script.ends_with("/wsman"));
    let log = folder.path().join("log");
    let _process = Process::start(Command::new("lighttpd").args(["-D", "-f", &config]), &log).await_tcp(port, &log);
    let driver = |credentials| Amt::new(&format!("http://127.0.0.1:{port}"), credentials, Trust::default()).unwrap();
    let amt = driver(right());
    for _ in 0..3 {
        assert_eq!(amt.read().await.unwrap().state, PowerState::Sleeping);
    }
    let error = driver(wrong()).read().await.unwrap_err();
    assert!(matches!(error, DriverError::WrongCredentials(_)), "{error}");
}
