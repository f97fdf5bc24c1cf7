//! Redfish: sushy-tools' emulator (with state, Basic, TLS) and static server (power readings), and scripted answers.

use crate::peers::{
    Authority, Certified, PASSWORD, Process, Received, Scripted, answer, bmcs, free_port, right, wrong,
};
use miyako_agent::wake::{
    Belief, Careful, Driver, DriverError, Patience, PowerState, Redfish, TlsVersion, Trust, wake,
};
use serde_json::{Value, json};
use std::{
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

/// `admin` with the tests' password, by bcrypt with the least cost.
const HTPASSWD: &str = "admin:$2b$04$TQerWY8ieW6za4/alzOPVu9wAdtpWfM7GrX1vl9bE3NiIxGMgguMS\n";

struct Sushy {
    folder: tempfile::TempDir,
    port: u16,
    _process: Process,
}

impl Sushy {
    /// The emulator with one server that is off, behind TLS and a password.
    fn start(certified: &Certified) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let users = file("htpasswd", HTPASSWD);
        let config = file(
            "config.py",
            &format!("SUSHY_EMULATOR_AUTH_FILE = {users:?}\nSUSHY_EMULATOR_STATE_DIR = {:?}\n", folder.path()),
        );
        let (certificate, key) = (file("cert", &certified.certificate), file("key", &certified.key));
        let port = free_port();
        let log = folder.path().join("log");
        let mut command = Command::new(bmcs("sushy-emulator"));
        command.args(["--fake", "-i", "127.0.0.1", "-p", &port.to_string()]).arg("--config").arg(config);
        command.arg("--ssl-certificate").arg(certificate).arg("--ssl-key").arg(key);
        let process = Process::start(&mut command, &log).await_tcp(port, &log);
        Self { folder, port, _process: process }
    }

    fn driver(&self, credentials: miyako_agent::wake::Credentials, trust: Trust) -> Redfish {
        Redfish::new(&format!("https://127.0.0.1:{}", self.port), credentials, trust).unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

#[tokio::test]
async fn a_server_is_turned_on_through_the_emulator() {
    let certified = Certified::self_signed();
    let sushy = Sushy::start(&certified);
    let pinned = || Trust::pinned(vec![certified.fingerprint]);

    let driver = sushy.driver(right(), pinned());
    assert_eq!(driver.verify_off().await.unwrap().state, PowerState::Off);
    // The emulator has no power readings and says so by their absence.
    assert!(matches!(driver.watts().await, Err(DriverError::NotSupported(_))));

    let drivers: Vec<Box<dyn Driver>> = vec![Box::new(Careful::new(driver))];
    let woken = wake(&drivers, Belief::Nothing, Patience::default(), 1).await.unwrap();
    assert!(woken.verified && woken.requests == 1, "{woken:?}");
    let again = wake(&drivers, Belief::Nothing, Patience::default(), 1).await.unwrap();
    assert_eq!((again.by, again.requests), (None, 0));

    let error = drivers[0].verify_off().await.unwrap_err();
    assert!(matches!(&error, DriverError::NotOff(text) if text.contains("PowerState On")), "{error}");
    assert_eq!(sushy.log().matches("POST").count(), 1, "one request and no reset: {}", sushy.log());
}

#[tokio::test]
async fn wrong_passwords_and_certificates_say_what_to_check() {
    let certified = Certified::self_signed();
    let sushy = Sushy::start(&certified);
    let pinned = || Trust::pinned(vec![certified.fingerprint]);

    let careful = Careful::new(sushy.driver(wrong(), pinned()));
    let error = careful.read().await.unwrap_err();
    assert!(matches!(error, DriverError::WrongCredentials(_)), "{error}");
    assert!(error.check().contains("Secret"));
    let asked = sushy.log().matches("GET").count();
    assert!(matches!(careful.read().await, Err(DriverError::HeldOff { .. })), "the account would be locked");
    assert_eq!(sushy.log().matches("GET").count(), asked);

    let other = Certified::self_signed();
    let error = sushy.driver(right(), Trust::pinned(vec![other.fingerprint])).read().await.unwrap_err();
    assert_eq!(error, DriverError::CertificateMismatch { seen: certified.fingerprint.to_string() });
    // Whoever has no fingerprint yet learns it from the error.
    let error = sushy.driver(right(), Trust::default()).read().await.unwrap_err();
    assert!(
        matches!(&error, DriverError::CertificateUntrusted { seen, .. } if *seen == certified.fingerprint.to_string())
    );
    let strangers = Trust::default().and_ca(&Authority::new().pem()).unwrap();
    let error = sushy.driver(right(), strangers).read().await.unwrap_err();
    assert!(matches!(error, DriverError::CertificateUntrusted { .. }), "{error}");
}

#[tokio::test]
async fn a_ca_is_trusted_for_the_name_it_signed() {
    let authority = Authority::new();
    let trust = || Trust::default().and_ca(&authority.pem()).unwrap();
    let sushy = Sushy::start(&authority.sign("127.0.0.1"));
    assert!(sushy.driver(right(), trust()).read().await.is_ok());
    let sushy = Sushy::start(&authority.sign("10.0.0.1"));
    let error = sushy.driver(right(), trust()).read().await.unwrap_err();
    assert!(matches!(error, DriverError::CertificateUntrusted { .. }), "{error}");
}

/// Files for the static server, which answers nothing but them.
fn tree(folder: &Path, resources: &[(&str, Value)]) {
    for (path, resource) in resources {
        let folder = folder.join(path);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("index.json"), resource.to_string()).unwrap();
    }
}

fn id(path: &str) -> Value {
    json!({ "@odata.id": path })
}

#[tokio::test]
async fn watts_are_found_where_either_schema_keeps_them() {
    let folder = tempfile::tempdir().unwrap();
    tree(
        folder.path(),
        &[
            ("", json!({ "Systems": id("/redfish/v1/Systems") })),
            ("Systems", json!({ "Members": [id("/redfish/v1/Systems/new"), id("/redfish/v1/Systems/old")] })),
            ("Systems/new", json!({ "PowerState": "On", "Links": { "Chassis": [id("/redfish/v1/Chassis/new")] } })),
            ("Systems/old", json!({ "PowerState": "On", "Links": { "Chassis": [id("/redfish/v1/Chassis/old")] } })),
            (
                "Chassis/new",
                json!({
                    "EnvironmentMetrics": id("/redfish/v1/Chassis/new/EnvironmentMetrics"),
                    "Power": id("/redfish/v1/Chassis/new/Power"),
                }),
            ),
            ("Chassis/new/EnvironmentMetrics", json!({ "PowerWatts": { "Reading": 374.5 } })),
            (
                "Chassis/old",
                json!({
                    "EnvironmentMetrics": id("/redfish/v1/Chassis/old/Missing"),
                    "Power": id("/redfish/v1/Chassis/old/Power"),
                }),
            ),
            ("Chassis/old/Power", json!({ "PowerControl": [{ "PowerConsumedWatts": 344 }] })),
        ],
    );
    let (port, log, certified) = (free_port(), folder.path().join("log"), Certified::self_signed());
    let mut command = Command::new(bmcs("sushy-static"));
    command.args(["-i", "127.0.0.1", "-p", &port.to_string(), "-m"]).arg(folder.path());
    for (flag, text) in [("-c", &certified.certificate), ("-k", &certified.key)] {
        let file = folder.path().join(flag);
        std::fs::write(&file, text).unwrap();
        command.arg(flag).arg(file);
    }
    let _process = Process::start(&mut command, &log).await_tcp(port, &log);
    let driver = |path: &str| {
        Redfish::new(&format!("https://127.0.0.1:{port}{path}"), right(), Trust::pinned(vec![certified.fingerprint]))
            .unwrap()
    };
    assert_eq!(driver("/redfish/v1/Systems/new").watts().await.unwrap().watts, 374.5);
    let old = driver("/redfish/v1/Systems/old").watts().await.unwrap();
    assert_eq!((old.watts, old.evidence.as_str()), (344.0, "Power PowerControl[0].PowerConsumedWatts"));
    let error = driver("").read().await.unwrap_err();
    assert!(error.to_string().contains("has 2 systems; write the node's into the address"), "{error}");
    assert!(matches!(driver("/redfish/v1/Systems/none").read().await, Err(DriverError::NotProvisioned(_))));
}

const SYSTEM: &str = r##"{"PowerState":"Off","Actions":{"#ComputerSystem.Reset":
    {"target":"/reset","@Redfish.ActionInfo":"/info"}}}"##;

