//! One call's worth of requests to a Redfish service, logged in by Basic or by a session.

use super::{
    answers::{basic_is_offered, refusal},
    redirect::redirected,
    service::{Basic, Service},
};
use crate::wake::{Credentials, DriverError, Endpoint, http::Connection};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, Method, Request, Response, header};
use serde_json::Value;
use std::sync::Arc;

pub(super) const SERVICE_ROOT: &str = "/redfish/v1/";
pub(super) const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// So often a request is led on to another path.
const MOST_REDIRECTS: usize = 4;
/// So often a request is sent: with Basic, with a session of an earlier call, with a new one.
const MOST_LOGINS: usize = 3;

/// A login on one connection. It begins with Basic, which leaves nothing behind; sessions are few on a BMC and only
/// made where Basic is turned off.
pub(super) struct Session {
    service: Arc<Service>,
    connection: Connection,
    /// The session was made by this call.
    fresh: bool,
}

/// A resource and its version.
pub(super) struct Resource {
    pub(super) json: Value,
    pub(super) etag: Option<HeaderValue>,
}

impl Session {
    pub(super) fn new(service: &Arc<Service>) -> Self {
        Self { service: Arc::clone(service), connection: service.client.connection(), fresh: false }
    }

    /// Reads a resource.
    pub(super) async fn get(&mut self, path: &str) -> Result<Resource, DriverError> {
        let answer = self.send(&Method::GET, path, &[], Vec::new()).await?;
        if answer.status() != 200 {
            return Err(refusal(answer.status().as_u16(), path, answer.body()));
        }
        let json: Value = serde_json::from_slice(answer.body())
            .map_err(|error| DriverError::Garbled(format!("{path} is no JSON: {error}")))?;
        // Some services write the version into the resource alone.
        let written = || HeaderValue::try_from(json.get("@odata.etag")?.as_str()?).ok();
        let etag = answer.headers().get(header::ETAG).cloned().or_else(written);
        Ok(Resource { json, etag })
    }

    /// Sends a request, logging in as the service wants it, and returns the answer whatever its status but 401.
    pub(super) async fn send(
        &mut self,
        method: &Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Vec<u8>,
    ) -> Result<Response<Vec<u8>>, DriverError> {
        let mut refused = None;
        for _ in 0..MOST_LOGINS {
            if self.service.kept().is_none() && (refused.is_some() || self.service.basic() != Basic::Taken) {
                self.connection = self.service.log_in().await?;
                self.fresh = true;
                if let Some(basic) = refused {
                    self.service.set_basic(basic);
                }
            }
            let token = self.service.kept().map(|token| token.value);
            let by_session = token.is_some();
            let answer = self.once(method, path, headers, body.clone(), token).await?;
            if answer.status() != 401 {
                return Ok(answer);
            }
            if by_session && self.fresh {
                // User name and password are right: the session was just made with them.
                return Err(match refusal(401, path, answer.body()) {
                    DriverError::WrongCredentials(text) => {
                        DriverError::NotPermitted(format!("{text}, to a session that was just made"))
                    }
                    other => other,
                });
            }
            if by_session {
                // It expired, or the BMC was restarted.
                self.service.forget();
                continue;
            }
            // Some services offer Basic though it is turned off, so an offer proves no password wrong.
            let challenges = answer.headers().get_all(header::WWW_AUTHENTICATE);
            let offered = basic_is_offered(challenges.iter().filter_map(|value| value.to_str().ok()));
            refused = Some(if offered { Basic::RefusedThoughOffered } else { Basic::NotOffered });
        }
        Err(DriverError::Busy(format!("{path}: every session is refused as soon as it is used")))
    }

    async fn once(
        &mut self,
        method: &Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Vec<u8>,
        token: Option<HeaderValue>,
    ) -> Result<Response<Vec<u8>>, DriverError> {
        let login = match token {
            Some(token) => (TOKEN, token),
            None => (header::AUTHORIZATION, basic(&self.service.credentials)?),
        };
        let make = |path: &str| {
            let mut request = request(method, path, body.clone())?;
            request.headers_mut().extend(headers.iter().cloned());
            request.headers_mut().insert(login.0.clone(), login.1.clone());
            Ok(request)
        };
        follow(&mut self.connection, self.service.endpoint(), method, path, make).await
    }

    /// Ends the session, if there is one.
    pub(super) async fn log_out(mut self) {
        self.service.give_back(&mut self.connection).await;
    }
}

/// Sends a request and follows where the service leads it: to another path of the same server, never to another server,
/// which would be shown the account.
pub(super) async fn follow(
    connection: &mut Connection,
    endpoint: &Endpoint,
    method: &Method,
    path: &str,
    make: impl Fn(&str) -> Result<Request<Vec<u8>>, DriverError>,
) -> Result<Response<Vec<u8>>, DriverError> {
    let mut at = path.to_owned();
    for _ in 0..=MOST_REDIRECTS {
        let answer = connection.exchange(make(&at)?).await?;
        let status = answer.status().as_u16();
        let leads_on = matches!(status, 301 | 302 | 307 | 308) || status == 303 && *method == Method::GET;
        let location = answer.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
        match location.filter(|_| leads_on) {
            Some(location) => at = redirected(endpoint, &at, location)?,
            None => return Ok(answer),
        }
    }
    Err(DriverError::Garbled(format!("{path}: more than {MOST_REDIRECTS} redirections")))
}

pub(super) fn request(method: &Method, path: &str, body: Vec<u8>) -> Result<Request<Vec<u8>>, DriverError> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::ACCEPT, "application/json")
        .header("OData-Version", "4.0");
    if *method == Method::POST {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    request.body(body).map_err(|error| DriverError::Garbled(format!("the path can't be asked for: {error}")))
}

fn basic(credentials: &Credentials) -> Result<HeaderValue, DriverError> {
    let pair = STANDARD.encode(format!("{}:{}", credentials.username(), credentials.password()));
    let mut value = HeaderValue::try_from(format!("Basic {pair}"))
        .map_err(|_| DriverError::Local("the credentials do not fit into a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
