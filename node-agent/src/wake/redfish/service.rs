//! One Redfish service between calls: how it wants to be logged in to, and the session that it has not taken back.
//!
//! Sessions are few on a BMC, and one that is left behind counts for half an hour. Each is written down as soon as the BMC
//! grants it and struck out when the BMC has taken it back, so that whatever becomes of the call in between, the session is
//! ended afterwards, or used again by the next call. There is never more than one.

use super::{
    login::{Limit, grant, login_refusal},
    session::{SERVICE_ROOT, TOKEN, follow, request},
};
use crate::wake::{
    Credentials, DriverError, Endpoint,
    http::{Client, Connection},
};
use http::{HeaderValue, Method, header};
use serde_json::Value;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Mutex as Turn,
    time::{sleep, timeout},
};

/// A login that nobody waits for any more goes on for this time: what it is granted must be given back.
const LOGIN_ENDS_WITHIN: Duration = Duration::from_secs(60);
/// How long giving a session back may take.
pub(super) const GIVES_BACK_WITHIN: Duration = Duration::from_secs(3);
/// After a call that was given up the next one often comes at once, and uses the session.
const NEXT_CALL_MAY_COME: Duration = Duration::from_secs(1);

/// Whether a service takes Basic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Basic {
    /// As far as is known.
    Taken,
    /// It refused what a session then took, though it goes on offering it.
    RefusedThoughOffered,
    /// It doesn't offer it.
    NotOffered,
}

/// A session's token, and where it is given back.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) value: HeaderValue,
    /// None where the service doesn't say.
    pub(super) location: Option<String>,
}

/// A service, shared by the calls and by what tidies up after them.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) client: Arc<Client>,
    pub(super) credentials: Credentials,
    basic: Mutex<Basic>,
    /// The session that the service has granted and not taken back.
    kept: Mutex<Option<Token>>,
    /// Held by whoever speaks with it.
    pub(super) turn: Turn<()>,
}

impl Service {
    pub(super) fn new(client: Arc<Client>, credentials: Credentials) -> Arc<Self> {
        Arc::new(Self {
            client,
            credentials,
            basic: Mutex::new(Basic::Taken),
            kept: Mutex::new(None),
            turn: Turn::new(()),
        })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        self.client.endpoint()
    }

    pub(super) fn basic(&self) -> Basic {
        *lock(&self.basic)
    }

    pub(super) fn set_basic(&self, basic: Basic) {
        *lock(&self.basic) = basic;
    }

    /// The session that stands.
    pub(super) fn kept(&self) -> Option<Token> {
        lock(&self.kept).clone()
    }

    /// Writes a session down; returned is one too many.
    fn keep(&self, token: Token) -> Option<Token> {
        let mut kept = lock(&self.kept);
        if kept.is_some() {
            return Some(token);
        }
        *kept = Some(token);
        None
    }

    /// The session is no more.
    pub(super) fn forget(&self) {
        *lock(&self.kept) = None;
    }

    /// Makes a session, on a connection that is returned. It goes on when nobody waits for it any more, because the BMC
    /// counts the session from the moment it is asked; then it is given back at once.
    pub(super) async fn log_in(self: &Arc<Self>) -> Result<Connection, DriverError> {
        let service = Arc::clone(self);
        let login = tokio::spawn(async move {
            let mut connection = service.client.connection();
            let granted = timeout(LOGIN_ENDS_WITHIN, service.new_session(&mut connection)).await;
            let token = granted.unwrap_or(Err(DriverError::TimedOut(LOGIN_ENDS_WITHIN)))?;
            if let Some(token) = service.keep(token) {
                // Nobody waited for this one, and a later call made another.
                service.end(&mut connection, &token).await;
            } else if let Ok(_turn) = service.turn.try_lock() {
                // Whoever waits for it holds the turn.
                service.give_back(&mut connection).await;
            }
            Ok(connection)
        });
        login.await.unwrap_or_else(|_| Err(DriverError::Local("the login was stopped".to_owned())))
    }

    async fn new_session(&self, connection: &mut Connection) -> Result<Token, DriverError> {
        // The root is open to everybody.
        let root = follow(connection, self.endpoint(), &Method::GET, SERVICE_ROOT, |path| {
            request(&Method::GET, path, Vec::new())
        });
        let root: Value = serde_json::from_slice(root.await?.body()).unwrap_or(Value::Null);
        let sessions = super::answers::link(&root, "/Links/Sessions")
            .unwrap_or_else(|_| "/redfish/v1/SessionService/Sessions".to_owned());
        let body = serde_json::json!({
            "UserName": self.credentials.username(),
            "Password": self.credentials.password(),
        });
        let body = body.to_string().into_bytes();
        let login = |path: &str| request(&Method::POST, path, body.clone());
        let answer = follow(connection, self.endpoint(), &Method::POST, &sessions, login).await?;
        let status = answer.status().as_u16();
        if !matches!(status, 200 | 201) {
            let (error, limit) = login_refusal(status, &sessions, answer.body());
            if limit == Limit::Reached && self.basic() == Basic::RefusedThoughOffered {
                // It may be on by now: the next call begins with it.
                self.set_basic(Basic::Taken);
            }
            return Err(error);
        }
        let mut value = answer
            .headers()
            .get(TOKEN)
            .cloned()
            .ok_or_else(|| DriverError::Garbled(format!("{sessions} gave no X-Auth-Token")))?;
        value.set_sensitive(true);
        let header = answer.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
        Ok(Token { value, location: grant(header, answer.body(), &sessions) })
    }

    /// Gives the session back, if there is one. Failing to is no failure of the call: it is used again, and given back
    /// then, or expires.
    pub(super) async fn give_back(&self, connection: &mut Connection) {
        if let Some(token) = self.kept()
            && self.end(connection, &token).await
        {
            self.forget();
        }
    }

    /// Whether a session is no more.
    async fn end(&self, connection: &mut Connection, token: &Token) -> bool {
        let Token { value, location: Some(location) } = token else { return false };
        let delete = |path: &str| {
            let mut request = request(&Method::DELETE, path, Vec::new())?;
            request.headers_mut().insert(TOKEN, value.clone());
            Ok(request)
        };
        let deleted = follow(connection, self.endpoint(), &Method::DELETE, location, delete);
        match timeout(GIVES_BACK_WITHIN, deleted).await {
            // One that is not there any more is as good as one given back.
            Ok(Ok(answer)) if answer.status().is_success() || matches!(answer.status().as_u16(), 401 | 404 | 410) => {
                return true;
            }
            Ok(Ok(answer)) => tracing::debug!(status = answer.status().as_u16(), "a Redfish session is kept"),
            Ok(Err(error)) => tracing::debug!(%error, "a Redfish session is kept"),
            Err(_) => tracing::debug!("a Redfish session is kept: no answer in time"),
        }
        false
    }
}

/// Tidies up after a call that is dropped before its end.
pub(super) struct Tidy(pub(super) Arc<Service>);

impl Drop for Tidy {
    fn drop(&mut self) {
        let (service, runtime) = (Arc::clone(&self.0), tokio::runtime::Handle::try_current());
        if let (Some(Token { location: Some(_), .. }), Ok(runtime)) = (service.kept(), runtime) {
            runtime.spawn(async move {
                sleep(NEXT_CALL_MAY_COME).await;
                // Whoever has the turn gives it back.
                if let Ok(_turn) = service.turn.try_lock() {
                    service.give_back(&mut service.client.connection()).await;
                }
            });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
