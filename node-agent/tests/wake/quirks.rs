//! Redfish services as they are: `docs/wake.md#quirks` names these tests.

use crate::peers::{Bmc, Certified, Scripted, answer, right, wrong};
use miyako_agent::wake::{Belief, Careful, Driver, DriverError, Patience, PowerState, Redfish, Trust, wake};
use serde_json::json;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// Until the service has no session open.
async fn all_given_back(bmc: &Mutex<Bmc>) {
    for _ in 0..200 {
        if bmc.lock().unwrap().sessions.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("sessions are left open: {:?}", bmc.lock().unwrap());
}

const READING: &str = "GET /redfish/v1/Systems/Self";
const LOGIN: &str = "POST /redfish/v1/SessionService/Sessions";

#[tokio::test]
async fn a_session_is_given_back_however_it_was_granted() {
    for grant in [
        (&["Location: {}"][..], "{}"),
        (&["Location: https://idrac-4711.local{}"], "<html>"),
        (&[], r#"{"@odata.id":"PATH","Id":"ID"}"#),
        (&[], r#"{"Id":"ID"}"#),
        (&["Location: /redfish/v1/SessionService/Sessions/"], r#"{"@odata.id":"PATH"}"#),
    ] {
        let (driver, bmc, _server) = Bmc { grant, ..Bmc::default() }.serve("").await;
        for _ in 0..3 {
            assert_eq!(driver.watts().await.unwrap().watts, 11.0);
            assert!(bmc.lock().unwrap().sessions.is_empty(), "{grant:?}");
        }
        driver.wake().await.unwrap();
        assert!(bmc.lock().unwrap().sessions.is_empty(), "{grant:?}");
    }
}

#[tokio::test]
async fn a_session_that_cannot_be_given_back_is_used_again() {
    for (grant, delete) in
        [((&[][..], "{}"), "204 No Content"), ((&["Location: {}"], "{}"), "500 Internal Server Error")]
    {
        let (driver, bmc, _server) = Bmc { grant, delete, ..Bmc::default() }.serve("").await;
        for _ in 0..8 {
            driver.watts().await.unwrap();
        }
        driver.wake().await.unwrap();
        assert_eq!(bmc.lock().unwrap().count(LOGIN), 1, "one session for all calls");
        // The BMC ends it, or is restarted: another is made, once.
        bmc.lock().unwrap().sessions.clear();
        assert_eq!(driver.read().await.unwrap().state, PowerState::On);
        assert_eq!(bmc.lock().unwrap().count(LOGIN), 2);
    }
}

#[tokio::test]
async fn a_call_that_fails_gives_its_session_back() {
    let (driver, bmc, _server) = Bmc { broken: true, ..Bmc::default() }.serve("").await;
    assert_eq!(driver.read().await.unwrap_err().category(), "Garbled");
    assert!(bmc.lock().unwrap().sessions.is_empty());
}

#[tokio::test]
async fn a_call_that_is_given_up_gives_its_session_back() {
    let (driver, bmc, _server) = Bmc { hangs: 1, ..Bmc::default() }.serve("").await;
    let careful = Careful::with_deadline(driver, Duration::from_secs(2));
    assert!(matches!(careful.read().await, Err(DriverError::TimedOut(_))));
    assert_eq!(bmc.lock().unwrap().count(LOGIN), 1);
    all_given_back(&bmc).await;
    assert_eq!(careful.read().await.unwrap().state, PowerState::Off);
    assert!(bmc.lock().unwrap().sessions.is_empty());
}

/// The service has one session, and the meter has it when the node is to be woken.
#[tokio::test]
async fn a_meter_that_is_dropped_costs_no_wake() {
    let (driver, bmc, _server) = Bmc { hangs: 1, ..Bmc::default() }.serve("").await;
    let driver: Arc<dyn Driver> = Arc::new(Careful::new(driver));
    let meter = tokio::spawn({
        let driver = driver.clone();
        async move { driver.watts().await }
    });
    let hangs = || {
        let bmc = bmc.lock().unwrap();
        bmc.count(READING) > 0 && bmc.hangs == 0
    };
    while !hangs() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    meter.abort();
    let patience = Patience { tries: 1, poll: Duration::from_millis(10), ..Patience::default() };
    let woken = wake(&[Box::new(driver)], Belief::Nothing, patience, 1).await.unwrap();
    assert!(woken.verified && woken.requests == 1, "{woken:?}");
    all_given_back(&bmc).await;
}

#[tokio::test]
async fn no_session_left_is_named_and_passes() {
    for full in [
        ("503 Service Unavailable", ""),
        (
            "400 Bad Request",
            r#"{"error":{"@Message.ExtendedInfo":[{"MessageId":"Base.1.8.SessionLimitExceeded","Message":"x"}]}}"#,
        ),
        (
            "400 Bad Request",
            r#"{"error":{"@Message.ExtendedInfo":[{"MessageId":"Base.1.5.CreateLimitReachedForResource"}]}}"#,
        ),
        ("401 Unauthorized", r#"{"error":{"message":"The maximum number of user sessions is reached."}}"#),
    ] {
        let (driver, bmc, _server) = Bmc { full, ..Bmc::default() }.serve("").await;
        bmc.lock().unwrap().sessions.insert("another's".into(), "/x".into());
        let careful = Careful::new(driver);
        let error = careful.read().await.unwrap_err();
        assert_eq!(error.category(), "NoSession", "{full:?}: {error}");
        assert!(error.check().contains("close sessions in the BMC's own list"));
        bmc.lock().unwrap().sessions.clear();
        // No password was refused, so the next try is at once.
        assert_eq!(careful.read().await.unwrap().state, PowerState::Off, "{full:?}");
    }
}

#[tokio::test]
async fn basic_that_is_offered_and_refused_is_followed_by_a_session() {
    let (driver, bmc, _server) =
        Bmc { offers: &["WWW-Authenticate: Basic realm=\"BMC\""], ..Bmc::default() }.serve("").await;
    assert_eq!(driver.read().await.unwrap().state, PowerState::Off);
    driver.read().await.unwrap();
    assert_eq!(bmc.lock().unwrap().count(LOGIN), 2);
    assert_eq!(bmc.lock().unwrap().count(READING), 2, "Basic is not tried again");
    // Only where it is offered: when no session is left, the next call begins with Basic, which may be on by now.
    {
        let mut bmc = bmc.lock().unwrap();
        bmc.sessions.insert("another's".into(), "/x".into());
        bmc.basic = true;
    }
    assert_eq!(driver.read().await.unwrap_err().category(), "NoSession");
    assert_eq!(driver.read().await.unwrap().state, PowerState::Off);
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_each_way() {
    let certified = Certified::self_signed();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let server = Scripted::start(Some(certified.server(&[&rustls::version::TLS13])), move |request| {
        log.lock().unwrap().push(request.line.clone());
        answer("401 Unauthorized", &["WWW-Authenticate: Basic realm=\"BMC\""], "")
    })
    .await;
    let trust = Trust::pinned(vec![certified.fingerprint]);
    let careful = Careful::new(
        Redfish::new(&format!("https://{}/redfish/v1/Systems/1", server.address), wrong(), trust).unwrap(),
    );
    assert_eq!(careful.read().await.unwrap_err().category(), "WrongCredentials");
    assert_eq!(careful.read().await.unwrap_err().category(), "HeldOff");
    let asked = asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|line| line.starts_with("POST")).count(), 1, "{asked:?}");
}

#[tokio::test]
async fn a_redirection_on_the_same_host_is_followed() {
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        for basic in [false, true] {
            let (driver, bmc, _server) = Bmc { slash: Some(status), basic, ..Bmc::default() }.serve("").await;
            driver.wake().await.unwrap_or_else(|error| panic!("{status}: {error}"));
            assert_eq!(driver.read().await.unwrap().state, PowerState::On, "{status}");
            assert!(bmc.lock().unwrap().sessions.is_empty(), "{status}");
        }
    }
}

#[tokio::test]
async fn no_redirection_leads_to_another_host_or_out_of_tls() {
    let certified = Certified::self_signed();
    let seen = Arc::new(Mutex::new(0));
    let count = Arc::clone(&seen);
    let thief = Scripted::start(None, move |_| {
        *count.lock().unwrap() += 1;
        answer("200 OK", &[], "{}")
    })
    .await;
    for location in [
        format!("http://{}/redfish/v1/", thief.address),
        format!("https://{}/redfish/v1/", thief.address),
        format!("//{}/redfish/v1/", thief.address),
    ] {
        let header = format!("Location: {location}");
        let redirect = move |_: &_| answer("301 Moved Permanently", &[&header], "");
        let server = Scripted::start(Some(certified.server(&[&rustls::version::TLS13])), redirect).await;
        let trust = Trust::pinned(vec![certified.fingerprint]);
        let driver = Redfish::new(&format!("https://{}", server.address), right(), trust).unwrap();
        let error = driver.read().await.unwrap_err().to_string();
        assert!(error.contains("it is not followed, because the password would go there"), "{error}");
    }
    assert_eq!(*seen.lock().unwrap(), 0);
    // In circles.
    let redirect = |_: &_| answer("302 Found", &["Location: /redfish/v1/"], "");
    let server = Scripted::start(Some(certified.server(&[&rustls::version::TLS13])), redirect).await;
    let trust = Trust::pinned(vec![certified.fingerprint]);
    let error = Redfish::new(&format!("https://{}", server.address), right(), trust).unwrap().read().await.unwrap_err();
    assert!(error.to_string().contains("redirections"), "{error}");
}

#[tokio::test]
async fn a_version_that_stands_in_the_body_alone_is_named() {
    for restless in [false, true] {
        let (driver, bmc, _server) =
            Bmc { versioned: true, restless, basic: true, ..Bmc::default() }.serve("/redfish/v1/Systems/Self").await;
        let turned_on = driver.power_on().await;
        assert_eq!(turned_on, Ok(()), "{:?}", bmc.lock().unwrap().asked);
        assert_eq!(driver.read().await.unwrap().state, PowerState::On);
    }
}

#[tokio::test]
async fn the_system_is_the_one_that_the_address_names() {
    let others = || {
        vec![
            ("/redfish/v1/Systems/HGX_Baseboard_0", None),
            ("/redfish/v1/Systems/2", Some(json!({"Name": "System", "SerialNumber": "CZ3 4712", "HostName": "d2"}))),
        ]
    };
    let bmc = || Bmc { others: others(), basic: true, ..Bmc::default() };
    for path in ["Self", "self", "CZ3%204711", "cz3%204711/", "d1"] {
        let (driver, _bmc, _server) = bmc().serve(&format!("/redfish/v1/Systems/{path}")).await;
        for _ in 0..2 {
            assert_eq!(driver.read().await.unwrap().state, PowerState::Off, "{path}");
        }
    }
    let failure = async |path: &str| {
        let (driver, _bmc, _server) = bmc().serve(path).await;
        driver.wake().await.unwrap_err()
    };
    let several = failure("").await;
    assert!(several.to_string().contains("has 3 systems; write the node's into the address"), "{several}");
    for listed in [
        "/redfish/v1/Systems/HGX_Baseboard_0",
        "serial number CZ3 4712",
        "/redfish/v1/Systems/Self (name System, serial number CZ3 4711, host name d1)",
    ] {
        assert!(several.to_string().contains(listed), "{several}");
    }
    assert!(several.check().contains("by its id, serial number or name"));
    let twice = failure("/redfish/v1/Systems/System").await;
    assert!(
        twice.to_string().contains("2 systems are called \"System\": /redfish/v1/Systems/2, /redfish/v1/Systems/Self"),
        "{twice}"
    );
    let none = failure("/redfish/v1/Systems/d9").await;
    assert!(none.to_string().contains("no system is called \"d9\"; there are"), "{none}");
}
