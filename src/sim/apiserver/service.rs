//! The tower service beneath a `kube::Client`.

use super::{
    error::ApiError,
    faults::{Fault, RequestInfo},
    log::kind_of,
    patch::PatchKind,
    read::View,
    registry::Resource,
    request::{Query, Target, Verb, WriteOptions, parse_query, parse_target, verb_of},
    server::{Incarnation, Shared, lock},
    store::Stored,
    watch::Watch,
    write::Call,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use serde_json::Value;
use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};
use tower::{BoxError, Service};

type ServerBody = UnsyncBoxBody<Bytes, Infallible>;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// One client's connection.
#[derive(Clone)]
pub(crate) struct Edge {
    shared: Arc<Shared>,
    actor: Arc<str>,
    incarnation: Arc<Incarnation>,
}

impl Edge {
    pub(crate) fn new(shared: Arc<Shared>, actor: &str, incarnation: Arc<Incarnation>) -> Self {
        Self { shared, actor: actor.into(), incarnation }
    }
}

impl Service<Request<Body>> for Edge {
    type Response = Response<ServerBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let edge = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            edge.answer(&parts, &body).await
        })
    }
}

/// An answer before it becomes HTTP.
enum Answer {
    Json {
        code: u16,
        body: Bytes,
        changed: bool,
    },
    /// A refusal by whoever routes requests, before any API.
    Text {
        code: u16,
        text: String,
    },
    Watch(Box<Watch>),
}

impl Answer {
    fn json(code: u16, body: &Value) -> Self {
        Self::Json { code, body: Bytes::from(body.to_string()), changed: false }
    }
}

impl From<ApiError> for Answer {
    fn from(error: ApiError) -> Self {
        match error.plain {
            true => Self::Text { code: error.code, text: error.message },
            false => Self::json(error.code, &error.status()),
        }
    }
}

fn broken_connection() -> BoxError {
    std::io::Error::new(std::io::ErrorKind::ConnectionReset, "connection reset by peer").into()
}

impl Edge {
    async fn answer(&self, parts: &Parts, body: &Bytes) -> Result<Response<ServerBody>, BoxError> {
        self.hang_if_dead().await;
        let query = parse_query(&parts.uri);
        let target = parse_target(&lock(&self.shared.state).registry, parts.uri.path());
        let info = self.describe(parts, &query, target.as_ref().ok());
        let fault = lock(&self.shared.faults).plan.as_mut().and_then(|plan| plan.decide(&info));
        match fault {
            Some(Fault::Refuse(error)) => {
                self.finish(&info, error.code, false);
                return Ok(respond(error.into()));
            }
            Some(Fault::LoseRequest) => {
                self.finish(&info, 0, false);
                return Err(broken_connection());
            }
            Some(Fault::Hang(time)) => {
                tokio::time::sleep(time).await;
                self.finish(&info, 0, false);
                return Err(broken_connection());
            }
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::LoseAnswer) | None => {}
        }
        self.hang_if_dead().await;
        let answer =
            target.and_then(|target| self.execute(parts, &query, target, info.verb, body)).unwrap_or_else(Answer::from);
        let (code, changed) = match &answer {
            Answer::Json { code, changed, .. } => (*code, *changed),
            Answer::Text { code, .. } => (*code, false),
            Answer::Watch(_) => (200, false),
        };
        let lost = fault == Some(Fault::LoseAnswer);
        self.finish(&info, if lost { 0 } else { code }, changed);
        if changed && lock(&self.shared.faults).count_write(&self.actor, &self.incarnation) {
            self.shared.control.raise();
        }
        self.hang_if_dead().await;
        if lost { Err(broken_connection()) } else { Ok(respond(answer)) }
    }

    /// A dead process hears nothing any more.
    async fn hang_if_dead(&self) {
        if self.incarnation.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    fn describe(&self, parts: &Parts, query: &Query, target: Option<&Target>) -> RequestInfo {
        let mut info = RequestInfo {
            actor: self.actor.clone(),
            verb: Verb::Get,
            resource: parts.uri.path().to_owned(),
            subresource: String::new(),
            namespace: String::new(),
            name: String::new(),
            number: 0,
        };
        if let Some(Target::Resource { resource, namespace, name, subresource }) = target {
            info.verb = verb_of(&parts.method, name, query).unwrap_or(Verb::Get);
            info.resource = resource.qualified();
            info.subresource.clone_from(subresource);
            info.namespace.clone_from(namespace);
            info.name.clone_from(name);
        }
        info.number = lock(&self.shared.log).count(&kind_of(&info));
        info
    }

    fn finish(&self, info: &RequestInfo, code: u16, changed: bool) {
        let now = lock(&self.shared.state).clock.now().millis();
        lock(&self.shared.log).finish(now, info, code, changed);
    }

    fn execute(
        &self,
        parts: &Parts,
        query: &Query,
        target: Target,
        verb: Verb,
        body: &Bytes,
    ) -> Result<Answer, ApiError> {
        let (resource, namespace, name, subresource) = match target {
            Target::Discovery(segments) => {
                let document = super::discovery::answer(&lock(&self.shared.state).registry, &segments)?;
                return Ok(Answer::json(200, &document));
            }
            Target::Resource { resource, namespace, name, subresource } => (resource, namespace, name, subresource),
        };
        verb_of(&parts.method, &name, query)?;
        check_subresource(&resource, &name, &subresource)?;
        let header = |name: http::HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let view = View::of(header(http::header::ACCEPT));
        match verb {
            Verb::List => {
                let page = lock(&self.shared.state).list(&resource, &namespace, query, view)?;
                lock(&self.shared.log).listed(&self.actor, &resource.qualified(), page.length);
                return Ok(Answer::Json { code: 200, body: Bytes::from(page.body), changed: false });
            }
            Verb::Watch => {
                let (shared, incarnation) = (self.shared.clone(), self.incarnation.clone());
                let watch = Watch::start(shared, incarnation, self.actor.clone(), resource, namespace, query, view)?;
                return Ok(Answer::Watch(Box::new(watch)));
            }
            _ => {}
        }
        let call = Call {
            face: resource.clone(),
            resource: stored_as(&lock(&self.shared.state).registry, &resource),
            namespace,
            name,
            subresource,
            actor: self.actor.to_string(),
            options: WriteOptions::parse(query, &parts.headers)?,
        };
        let shown = |code: u16, stored: &Stored, changed: bool| {
            let body =
                if stored.value["kind"] == "Status" { stored.json().clone() } else { view.text(&resource, stored) };
            Answer::Json { code, body, changed }
        };
        let mut state = lock(&self.shared.state);
        let validator = lock(&self.shared.validator);
        let parsed = || {
            parse_body(body)
                .map(|body| if resource.group == "events.k8s.io" { super::events::to_core(body) } else { body })
        };
        match verb {
            Verb::Get => Ok(shown(200, &*state.existing(&call)?, false)),
            Verb::Create => {
                if resource.namespaced && call.namespace.is_empty() {
                    return Err(ApiError::method_not_allowed());
                }
                let written = state.create(&validator, &call, parsed()?)?;
                Ok(shown(written.code, &written.object, written.changed))
            }
            Verb::Update => {
                let written = state.update(&validator, &call, parsed()?)?;
                Ok(shown(written.code, &written.object, written.changed))
            }
            Verb::Patch => {
                let kind = PatchKind::of(header(http::header::CONTENT_TYPE).unwrap_or_default(), &resource)?;
                if kind == PatchKind::Apply && query.get("fieldManager").is_none_or(String::is_empty) {
                    return Err(ApiError::invalid_patch_options(
                        "fieldManager",
                        "Required value: is required for apply patch",
                    ));
                }
                if kind != PatchKind::Apply && query.contains_key("force") {
                    return Err(ApiError::invalid_patch_options(
                        "force",
                        "Forbidden: may not be specified for non-apply patch",
                    ));
                }
                let written = state.patch(&validator, &call, kind, &parsed()?)?;
                Ok(shown(written.code, &written.object, written.changed))
            }
            Verb::Delete => {
                let mut options = parse_options(body)?;
                if let (Some(policy), true) = (query.get("propagationPolicy"), options["propagationPolicy"].is_null()) {
                    options["propagationPolicy"] = policy.as_str().into();
                }
                let deleted = state.delete(&call, &options)?;
                let body = Bytes::from(deleted.body.to_string());
                Ok(Answer::Json { code: 200, body, changed: deleted.changed })
            }
            Verb::DeleteCollection => {
                let page = state.list(&resource, &call.namespace, query, View::Full)?;
                let options = parse_options(body)?;
                let list: Value = serde_json::from_slice(&page.body).map_err(ApiError::internal)?;
                let mut changed = false;
                for item in list["items"].as_array().into_iter().flatten() {
                    let text = |field: &str| item["metadata"][field].as_str().unwrap_or_default().to_owned();
                    let one = Call {
                        resource: call.resource.clone(),
                        face: call.face.clone(),
                        namespace: text("namespace"),
                        name: text("name"),
                        subresource: String::new(),
                        actor: call.actor.clone(),
                        options: call.options.clone(),
                    };
                    changed |= state.delete(&one, &options)?.changed;
                }
                Ok(Answer::Json { code: 200, body: Bytes::from(page.body), changed })
            }
            Verb::List | Verb::Watch => Err(ApiError::method_not_allowed()),
        }
    }
}