/// A service that has one system and answers the rest as `rest` says; it keeps what it was asked.
async fn service(
    rest: impl Fn(&Received) -> Vec<u8> + Send + Sync + 'static,
) -> (Scripted, Redfish, Arc<Mutex<Vec<Received>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    let certified = Certified::self_signed();
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    let server = Scripted::start(Some(certified.server(&versions)), move |request| {
        log.lock().unwrap().push(request.clone());
        match request.line.as_str() {
            "GET /info" => answer("200 OK", &[], r#"{"Parameters":[{"Name":"ResetType","AllowableValues":["On"]}]}"#),
            _ => rest(request),
        }
    })
    .await;
    let trust = Trust::pinned(vec![certified.fingerprint]);
    let driver = Redfish::new(&format!("https://{}/redfish/v1/Systems/1", server.address), right(), trust);
    (server, driver.unwrap(), asked)
}

fn lines(asked: &Mutex<Vec<Received>>) -> Vec<String> {
    asked.lock().unwrap().iter().map(|request| request.line.clone()).collect()
}

#[tokio::test]
async fn a_service_without_basic_gets_a_session_that_is_given_back() {
    let (_server, driver, asked) = service(|request| {
        let logged_in = request.headers.get("x-auth-token").is_some_and(|token| token == "t1");
        match request.line.as_str() {
            "GET /redfish/v1/" => answer("200 OK", &[], r#"{"Links":{"Sessions":{"@odata.id":"/sessions"}}}"#),
            "POST /sessions" => {
                assert_eq!(request.body, json!({ "UserName": "admin", "Password": PASSWORD }).to_string());
                answer("201 Created", &["X-Auth-Token: t1", "Location: https://bmc/sessions/1"], "{}")
            }
            "DELETE /sessions/1" if logged_in => answer("204 No Content", &[], ""),
            "GET /redfish/v1/Systems/1" if logged_in => answer("200 OK", &[], SYSTEM),
            _ => answer("401 Unauthorized", &["Connection: close"], "<html>no</html>"),
        }
    })
    .await;
    assert_eq!(driver.read().await.unwrap().state, PowerState::Off);
    let first = [
        "GET /redfish/v1/Systems/1",
        "GET /redfish/v1/",
        "POST /sessions",
        "GET /redfish/v1/Systems/1",
        "DELETE /sessions/1",
    ];
    assert_eq!(lines(&asked), first);
    driver.read().await.unwrap();
    assert_eq!(lines(&asked)[5..], first[1..], "Basic is not tried again");
}

#[tokio::test]
async fn a_password_that_sessions_refuse_is_wrong() {
    let (_server, driver, asked) = service(|_| answer("401 Unauthorized", &[], "")).await;
    assert!(matches!(driver.read().await, Err(DriverError::WrongCredentials(_))));
    assert_eq!(asked.lock().unwrap().iter().filter(|request| request.line.starts_with("POST")).count(), 1);
}

#[tokio::test]
async fn a_request_names_the_version_if_the_service_wants_that() {
    let (_server, driver, asked) = service(|request| match request.line.as_str() {
        "GET /redfish/v1/Systems/1" => answer("200 OK", &["ETag: W/\"7\""], SYSTEM),
        "POST /reset" if request.headers.get("if-match").is_none_or(|tag| tag != "W/\"7\"") => {
            answer("428 Precondition Required", &[], "")
        }
        _ => answer("204 No Content", &[], ""),
    })
    .await;
    driver.power_on().await.unwrap();
    let asked = asked.lock().unwrap();
    assert_eq!(asked.last().unwrap().body, r#"{"ResetType":"On"}"#);
}

#[tokio::test]
async fn a_task_is_followed_to_its_end() {
    let polls = Arc::new(Mutex::new(0));
    let (_server, driver, _) = service(move |request| match request.line.as_str() {
        "GET /redfish/v1/Systems/1" => answer("200 OK", &[], SYSTEM),
        "POST /reset" => answer("202 Accepted", &["Location: /task"], "{}"),
        _ => {
            let mut polls = polls.lock().unwrap();
            *polls += 1;
            match *polls {
                1 => answer("202 Accepted", &[], ""),
                _ => answer("200 OK", &[], r#"{"TaskState":"Exception","Messages":[{"Message":"fan missing"}]}"#),
            }
        }
    })
    .await;
    let error = driver.power_on().await.unwrap_err();
    assert_eq!(error.to_string(), "refused: the task ended as Exception: fan missing");
}

#[tokio::test]
async fn nothing_but_on_is_ever_sent() {
    let (_server, driver, asked) = service(|request| match request.line.as_str() {
        "GET /redfish/v1/Systems/1" => answer(
            "200 OK",
            &[],
            r##"{"PowerState":"On","Actions":{"#ComputerSystem.Reset":{"target":"/reset",
                "ResetType@Redfish.AllowableValues":["ForceRestart","PowerCycle"]}}}"##,
        ),
        _ => answer("204 No Content", &[], ""),
    })
    .await;
    assert!(matches!(driver.wake().await, Err(DriverError::NotSupported(_))));
    assert_eq!(lines(&asked), ["GET /redfish/v1/Systems/1"]);
}

#[tokio::test]
async fn broken_answers_are_errors_of_their_kind() {
    for (bytes, category) in [
        (answer("200 OK", &[], "<html>"), "Garbled"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "Garbled"),
        (Vec::new(), "Unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\nConnection: close\r\n\r\n{".to_vec(), "Unreachable"),
        (answer("200 OK", &[], &"[".repeat(1 << 20)), "Garbled"),
        (answer("200 OK", &[], &" ".repeat((1 << 20) + 1)), "Garbled"),
        (answer("503 Service Unavailable", &["Retry-After: 30"], ""), "Busy"),
        (answer("403 Forbidden", &[], ""), "NotPermitted"),
        (answer("301 Moved Permanently", &["Location: https://elsewhere/"], ""), "Garbled"),
    ] {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        let (_server, driver, _) = service(move |_| bytes.clone()).await;
        let error = driver.read().await.unwrap_err();
        assert_eq!(error.category(), category, "{text}: {error}");
    }
    let port = free_port();
    let error = Redfish::new(&format!("https://127.0.0.1:{port}"), right(), Trust::default()).unwrap().read().await;
    assert!(matches!(error, Err(DriverError::Unreachable { address, .. }) if address == format!("127.0.0.1:{port}")));
}

#[tokio::test]
async fn a_server_of_older_or_no_tls_is_told_apart() {
    let certified = Certified::self_signed();
    let only_13 = Scripted::start(Some(certified.server(&[&rustls::version::TLS13])), |_| Vec::new()).await;
    let trust = || Trust::pinned(vec![certified.fingerprint]);
    let driver =
        Redfish::new(&format!("https://{}", only_13.address), right(), trust().up_to(TlsVersion::Tls12)).unwrap();
    let error = driver.read().await.unwrap_err();
    assert!(matches!(error, DriverError::Tls(_)), "{error}");
    let plain = Scripted::start(None, |_| answer("400 Bad Request", &["Connection: close"], "")).await;
    let driver = Redfish::new(&format!("https://{}", plain.address), right(), trust()).unwrap();
    assert!(driver.read().await.is_err());
}
