//! DMTF Redfish: turns a server on through its BMC and reads what it draws.
//!
//! Redfish has no word for S3. A BMC that takes the main power for the measure shows a sleeping server as `Off`, and `On`
//! wakes it; one that shows it as `On` may do nothing on `On`. Readings say so
//! ([`Reading::excludes_sleep`](super::Reading::excludes_sleep)), the wake test shows which it is, and Wake-on-LAN as a
//! second driver helps. A button push (`PushPowerButton`) would wake as well, but shuts a running server down: it is
//! not used.

mod answers;
mod login;
mod redirect;
mod service;
mod session;
mod systems;
mod watts;

use super::{
    Credentials, Driver, DriverError, Endpoint, EndpointError, PowerState, Reading, WattsReading,
    http::{Client, Trust},
};
use answers::{Task, location_path, power_state, refusal, reset_action, task};
use futures::future::{BoxFuture, FutureExt as _};
use http::{HeaderName, HeaderValue, Method, header};
use miyako_api::node_power_class::WakeProtocol;
use service::{Service, Tidy};
use session::{Resource, SERVICE_ROOT, Session};
use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use systems::{members, only_system};
use tokio::time::{sleep, timeout};

/// Between two looks at a task.
const TASK_POLL: Duration = Duration::from_secs(1);
/// How often a task is looked at; after that the request counts as taken, and the state shows what came of it.
const TASK_POLLS: u32 = 8;

/// A call that holds a session ends after this time, so that within [`CALL_DEADLINE`](super::CALL_DEADLINE) the session
/// can be given back.
const WORKS_WITHIN: Duration = Duration::from_secs(11);
/// So many versions of a system are named in a request, each read anew after the one before was refused.
const MOST_VERSIONS: usize = 3;
/// So many systems are looked at for the one that the address names.
const MOST_SYSTEMS: usize = 32;

/// Speaks Redfish with one BMC.
#[derive(Debug)]
pub struct Redfish {
    service: Arc<Service>,
    text: String,
    /// The path in the address, if it names a system.
    configured: Option<String>,
    /// The node's ComputerSystem, once found.
    system: Mutex<Option<String>>,
    /// The resource that told what the machine draws.
    watts_at: Mutex<Option<String>>,
}

impl Redfish {
    /// A driver for `https://HOST[:PORT]`, or `https://HOST[:PORT]/redfish/v1/Systems/ID` where the BMC has several
    /// systems.
    ///
    /// # Errors
    ///
    /// Another address.
    pub fn new(address: &str, credentials: Credentials, trust: Trust) -> Result<Self, EndpointError> {
        let endpoint = Endpoint::parse(WakeProtocol::Redfish, address, true)?;
        let names_one =
            !matches!(endpoint.path.as_str(), "" | "/" | "/redfish" | "/redfish/" | "/redfish/v1" | "/redfish/v1/");
        let configured = names_one.then(|| endpoint.path.clone());
        Ok(Self {
            text: endpoint.authority(),
            service: Service::new(Client::new(endpoint, trust), credentials),
            system: Mutex::new(configured.clone()),
            configured,
            watts_at: Mutex::new(None),
        })
    }

    /// A call's work, logged in before and out after, whatever comes of it.
    async fn logged_in<T>(
        &self,
        work: impl AsyncFnOnce(&mut Session) -> Result<T, DriverError> + Send,
    ) -> Result<T, DriverError> {
        // Dropped in this order when the call is given up: whoever tidies up finds the turn free.
        let _tidy = Tidy(Arc::clone(&self.service));
        let _turn = self.service.turn.lock().await;
        let mut session = Session::new(&self.service);
        let result = {
            let mut work = pin!(work(&mut session));
            let in_time = timeout(WORKS_WITHIN, &mut work).await;
            match in_time {
                Ok(result) => result,
                Err(_) if self.service.kept().is_none() => work.await,
                Err(_) => Err(DriverError::TimedOut(WORKS_WITHIN)),
            }
        };
        session.log_out().await;
        result
    }

