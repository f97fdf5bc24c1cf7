//! Faults at the client's edge: errors, lost answers, delays, watches that lag or break, and clients that die between
//! two writes.

use super::{error::ApiError, request::Verb, server::Incarnation};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::watch;

/// One request, as a fault plan sees it before the server does.
#[derive(Clone, Debug)]
pub struct RequestInfo {
    /// Who asks, as given to [`super::ApiServer::client`].
    pub actor: Arc<str>,
    /// What is asked.
    pub verb: Verb,
    /// `plural.group`, or just the plural for the core group; the path for discovery.
    pub resource: String,
    /// `status`, `binding`, … or empty.
    pub subresource: String,
    /// The namespace; may be empty.
    pub namespace: String,
    /// The object's name; may be empty.
    pub name: String,
    /// The number of this actor's request, from 1.
    pub number: u64,
}

/// What goes wrong with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The server refuses without doing anything.
    Refuse(ApiError),
    /// The request is lost on the way: nothing is done, the connection breaks.
    LoseRequest,
    /// The request is carried out but the answer is lost: the connection breaks.
    LoseAnswer,
    /// The request is carried out after this time.
    Delay(Duration),
    /// Nothing is done, and the connection breaks after this time.
    Hang(Duration),
}

/// Decides which requests go wrong. Closures are plans too.
pub trait FaultPlan: Send {
    /// Called for every request, in order.
    fn decide(&mut self, request: &RequestInfo) -> Option<Fault>;
}

impl<F: FnMut(&RequestInfo) -> Option<Fault> + Send> FaultPlan for F {
    fn decide(&mut self, request: &RequestInfo) -> Option<Fault> {
        self(request)
    }
}

/// How often what goes wrong, as shares of all requests between 0 and 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct FaultRates {
    /// 500, 503 and 504, in equal parts.
    pub server_errors: f64,
    /// 429 with one second's `retryAfterSeconds`.
    pub too_many_requests: f64,
    /// 409 on updates and patches.
    pub conflicts: f64,
    /// Requests that never arrive.
    pub lost_requests: f64,
    /// Answers that never arrive although the request was carried out.
    pub lost_answers: f64,
    /// Requests that are carried out late, by up to `longest_delay`.
    pub delays: f64,
    /// The longest delay.
    pub longest_delay: Duration,
}

/// Random faults from a seed, for one actor or all.
#[derive(Debug)]
pub struct RandomFaults {
    rng: ChaCha8Rng,
    rates: FaultRates,
    actor: Option<String>,
}

impl RandomFaults {
    /// Faults for every actor.
    #[must_use]
    pub fn new(seed: u64, rates: FaultRates) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), rates, actor: None }
    }

    /// Faults for one actor only.
    #[must_use]
    pub fn only_for(mut self, actor: &str) -> Self {
        self.actor = Some(actor.to_owned());
        self
    }
}

impl FaultPlan for RandomFaults {
    fn decide(&mut self, request: &RequestInfo) -> Option<Fault> {
        if self.actor.as_deref().is_some_and(|actor| actor != &*request.actor) {
            return None;
        }
        // One draw per request, however it is used, so that a rate's change does not shift all that follow.
        let (mut at, detail): (f64, f64) = (self.rng.random(), self.rng.random());
        let mut within = |rate: f64| {
            let hit = (0.0..rate).contains(&at);
            at -= rate;
            hit
        };
        let rates = self.rates;
        if within(rates.server_errors) {
            let error = match detail {
                low if low < 1.0 / 3.0 => ApiError::internal("injected fault"),
                low if low < 2.0 / 3.0 => ApiError::unavailable(),
                _ => ApiError::timeout(),
            };
            return Some(Fault::Refuse(error));
        }
        if within(rates.too_many_requests) {
            return Some(Fault::Refuse(ApiError::too_many_requests(1)));
        }
        if within(rates.conflicts) && matches!(request.verb, Verb::Update | Verb::Patch) {
            return Some(Fault::Refuse(ApiError::injected_conflict(&request.resource, &request.name)));
        }
        if within(rates.lost_requests) {
            return Some(Fault::LoseRequest);
        }
        if within(rates.lost_answers) && request.verb.writes() {
            return Some(Fault::LoseAnswer);
        }
        if within(rates.delays) {
            return Some(Fault::Delay(rates.longest_delay.mul_f64(detail)));
        }
        None
    }
}

/// Tells when an actor has crashed.
pub type Crash = watch::Receiver<bool>;

/// The faults that are armed.
#[derive(Default)]
pub(crate) struct Faults {
    pub(crate) plan: Option<Box<dyn FaultPlan>>,
    actors: BTreeMap<String, ActorFaults>,
}

#[derive(Default)]
struct ActorFaults {
    lag: Duration,
    /// How often its watches were cut, and whether the last cut said 410.
    cuts: u64,
    gone: bool,
    /// Its present incarnation.
    incarnation: Option<Arc<Incarnation>>,
    /// Successful writes until it crashes.
    crash_after: Option<(u64, watch::Sender<bool>)>,
}

impl Faults {
    fn actor(&mut self, actor: &str) -> &mut ActorFaults {
        self.actors.entry(actor.to_owned()).or_default()
    }

    pub(crate) fn incarnation(&mut self, actor: &str) -> Arc<Incarnation> {
        self.actor(actor).incarnation.get_or_insert_with(Arc::default).clone()
    }

    pub(crate) fn set_lag(&mut self, actor: &str, lag: Duration) {
        self.actor(actor).lag = lag;
    }

    pub(crate) fn lag(&self, actor: &str) -> Duration {
        self.actors.get(actor).map_or(Duration::ZERO, |faults| faults.lag)
    }

    pub(crate) fn cut_watches(&mut self, actor: &str, gone: bool) {
        let faults = self.actor(actor);
        faults.cuts += 1;
        faults.gone = gone;
    }

    pub(crate) fn cuts(&self, actor: &str) -> (u64, bool) {
        self.actors.get(actor).map_or((0, false), |faults| (faults.cuts, faults.gone))
    }

    pub(crate) fn arm_crash(&mut self, actor: &str, writes: u64) -> Crash {
        let (sender, receiver) = watch::channel(false);
        self.actor(actor).crash_after = Some((writes, sender));
        receiver
    }

    pub(crate) fn crash_now(&mut self, actor: &str) {
        let faults = self.actor(actor);
        if let Some(incarnation) = faults.incarnation.take() {
            incarnation.die();
        }
        if let Some((_, sender)) = faults.crash_after.take() {
            sender.send_replace(true);
        }
    }

    /// Counts a successful write; whether the actor dies of it.
    pub(crate) fn count_write(&mut self, actor: &str, incarnation: &Incarnation) -> bool {
        let Some(faults) = self.actors.get_mut(actor) else { return false };
        let Some((left, _)) = &mut faults.crash_after else { return false };
        if incarnation.is_dead() {
            return false;
        }
        *left = left.saturating_sub(1);
        if *left > 0 {
            return false;
        }
        self.crash_now(actor);
        true
    }
}
