//! DMTF Redfish: turns a server on through its BMC and reads what it draws.
//!
//! Redfish has no word for S3. A BMC that takes the main power for the measure shows a sleeping server as `Off`, and `On`
//! wakes it; one that shows it as `On` may do nothing on `On`. Readings say so
//! ([`Reading::excludes_sleep`](super::Reading::excludes_sleep)), the wake test shows which it is, and Wake-on-LAN as a
//! second driver helps. A button push (`PushPowerButton`) would wake as well, but shuts a running server down: it is
//! not used.

mod answers;
mod session;
mod watts;

use super::{
    Credentials, Driver, DriverError, PowerState, Reading, WattsReading,
    http::{Client, Defaults, Endpoint, EndpointError, Trust},
};
use answers::{Task, only_system, power_state, refusal, reset_action, task};
use futures::future::{BoxFuture, FutureExt as _};
use http::{HeaderName, HeaderValue, Method, header};
use miyako_api::node_power_class::WakeProtocol;
use session::{Resource, Session, location};
use std::{
    sync::{Mutex, OnceLock, PoisonError, atomic::AtomicBool},
    time::Duration,
};
use tokio::time::sleep;

/// Between two looks at a task.
const TASK_POLL: Duration = Duration::from_secs(1);
/// How often a task is looked at; after that the request counts as taken, and the state shows what came of it.
const TASK_POLLS: u32 = 8;

/// Speaks Redfish with one BMC.
#[derive(Debug)]
pub struct Redfish {
    client: Client,
    text: String,
    credentials: Credentials,
    only_sessions: AtomicBool,
    /// The node's ComputerSystem, once found.
    system: OnceLock<String>,
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
        let example = "https://HOST[:PORT], such as https://{node}.bmc.example.org";
        let endpoint = Endpoint::parse(
            address,
            Defaults { tls: true, tls_port: 443, plain_port: 80, schemes: true, paths: true, example },
        )?;
        let system = OnceLock::new();
        if !matches!(endpoint.path.as_str(), "" | "/" | "/redfish" | "/redfish/" | "/redfish/v1" | "/redfish/v1/") {
            let _ = system.set(endpoint.path.clone());
        }
        Ok(Self {
            text: endpoint.authority(),
            client: Client::new(endpoint, trust),
            credentials,
            only_sessions: AtomicBool::new(false),
            system,
            watts_at: Mutex::new(None),
        })
    }

    /// A call's work, logged in before and out after.
    async fn logged_in<T>(
        &self,
        work: impl AsyncFnOnce(&mut Session<'_>) -> Result<T, DriverError> + Send,
    ) -> Result<T, DriverError> {
        let mut session = Session::new(&self.client, &self.credentials, &self.only_sessions);
        let result = work(&mut session).await;
        session.log_out().await;
        result
    }

    async fn system(&self, session: &mut Session<'_>) -> Result<Resource, DriverError> {
        if let Some(path) = self.system.get() {
            return session.get(path).await;
        }
        let root = session.get("/redfish/v1/").await?;
        let systems = session.get(&answers::link(&root.json, "/Systems")?).await?;
        let path = only_system(&systems.json)?;
        let system = session.get(&path).await?;
        let _ = self.system.set(path);
        Ok(system)
    }

    async fn turn_on(&self, session: &mut Session<'_>) -> Result<(), DriverError> {
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
        if matches!(answer.status().as_u16(), 412 | 428) {
            let version = system.etag.unwrap_or_else(|| HeaderValue::from_static("*"));
            let headers: [(HeaderName, HeaderValue); 1] = [(header::IF_MATCH, version)];
            answer = session.send(&Method::POST, &action.target, &headers, body).await?;
        }
        match answer.status().as_u16() {
            202 => match location(answer.headers()) {
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
    async fn find_watts(&self, session: &mut Session<'_>) -> Result<WattsReading, DriverError> {
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
async fn watts_of(session: &mut Session<'_>, path: &str) -> Result<Option<WattsReading>, DriverError> {
    match session.get(path).await {
        Ok(resource) => watts::watts(&resource.json),
        // A link to a resource that this model lacks is common.
        Err(DriverError::NotProvisioned(_) | DriverError::NotSupported(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn await_task(session: &mut Session<'_>, monitor: &str) -> Result<(), DriverError> {
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
