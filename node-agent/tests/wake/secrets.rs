//! No password, token or SecureOn word is ever logged, printed or put into an error.

use crate::peers::{self, Certified, PASSWORD, Received, Scripted, USER, answer, free_udp_port, right};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use miyako_agent::wake::{
    Amt, Belief, Careful, Driver, Ipmi, KeptDrivers, Node, Patience, Redfish, SecureOn, Trust, Wol, wake,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::Write,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};
use tracing_subscriber::fmt::MakeWriter;

const TOKEN: &str = "tok-4711-secret";
const SECURE_ON: &str = "0a:0b:0c:0d:0e:0f";

/// Everything that must not be seen, in the forms in which it could be.
fn secrets() -> Vec<String> {
    vec![
        PASSWORD.to_owned(),
        "battery staple".to_owned(),
        STANDARD.encode(format!("{USER}:{PASSWORD}")),
        TOKEN.to_owned(),
        SECURE_ON.to_owned(),
        "0a0b0c0d0e0f".to_owned(),
        format!("{:?}", PASSWORD.as_bytes()),
        "[10, 11, 12, 13, 14, 15]".to_owned(),
    ]
}

#[track_caller]
fn assert_clean(what: &str, text: &str) {
    for secret in secrets() {
        assert!(!text.contains(&secret), "{what} shows {secret}: {text}");
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// A Redfish service that repeats what it is told, as bad ones do in their errors.
async fn parrot(certified: &Certified) -> Scripted {
    let parrot = |request: &Received| match request.line.as_str() {
        "POST /sessions" => answer("201 Created", &[&format!("X-Auth-Token: {TOKEN}"), "Location: /sessions/1"], "{}"),
        "GET /redfish/v1/" => answer("200 OK", &[], r#"{"Links":{"Sessions":{"@odata.id":"/sessions"}}}"#),
        _ if request.headers.contains_key("x-auth-token") => answer("500 Internal Server Error", &[], "oops"),
        _ => answer("401 Unauthorized", &[], ""),
    };
    Scripted::start(Some(certified.server(&[&rustls::version::TLS13])), parrot).await
}

#[tokio::test]
async fn drivers_log_and_say_no_secret() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let (amt, _firmware) = peers::Amt { returns: vec![2, 1], ..peers::Amt::asleep() }.serve(None).await;
    let certified = Certified::self_signed();
    let tls = Scripted::start(Some(certified.server(&[&rustls::version::TLS13])), |_| Vec::new()).await;
    let redfish = parrot(&certified).await;
    let forbid = |_: &Received| answer("403 Forbidden", &["WWW-Authenticate: Basic"], "no");
    let basic = Scripted::start(Some(certified.server(&[&rustls::version::TLS13])), forbid).await;
    let mac = "52:54:00:12:34:56".parse().unwrap();
    let secure_on: SecureOn = SECURE_ON.parse().unwrap();
    assert_clean("SecureOn", &format!("{secure_on:?}"));
    let pinned = || Trust::pinned(vec![certified.fingerprint]);
    let redfish_at = |address: String, trust: Trust| Redfish::new(&address, right(), trust).unwrap();
    let ipmi = Ipmi::new(&format!("127.0.0.1:{}", free_udp_port()), right()).unwrap();
    let wol = Wol::new(mac, Some(secure_on), vec!["127.0.0.1:9".parse().unwrap()]);
    for text in [
        format!("{ipmi:?}"),
        format!("{wol:?}"),
        format!("{:?}", redfish_at("https://a".into(), pinned())),
        format!("{:?}", right()),
    ] {
        assert_clean("Debug", &text);
        assert!(!text.contains(USER) || text.contains("redacted"), "{text}");
    }
    let drivers: Vec<Box<dyn Driver>> = vec![
        Box::new(Careful::new(ipmi)),
        Box::new(Careful::new(redfish_at(format!("https://{}/redfish/v1/Systems/1", redfish.address), pinned()))),
        Box::new(Careful::new(redfish_at(format!("https://{}", basic.address), pinned()))),
        Box::new(Careful::new(redfish_at(format!("https://{}", tls.address), Trust::default()))),
        Box::new(Careful::new(Amt::new(&format!("http://{}", amt.address), peers::wrong(), Trust::default()).unwrap())),
        Box::new(Careful::new(Amt::new(&format!("http://{}", amt.address), right(), Trust::default()).unwrap())),
    ];
    let short = Duration::from_millis(10);
    let patience = Patience { tries: 2, first_wait: short, longest_wait: short, poll: short, verify_for: short };
    let failure = wake(&drivers, Belief::Asleep, patience, 1).await.unwrap_err();
    assert_eq!(failure.tried.len(), drivers.len(), "{failure}");
    assert_clean("the failure", &format!("{failure} {failure:?}"));
    wol.wake().await.unwrap();
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("the BMC failed"), "{logged}");
    assert_clean("the log", &logged);
}

#[test]
fn the_command_says_no_secret_and_what_to_check() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bmc.yaml");
    std::fs::write(&file, format!("username: {USER}\npassword: {PASSWORD}\n")).unwrap();
    let port = free_udp_port();
    for (driver, address) in [
        ("redfish", format!("https://127.0.0.1:{port}")),
        ("amt", format!("http://127.0.0.1:{port}")),
        ("ipmi", format!("127.0.0.1:{port}")),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_miyako-agent"));
        command.args(["wake", "probe", "--driver", driver, "--address", &address, "--credentials-file"]).arg(&file);
        let output = command.env("RUST_LOG", "trace").output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && text.contains("check address, port and firewall"), "{text}");
        assert_clean(driver, &text);
    }
    // A file in another shape is refused without being quoted.
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_miyako-agent"));
    command.args(["wake", "watts", "--driver", "ipmi", "--address", "a", "--credentials-file"]).arg(&file);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("line 1 is neither"), "{text}");
    assert_clean("the refusal", &text);
}