    fn known_system(&self) -> Option<String> {
        self.system.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn system(&self, session: &mut Session) -> Result<Resource, DriverError> {
        let mut missing = None;
        if let Some(path) = self.known_system() {
            match session.get(&path).await {
                // The address may call it by its serial number, and new firmware may have moved it.
                Err(error @ DriverError::NotProvisioned(_)) => missing = Some(error),
                other => return other,
            }
        }
        let root = session.get(SERVICE_ROOT).await?;
        let systems = members(&session.get(&answers::link(&root.json, "/Systems")?).await?.json);
        let path = match self.configured.as_deref().and_then(systems::wanted) {
            None => match only_system(&systems) {
                Err(DriverError::WhichSystem(text)) => {
                    let (_, all) = self.called(session, &systems, None).await?;
                    return Err(DriverError::WhichSystem(format!("{text}; there are {}", all.join(", "))));
                }
                only => only?,
            },
            Some(wanted) => match self.called(session, &systems, Some(&wanted)).await? {
                (found, _) if found.len() == 1 => found.into_iter().next().unwrap_or_default(),
                (found, all) if found.is_empty() => {
                    let missing = missing.map_or_else(String::new, |error| format!("{error}; "));
                    let text = format!("{missing}no system is called {wanted:?}; there are {}", all.join(", "));
                    return Err(DriverError::NotProvisioned(text.replace("not set up: ", "")));
                }
                (found, _) => {
                    let text = format!("{} systems are called {wanted:?}: {}", found.len(), found.join(", "));
                    return Err(DriverError::WhichSystem(text));
                }
            },
        };
        let system = session.get(&path).await?;
        *self.system.lock().unwrap_or_else(PoisonError::into_inner) = Some(path);
        Ok(system)
    }

    /// The systems that are called so, and a word on each of all. One that can't be read, as a part of a machine that is
    /// off, is none that is asked for.
    async fn called(
        &self,
        session: &mut Session,
        systems: &[String],
        wanted: Option<&str>,
    ) -> Result<(Vec<String>, Vec<String>), DriverError> {
        let (mut found, mut all) = (Vec::new(), Vec::new());
        for path in systems.iter().take(MOST_SYSTEMS) {
            let json = match session.get(path).await {
                Ok(system) => system.json,
                Err(DriverError::NotProvisioned(_) | DriverError::NotSupported(_) | DriverError::NotPermitted(_)) => {
                    serde_json::Value::Null
                }
                Err(error) => return Err(error),
            };
            if wanted.is_some_and(|wanted| systems::is_called(&json, wanted)) {
                found.push(path.clone());
            }
            all.push(systems::described(path, &json));
        }
        Ok((found, all))
    }

    async fn turn_on(&self, session: &mut Session) -> Result<(), DriverError> {
        let system = self.system(session).await?;
        let before = power_state(&system.json);
        let action = reset_action(&system.json)?;
        let allowed = match (action.allowed, &action.action_info) {
            (Some(allowed), _) => Some(allowed),
            (None, Some(info)) => answers::allowed_by_action_info(&session.get(info).await?.json),
            (None, None) => None,
        };
        answers::may_turn_on(allowed.as_deref())?;
        let body = br#"{"ResetType":"On"}"#.to_vec();
        let mut answer = session.send(&Method::POST, &action.target, &[], body.clone()).await?;
        // Some services want to know which version of the system the request is about.
        let mut version = Some(system.etag.unwrap_or_else(|| HeaderValue::from_static("*")));
        for _ in 0..MOST_VERSIONS {
            let (412 | 428, Some(known)) = (answer.status().as_u16(), version.take()) else { break };
            let headers: [(HeaderName, HeaderValue); 1] = [(header::IF_MATCH, known.clone())];
            answer = session.send(&Method::POST, &action.target, &headers, body.clone()).await?;
            if answer.status() == 412 {
                // It changed in between.
                version = self.system(session).await?.etag.filter(|newer| *newer != known);
            }
        }
        match answer.status().as_u16() {
            202 => match monitor(&answer) {
                Some(monitor) => await_task(session, &monitor).await,
                None => Ok(()),
            },
            200..=299 => Ok(()),
            // What is on already can't be turned on; the state afterwards shows whether that is so.
            400 | 409 if before.state == PowerState::On => Ok(()),
            status => Err(refusal(status, &action.target, answer.body())),
        }
    }

    /// What the machine draws, from where it was found the last time if it is still there: read once a minute, a BMC is
    /// spared the way there.
    async fn find_watts(&self, session: &mut Session) -> Result<WattsReading, DriverError> {
        let known = self.watts_at.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(path) = known
            && let Some(reading) = watts_of(session, &path).await?
        {
            return Ok(reading);
        }
        let system = self.system(session).await?;
        let mut nonsense = None;
        for chassis in watts::chassis(&system.json) {
            let chassis = session.get(&chassis).await?;
            for source in watts::SOURCES {
                let Ok(path) = answers::link(&chassis.json, source) else { continue };
                match watts_of(session, &path).await {
                    Ok(Some(reading)) => {
                        *self.watts_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(path);
                        return Ok(reading);
                    }
                    Ok(None) => {}
                    // The other schema may tell better.
                    Err(error @ DriverError::Garbled(_)) => nonsense = nonsense.or(Some(error)),
                    Err(error) => return Err(error),
                }
            }
        }
        let none = || DriverError::NotSupported("no chassis of the system has a power reading".to_owned());
        Err(nonsense.unwrap_or_else(none))
    }
}

/// The reading of one resource, if it has one.
async fn watts_of(session: &mut Session, path: &str) -> Result<Option<WattsReading>, DriverError> {
    match session.get(path).await {
        Ok(resource) => watts::watts(&resource.json),
        // A link to a resource that this model lacks is common.
        Err(DriverError::NotProvisioned(_) | DriverError::NotSupported(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where a task is looked at: the `Location` of its answer, or the task itself.
fn monitor(answer: &http::Response<Vec<u8>>) -> Option<String> {
    let header = answer.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
    let by_header = header.and_then(|location| location_path(location, "/redfish/v1/TaskService/Tasks"));
    let body = || serde_json::from_slice::<serde_json::Value>(answer.body()).ok();
    by_header.or_else(|| answers::link(&serde_json::json!({ "task": body()? }), "/task").ok())
}

async fn await_task(session: &mut Session, monitor: &str) -> Result<(), DriverError> {
    for _ in 0..TASK_POLLS {
        sleep(TASK_POLL).await;
        let answer = session.send(&Method::GET, monitor, &[], Vec::new()).await?;
        match task(answer.status().as_u16(), answer.body()) {
            Task::Running => {}
            Task::Done => return Ok(()),
            Task::Failed(why) => return Err(DriverError::Refused(why)),
        }
    }
    Ok(())
}

impl Driver for Redfish {
    fn protocol(&self) -> WakeProtocol {
        WakeProtocol::Redfish
    }

    fn address(&self) -> &str {
        &self.text
    }

    fn read(&self) -> BoxFuture<'_, Result<Reading, DriverError>> {
        self.logged_in(async |session| Ok(power_state(&self.system(session).await?.json))).boxed()
    }

    fn wake(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        self.logged_in(async |session| self.turn_on(session).await).boxed()
    }

    fn power_on(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        self.wake()
    }

    fn watts(&self) -> BoxFuture<'_, Result<WattsReading, DriverError>> {
        self.logged_in(async |session| self.find_watts(session).await).boxed()
    }
}
