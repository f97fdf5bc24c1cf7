//! A Redfish service with few sessions, and with the habits of real ones.

use super::{Certified, HANG, PASSWORD, Received, Scripted, USER, answer};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use miyako_agent::wake::{Redfish, Trust};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";
const SYSTEM: &str = "/redfish/v1/Systems/Self";

/// What a service does in its own way, and what it remembers.
#[derive(Debug, Clone)]
pub(crate) struct Bmc {
    /// Whether Basic is taken.
    pub(crate) basic: bool,
    /// What a 401 offers.
    pub(crate) offers: &'static [&'static str],
    /// A new session's answer has these headers, with `{}` for its path; and this body.
    pub(crate) grant: (&'static [&'static str], &'static str),
    /// The most sessions, and how it says that there are no more.
    pub(crate) most: usize,
    pub(crate) full: (&'static str, &'static str),
    /// What a DELETE is answered with; the session ends only if that is a success.
    pub(crate) delete: &'static str,
    /// Every path but the root must end in a slash; it is redirected to with this status.
    pub(crate) slash: Option<&'static str>,
    /// Requests to change something must name the version, which stands in the body alone.
    pub(crate) versioned: bool,
    /// Each request that is answered counts the version up.
    pub(crate) restless: bool,
    /// Reading the system hangs, so many times.
    pub(crate) hangs: usize,
    /// The system is no JSON.
    pub(crate) broken: bool,
    /// Further systems.
    pub(crate) others: Vec<(&'static str, Option<Value>)>,
    /// The version of the system.
    pub(crate) version: u32,
    pub(crate) on: bool,
    pub(crate) sessions: BTreeMap<String, String>,
    pub(crate) made: usize,
    pub(crate) asked: Vec<String>,
}

impl Default for Bmc {
    fn default() -> Self {
        Self {
            basic: false,
            offers: &[],
            grant: (&["Location: {}"], "{}"),
            most: 1,
            full: ("503 Service Unavailable", ""),
            delete: "204 No Content",
            slash: None,
            versioned: false,
            restless: false,
            hangs: 0,
            broken: false,
            others: Vec::new(),
            version: 4711,
            on: false,
            sessions: BTreeMap::new(),
            made: 0,
            asked: Vec::new(),
        }
    }
}

impl Bmc {
    /// A driver for it at this path, and the service itself, which ends with the test.
    pub(crate) async fn serve(self, path: &str) -> (Redfish, Arc<Mutex<Self>>, Scripted) {
        let (bmc, certified) = (Arc::new(Mutex::new(self)), Certified::self_signed());
        let shared = Arc::clone(&bmc);
        let config = certified.server(&[&rustls::version::TLS13]);
        let server = Scripted::start(Some(config), move |request| shared.lock().unwrap().answer(request)).await;
        let trust = Trust::pinned(vec![certified.fingerprint]);
        let driver = Redfish::new(&format!("https://{}{path}", server.address), super::right(), trust).unwrap();
        (driver, bmc, server)
    }

    /// How often something was asked for.
    pub(crate) fn count(&self, line: &str) -> usize {
        self.asked.iter().filter(|asked| asked.starts_with(line)).count()
    }

    fn answer(&mut self, request: &Received) -> Vec<u8> {
        self.asked.push(request.line.clone());
        let (method, path) = request.line.split_once(' ').unwrap();
        let bare = path.trim_end_matches('/');
        if let Some(status) = self.slash.filter(|_| !path.ends_with('/')) {
            return answer(status, &[&format!("Location: {path}/")], "");
        }
        if (method, bare) == ("POST", SESSIONS) {
            return self.log_in(&request.body);
        }
        let token = request.headers.get("x-auth-token");
        let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
        let may = match token {
            Some(token) => self.sessions.contains_key(token),
            None => self.basic && request.headers.get("authorization") == Some(&basic),
        };
        let systems = || {
            let mut paths: Vec<_> = self.others.iter().map(|(path, _)| json!({"@odata.id": path})).collect();
            paths.push(json!({"@odata.id": SYSTEM}));
            json!({"Members": paths})
        };
        match (method, bare) {
            ("GET", "/redfish/v1") => {
                let root = json!({"Systems": {"@odata.id": "/redfish/v1/Systems"}, "Links": {"Sessions": {"@odata.id": SESSIONS}}});
                answer("200 OK", &[], &root.to_string())
            }
            _ if !may => answer("401 Unauthorized", self.offers, "<html>no</html>"),
            ("DELETE", session) => {
                if self.delete.starts_with('2') {
                    self.sessions.retain(|_, path| path != session);
                }
                answer(self.delete, &[], "")
            }
            ("GET", "/redfish/v1/Systems") => answer("200 OK", &[], &systems().to_string()),
            ("GET", SYSTEM) if self.hangs > 0 => {
                self.hangs -= 1;
                HANG.to_vec()
            }
            ("GET", SYSTEM) if self.broken => answer("200 OK", &[], "<html>"),
            ("GET", SYSTEM) => {
                let system = json!({
                    "Id": "Self", "Name": "System", "SerialNumber": "CZ3 4711", "HostName": "d1",
                    "PowerState": if self.on { "On" } else { "Off" },
                    "@odata.etag": format!("W/\"{}\"", self.version),
                    "Links": {"Chassis": [{"@odata.id": "/redfish/v1/Chassis/1"}]},
                    "Actions": {"#ComputerSystem.Reset": {"target": "/redfish/v1/Reset"}},
                });
                self.version += u32::from(self.restless && self.asked.len() < 4);
                answer("200 OK", &[], &system.to_string())
            }
            ("GET", "/redfish/v1/Chassis/1") => {
                answer("200 OK", &[], r#"{"Power":{"@odata.id":"/redfish/v1/Chassis/1/Power"}}"#)
            }
            ("GET", "/redfish/v1/Chassis/1/Power") => {
                answer("200 OK", &[], r#"{"PowerControl":[{"PowerConsumedWatts":11}]}"#)
            }
            ("POST", "/redfish/v1/Reset") => {
                let named = request.headers.get("if-match");
                match named {
                    None if self.versioned => answer("428 Precondition Required", &[], ""),
                    Some(named) if *named != format!("W/\"{}\"", self.version) => {
                        answer("412 Precondition Failed", &[], "")
                    }
                    _ => {
                        self.on = true;
                        answer("204 No Content", &[], "")
                    }
                }
            }
            ("GET", other) => match self.others.iter().find(|(path, _)| *path == other) {
                Some((_, Some(system))) => answer("200 OK", &[], &system.to_string()),
                _ => answer("404 Not Found", &[], ""),
            },
            _ => answer("404 Not Found", &[], ""),
        }
    }

    fn log_in(&mut self, body: &str) -> Vec<u8> {
        let told: Value = serde_json::from_str(body).unwrap();
        if told != json!({ "UserName": USER, "Password": PASSWORD }) {
            return answer("401 Unauthorized", &[], "");
        }
        if self.sessions.len() >= self.most {
            return answer(self.full.0, &[], self.full.1);
        }
        self.made += 1;
        let (path, token) = (format!("{SESSIONS}/{}", self.made), format!("token-{}", self.made));
        self.sessions.insert(token.clone(), path.clone());
        let mut headers: Vec<_> = self.grant.0.iter().map(|header| header.replace("{}", &path)).collect();
        headers.push(format!("X-Auth-Token: {token}"));
        let headers: Vec<_> = headers.iter().map(String::as_str).collect();
        answer("201 Created", &headers, &self.grant.1.replace("PATH", &path).replace("ID", &self.made.to_string()))
    }
}