#[test]
fn a_kept_driver_stays_until_its_address_or_password_changes() {
    let kept = KeptDrivers::default();
    let spec = serde_json::from_value(json!({ "driver": "ipmi", "address": "{node}.bmc" })).unwrap();
    let labels = BTreeMap::new();
    let secret = |password: &str| -> BTreeMap<String, Vec<u8>> {
        [("username", USER), ("password", password)].map(|(key, value)| (key.to_owned(), value.into())).into()
    };
    let address = |password: &str, node: &str| {
        let driver = kept.driver_for(&spec, Node { name: node, labels: &labels }, Some(&secret(password))).unwrap();
        // What is kept is the same object: its address is at the same place.
        driver.address().as_ptr() as usize
    };
    let first = address(PASSWORD, "n1");
    assert_eq!(address(PASSWORD, "n1"), first);
    assert_ne!(address(PASSWORD, "n2"), first);
    assert_eq!(address(PASSWORD, "n1"), first, "one node's does not displace another's");
}

/// A new password is tried at once, although the old one was just refused.
#[tokio::test]
async fn a_changed_password_ends_the_hold_off() {
    let (server, firmware) = peers::Amt::asleep().serve(None).await;
    let kept = KeptDrivers::default();
    let spec =
        serde_json::from_value(json!({ "driver": "amt", "address": format!("http://{}", server.address) })).unwrap();
    let labels = BTreeMap::new();
    let read = async |password: &str| {
        let secret =
            [("username", USER), ("password", password)].map(|(key, value)| (key.to_owned(), value.into())).into();
        let driver = kept.driver_for(&spec, Node { name: "n1", labels: &labels }, Some(&secret)).unwrap();
        driver.read().await.map_err(|error| error.category())
    };
    assert_eq!(read("wrong").await.unwrap_err(), "WrongCredentials");
    assert_eq!(read("wrong").await.unwrap_err(), "HeldOff", "another order does not ask again");
    assert!(read(PASSWORD).await.is_ok());
    assert_eq!(firmware.lock().unwrap().violations, Vec::<String>::new());
}
