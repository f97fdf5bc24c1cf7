//! BMCs of ours that speak Redfish, as far as a wake needs it, and that fail, hang, lie or refuse the password when told
//! to.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use miyako_agent::power::SimulatedHost;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What one BMC does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mood {
    /// It wakes its machine, which takes some seconds.
    #[default]
    Works,
    /// It does, but that takes longer than a waker waits.
    Slow,
    /// The machine boots instead of resuming.
    Boots,
    /// It refuses the request.
    Fails,
    /// It takes requests and never answers.
    Hangs,
    /// It says that it did, and did nothing.
    Lies,
    /// It knows another password.
    WrongPassword,
}

impl fmt::Display for Mood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Works => "BMC works",
            Self::Slow => "wake is slow",
            Self::Boots => "machine boots instead",
            Self::Fails => "BMC refuses the request",
            Self::Hangs => "BMC hangs",
            Self::Lies => "BMC lies",
            Self::WrongPassword => "wrong password",
        })
    }
}

/// One BMC.
#[derive(Debug)]
struct Bmc {
    host: Arc<SimulatedHost>,
    mood: Mood,
    /// It claims that its machine is on.
    claims_on: bool,
    /// Requests to turn on that it took, whether it carried them out or not.
    taken: u32,
}

/// All BMCs, by node.
#[derive(Debug, Clone, Default)]
pub(super) struct Bmcs {
    all: Arc<Mutex<BTreeMap<String, Bmc>>>,
}

impl Bmcs {
    /// One for each of these machines.
    pub(super) fn of(hosts: impl IntoIterator<Item = (String, Arc<SimulatedHost>)>) -> Self {
        let bmc = |host| Bmc { host, mood: Mood::Works, claims_on: false, taken: 0 };
        let all = hosts.into_iter().map(|(node, host)| (node, bmc(host))).collect();
        Self { all: Arc::new(Mutex::new(all)) }
    }

    fn with<T>(&self, node: &str, look: impl FnOnce(&mut Bmc) -> T) -> Option<T> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).get_mut(node).map(look)
    }

    /// From now on this one is so.
    pub(super) fn set(&self, node: &str, mood: Mood) {
        self.with(node, |bmc| {
            bmc.mood = mood;
            bmc.claims_on &= mood == Mood::Lies;
        });
    }

    /// How it is.
    pub(super) fn mood(&self, node: &str) -> Mood {
        self.with(node, |bmc| bmc.mood).unwrap_or_default()
    }

    /// Requests to turn on that all of them took.
    pub(super) fn taken(&self) -> u32 {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).values().map(|bmc| bmc.taken).sum()
    }

    /// What answers for all of them.
    pub(super) fn router(&self) -> Router {
        let system = "/redfish/v1/Systems/{node}";
        Router::new()
            .route(system, get(read))
            .route(&format!("{system}/Actions/ComputerSystem.Reset"), post(turn_on))
            .with_state(self.clone())
    }
}

/// What stands in the way of any request.
async fn gate(bmcs: &Bmcs, node: &str, headers: &HeaderMap) -> Result<Mood, Response> {
    let Some(mood) = bmcs.with(node, |bmc| bmc.mood) else { return Err(StatusCode::NOT_FOUND.into_response()) };
    if mood == Mood::Hangs {
        std::future::pending::<()>().await;
    }
    if mood == Mood::WrongPassword || !headers.contains_key(header::AUTHORIZATION) {
        let basic = [(header::WWW_AUTHENTICATE, "Basic realm=\"bmc\"")];
        return Err((StatusCode::UNAUTHORIZED, basic).into_response());
    }
    Ok(mood)
}

async fn read(State(bmcs): State<Bmcs>, Path(node): Path<String>, headers: HeaderMap) -> Response {
    if let Err(refused) = gate(&bmcs, &node, &headers).await {
        return refused;
    }
    let on = bmcs.with(&node, |bmc| bmc.claims_on || !*bmc.host.is_asleep().borrow()).unwrap_or_default();
    let target = format!("/redfish/v1/Systems/{node}/Actions/ComputerSystem.Reset");
    let reset = json!({ "target": target, "ResetType@Redfish.AllowableValues": ["On"] });
    // A server in S3 has its main power off, and such a BMC takes that for the measure.
    axum::Json(json!({
        "@odata.id": format!("/redfish/v1/Systems/{node}"),
        "Id": node,
        "PowerState": if on { "On" } else { "Off" },
        "Actions": { "#ComputerSystem.Reset": reset },
    }))
    .into_response()
}

async fn turn_on(State(bmcs): State<Bmcs>, Path(node): Path<String>, headers: HeaderMap) -> Response {
    let mood = match gate(&bmcs, &node, &headers).await {
        Ok(mood) => mood,
        Err(refused) => return refused,
    };
    let asleep = bmcs.with(&node, |bmc| {
        bmc.taken += 1;
        bmc.claims_on |= mood == Mood::Lies;
        let asleep = *bmc.host.is_asleep().borrow();
        asleep.then(|| Arc::clone(&bmc.host))
    });
    match mood {
        Mood::Fails => {
            let why = json!({ "error": { "message": "the power sequencer does not answer" } });
            return (StatusCode::INTERNAL_SERVER_ERROR, axum::Json(why)).into_response();
        }
        Mood::Lies | Mood::Hangs | Mood::WrongPassword => {}
        Mood::Works | Mood::Slow | Mood::Boots => {
            if let Some(host) = asleep.flatten() {
                tokio::spawn(rise(host, mood));
            }
        }
    }
    StatusCode::NO_CONTENT.into_response()
}

/// The machine gets up.
async fn rise(host: Arc<SimulatedHost>, mood: Mood) {
    tokio::time::sleep(Duration::from_secs(match mood {
        Mood::Slow => 40,
        Mood::Boots => 15,
        _ => 3,
    }))
    .await;
    match mood {
        _ if !*host.is_asleep().borrow() => {}
        Mood::Boots => host.boot(),
        _ => host.wake(),
    }
}
