//! Intel AMT: WS-Management over HTTP with Digest.
//!
//! The state is read before anything is requested, and the only requests are "on" (2), which from S3 is a resume and not
//! a boot, and "full power" for a machine in modern standby, where "on" is answered with success and does nothing. Boot
//! order and boot settings are never touched.
//!
//! AMT shares the host's network port and address, so a waker can't reach the AMT of the node it runs on, and the link
//! drops for some seconds at every change of power.

mod answer;
mod envelope;
mod login;

use super::{
    Credentials, Driver, DriverError, Endpoint, EndpointError, PowerState, Reading, excerpt,
    http::{Client, Connection, Trust},
};
use answer::{Fault, Power, Soap};
use envelope::Ask;
use futures::future::{BoxFuture, FutureExt as _};
use http::{HeaderValue, Method, Request, Response, header};
use login::{After401, Digest, Signed, after_401};
use miyako_api::node_power_class::WakeProtocol;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::Mutex;

/// Speaks with the AMT of one machine.
pub struct Amt {
    client: Arc<Client>,
    text: String,
    credentials: Credentials,
    login: Mutex<Login>,
    messages: AtomicU64,
}

/// What is remembered of the other side between calls.
#[derive(Default)]
struct Login {
    /// The last nonce and how often it was used.
    digest: Option<Digest>,
    /// The realm of the first contact, which is AMT's own name for itself.
    realm: Option<String>,
    /// Whether the password was ever accepted.
    accepted: bool,
}

impl Amt {
    /// A driver for `[http://|https://]HOST[:PORT]`. Without a scheme it is TLS on port 16993 if anybody is trusted, and
    /// plain HTTP on port 16992 otherwise; Digest keeps the password from being read on the way in either case.
    ///
    /// # Errors
    ///
    /// Another address.
    pub fn new(address: &str, credentials: Credentials, trust: Trust) -> Result<Self, EndpointError> {
        let endpoint = Endpoint::parse(WakeProtocol::Amt, address, !trust.is_empty())?;
        Ok(Self {
            text: endpoint.authority(),
            client: Client::new(endpoint, trust),
            credentials,
            login: Mutex::default(),
            messages: AtomicU64::new(1),
        })
    }

    /// Asks one thing and reads the answer, logging in as often as AMT wants it.
    async fn ask(&self, connection: &mut Connection, ask: &Ask) -> Result<(Soap, String), DriverError> {
        let envelope = ask.envelope(self.messages.fetch_add(1, Ordering::Relaxed));
        let mut login = self.login.lock().await;
        let mut signed = if login.digest.is_some() { Signed::OldNonce } else { Signed::No };
        let mut requests = 0;
        loop {
            requests += 1;
            let answer = connection.exchange(self.request(&envelope, login.digest.as_mut())?).await;
            let answer = answer.map_err(hint)?;
            if answer.status() != 401 {
                login.accepted = true;
                let version = version(&answer);
                return Ok((soap(&answer)?, version));
            }
            let headers = answer.headers().get_all(header::WWW_AUTHENTICATE);
            let digest = Digest::challenged(headers.iter().filter_map(|value| value.to_str().ok()));
            let digest = digest.ok_or_else(|| {
                DriverError::NotProvisioned(
                    "it answers 401 without offering Digest, which AMT's own accounts need".to_owned(),
                )
            })?;
            let realm = login.realm.get_or_insert_with(|| digest.realm().to_owned());
            if realm != digest.realm() {
                let (seen, before) = (excerpt(digest.realm(), 80), excerpt(realm, 80));
                return Err(DriverError::OtherMachine { seen, before });
            }
            let stale = digest.stale();
            login.digest = Some(digest);
            match after_401(signed, stale, requests) {
                After401::Again => signed = Signed::NewNonce,
                After401::Stop => {
                    login.digest = None;
                    let said = "AMT answered 401 to a fresh nonce";
                    return Err(if login.accepted {
                        DriverError::AccountLocked(format!("{said}, though it took this password before"))
                    } else {
                        DriverError::WrongCredentials(format!("{said}; it does so as well while the account is locked"))
                    });
                }
            }
        }
    }