/// Events of both groups are stored as those of the core group.
fn stored_as(registry: &super::registry::Registry, resource: &Arc<Resource>) -> Arc<Resource> {
    let core = (resource.group == "events.k8s.io").then(|| registry.find("", "v1", "events")).flatten();
    core.unwrap_or(resource).clone()
}

fn check_subresource(resource: &Resource, name: &str, subresource: &str) -> Result<(), ApiError> {
    let known = match subresource {
        "" => true,
        "status" => resource.status,
        "binding" | "eviction" => resource.plural == "pods" && resource.group.is_empty(),
        "finalize" => resource.plural == "namespaces",
        _ => false,
    };
    match known {
        true => Ok(()),
        false if resource.custom => Err(ApiError::not_found(resource, name)),
        false => Err(ApiError::unknown_path()),
    }
}

/// The options of a delete, which may be left out.
fn parse_options(body: &Bytes) -> Result<Value, ApiError> {
    match if body.is_empty() { Value::Null } else { parse_body(body)? } {
        options @ (Value::Null | Value::Object(_)) => Ok(options),
        _ => Err(ApiError::bad_request("the DeleteOptions are no object")),
    }
}

/// JSON, or the YAML that apply patches may be written in.
fn parse_body(body: &Bytes) -> Result<Value, ApiError> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if matches!(first, Some(b'{' | b'[')) {
        serde_json::from_slice(body)
            .map_err(|e| ApiError::bad_request(format!("error decoding the request's JSON: {e}")))
    } else {
        serde_yaml::from_slice(body).map_err(|e| ApiError::bad_request(format!("error decoding YAML: {e}")))
    }
}

fn respond(answer: Answer) -> Response<ServerBody> {
    let (code, content_type, body) = match answer {
        Answer::Json { code, body, .. } => (code, JSON, Full::new(body).boxed_unsync()),
        Answer::Text { code, text } => (code, TEXT, Full::from(format!("{text}\n")).boxed_unsync()),
        Answer::Watch(watch) => (200, JSON, StreamBody::new(watch.into_stream()).boxed_unsync()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}
