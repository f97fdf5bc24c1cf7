//! One call's worth of requests to a Redfish service, logged in by Basic or by a session.

use super::answers::{basic_is_offered, link, refusal};
use crate::wake::{
    Credentials, DriverError,
    http::{Client, Connection},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};

const SERVICE_ROOT: &str = "/redfish/v1/";
const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// A login on one connection. It begins with Basic, which leaves nothing behind; sessions are few on a BMC and only
/// made where Basic is turned off.
pub(super) struct Session<'a> {
    connection: Connection<'a>,
    credentials: &'a Credentials,
    /// Remembered between calls, so that a service without Basic is not asked again.
    only_sessions: &'a AtomicBool,
    token: Option<HeaderValue>,
    location: Option<String>,
}

/// A resource and its version.
pub(super) struct Resource {
    pub(super) json: Value,
    pub(super) etag: Option<HeaderValue>,
}

impl<'a> Session<'a> {
    pub(super) fn new(client: &'a Client, credentials: &'a Credentials, only_sessions: &'a AtomicBool) -> Self {
        Self { connection: client.connection(), credentials, only_sessions, token: None, location: None }
    }

    /// Reads a resource.
    pub(super) async fn get(&mut self, path: &str) -> Result<Resource, DriverError> {
        let answer = self.send(&Method::GET, path, &[], Vec::new()).await?;
        if answer.status() != 200 {
            return Err(refusal(answer.status().as_u16(), path, answer.body()));
        }
        let json = serde_json::from_slice(answer.body())
            .map_err(|error| DriverError::Garbled(format!("{path} is no JSON: {error}")))?;
        Ok(Resource { json, etag: answer.headers().get(header::ETAG).cloned() })
    }

    /// Sends a request, logging in as the service wants it, and returns the answer whatever its status but 401.
    pub(super) async fn send(
        &mut self,
        method: &Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Vec<u8>,
    ) -> Result<Response<Vec<u8>>, DriverError> {
        if self.only_sessions.load(Ordering::Relaxed) && self.token.is_none() {
            self.log_in().await?;
        }
        let answer = self.once(method, path, headers, body.clone()).await?;
        if answer.status() != 401 {
            return Ok(answer);
        }
        let challenges = answer.headers().get_all(header::WWW_AUTHENTICATE);
        if self.token.is_some() || basic_is_offered(challenges.iter().filter_map(|value| value.to_str().ok())) {
            return Err(refusal(401, path, answer.body()));
        }
        self.log_in().await?;
        self.only_sessions.store(true, Ordering::Relaxed);
        let answer = self.once(method, path, headers, body).await?;
        if answer.status() == 401 { Err(refusal(401, path, answer.body())) } else { Ok(answer) }
    }

    async fn once(
        &mut self,
        method: &Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Vec<u8>,
    ) -> Result<Response<Vec<u8>>, DriverError> {
        let mut request = request(method, path, body)?;
        request.headers_mut().extend(headers.iter().cloned());
        match &self.token {
            Some(token) => request.headers_mut().insert(TOKEN, token.clone()),
            None => request.headers_mut().insert(header::AUTHORIZATION, basic(self.credentials)?),
        };
        self.connection.exchange(request).await
    }

    async fn log_in(&mut self) -> Result<(), DriverError> {
        // The root is open to everybody.
        let root = self.connection.exchange(request(&Method::GET, SERVICE_ROOT, Vec::new())?).await?;
        let root: Value = serde_json::from_slice(root.body()).unwrap_or(Value::Null);
        let sessions =
            link(&root, "/Links/Sessions").unwrap_or_else(|_| "/redfish/v1/SessionService/Sessions".to_owned());
        let body = serde_json::json!({
            "UserName": self.credentials.username(),
            "Password": self.credentials.password(),
        });
        let answer =
            self.connection.exchange(request(&Method::POST, &sessions, body.to_string().into_bytes())?).await?;
        let status = answer.status().as_u16();
        if !matches!(status, 200 | 201) {
            return Err(match status {
                400 | 401 | 403 => DriverError::WrongCredentials(format!("{sessions}: HTTP {status}")),
                404 | 405 | 501 => DriverError::WrongCredentials(format!(
                    "Basic was refused with HTTP 401, and there are no sessions (HTTP {status} from {sessions})"
                )),
                _ => refusal(status, &sessions, answer.body()),
            });
        }
        let mut token = answer
            .headers()
            .get(TOKEN)
            .cloned()
            .ok_or_else(|| DriverError::Garbled(format!("{sessions} gave no X-Auth-Token")))?;
        token.set_sensitive(true);
        self.token = Some(token);
        self.location = location(answer.headers());
        Ok(())
    }

    /// Gives the session back, if there is one. Failing to is no failure of the call: it expires.
    pub(super) async fn log_out(mut self) {
        if let (Some(_), Some(location)) = (&self.token, self.location.take())
            && let Err(error) = self.once(&Method::DELETE, &location, &[], Vec::new()).await
        {
            tracing::debug!(%error, "a Redfish session was left to expire");
        }
    }
}

fn request(method: &Method, path: &str, body: Vec<u8>) -> Result<Request<Vec<u8>>, DriverError> {
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

/// The path of a `Location` header, which may hold a whole URL.
pub(super) fn location(headers: &HeaderMap) -> Option<String> {
    let location = headers.get(header::LOCATION)?.to_str().ok()?;
    let path = match location.split_once("://") {
        Some((_, rest)) => rest.get(rest.find('/')?..)?,
        None => location,
    };
    path.starts_with('/').then(|| path.to_owned())
}