    fn request(&self, envelope: &str, digest: Option<&mut Digest>) -> Result<Request<Vec<u8>>, DriverError> {
        let mut request = Request::new(envelope.as_bytes().to_vec());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static("/wsman");
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/soap+xml; charset=utf-8"));
        if let Some(digest) = digest {
            let signed = digest.sign(&self.credentials);
            let signed = signed.map_err(|error| DriverError::NotSupported(format!("Digest: {error}")))?;
            let mut value = HeaderValue::try_from(signed)
                .map_err(|_| DriverError::Local("the user name does not fit into a header".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    }

    async fn power(&self, connection: &mut Connection) -> Result<(Power, Reading), DriverError> {
        let (mut soap, version) = self.ask(connection, &Ask::PowerState).await?;
        if let Soap::Fault(Fault { amt_status: None, .. }) = soap {
            soap = self.ask(connection, &Ask::EnumeratePowerState).await?.0;
            if let Soap::Enumeration(context) = soap {
                soap = self.ask(connection, &Ask::PullPowerState { context }).await?.0;
            }
        }
        let power = match soap {
            Soap::Power(power) => power,
            other => return Err(unexpected(other)),
        };
        let mut reading = answer::power_state(&power, &version);
        if reading.state == PowerState::On {
            let os = match self.ask(connection, &Ask::OsPowerSaving).await {
                Ok((Soap::OsPowerSaving(os), _)) => os,
                // Firmware before modern standby has no such class.
                Ok(_) | Err(DriverError::Garbled(_)) => None,
                Err(error) => return Err(error),
            };
            reading = answer::with_os_power_saving(reading, os);
        }
        Ok((power, reading))
    }

    async fn turn_on(&self) -> Result<(), DriverError> {
        let mut connection = self.client.connection();
        let (power, reading) = self.power(&mut connection).await?;
        let ask = match reading.state {
            PowerState::On => return Ok(()),
            PowerState::Standby => Ask::OsFullPower,
            _ => Ask::PowerOn,
        };
        match self.ask(&mut connection, &ask).await?.0 {
            Soap::Returned(value) => answer::returned(value, &power),
            other => Err(unexpected(other)),
        }
    }
}

fn unexpected(soap: Soap) -> DriverError {
    match soap {
        Soap::Fault(fault) => answer::fault_error(&fault),
        _ => DriverError::Garbled("the answer to another question".to_owned()),
    }
}

/// A fault comes with status 400; other failures come with a page of HTML, which is never read as XML.
fn soap(answer: &Response<Vec<u8>>) -> Result<Soap, DriverError> {
    let status = answer.status().as_u16();
    let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match status {
        200 => answer::read(answer.body()),
        400 | 500 if kind.contains("soap+xml") => answer::read(answer.body()),
        403 => Err(DriverError::NotPermitted("AMT answers 403".to_owned())),
        404 => Err(DriverError::NotProvisioned("there is no /wsman: it is no AMT, or AMT is not set up".to_owned())),
        500.. => Err(DriverError::Busy(format!("AMT answers {status}"))),
        _ => Err(DriverError::Garbled(format!("AMT answers {status}"))),
    }
}

/// AMT names its version in every answer, such as `Intel(R) Active Management Technology 16.1.25`.
fn version(answer: &Response<Vec<u8>>) -> String {
    let server = answer.headers().get(header::SERVER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let version = server.rsplit("Technology ").next().filter(|_| server.contains("Active Management Technology"));
    version.map(|version| format!(", AMT {}", excerpt(version, 20))).unwrap_or_default()
}

/// A closed port is what AMT that isn't set up looks like.
fn hint(error: DriverError) -> DriverError {
    match error {
        DriverError::Unreachable { address, why } if why.contains("refused") => {
            let why = format!("{why}; AMT may not be set up, and from version 16.1 on only the TLS port 16993 is open");
            DriverError::Unreachable { address, why }
        }
        other => other,
    }
}

impl Driver for Amt {
    fn protocol(&self) -> WakeProtocol {
        WakeProtocol::Amt
    }

    fn address(&self) -> &str {
        &self.text
    }

    fn read(&self) -> BoxFuture<'_, Result<Reading, DriverError>> {
        async { Ok(self.power(&mut self.client.connection()).await?.1) }.boxed()
    }

    fn wake(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        self.turn_on().boxed()
    }

    fn power_on(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        self.turn_on().boxed()
    }
}
