//! The server's outside: construction, clients, switches for faults, and a look at what is stored.

use super::{
    admission::{Admission, ClusterView},
    clock,
    error::ApiError,
    faults::{Crash, FaultPlan, Faults},
    history::HistoryLimit,
    log::{LoggedRequest, RequestKind, RequestLog},
    metadata::text,
    registry::{Registry, RegistryError},
    request::WriteOptions,
    service::Edge,
    signal::Signal,
    store::State,
    write::Call,
};
use crate::clock::Clock;
use kube_cel::Validator;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How a server is built.
pub struct Options {
    /// Everything random (uids, generated names) follows from it.
    pub seed: u64,
    /// Where timestamps come from.
    pub clock: Arc<dyn Clock>,
    /// What is remembered per resource; a watch that wants older changes gets 410.
    pub history: HistoryLimit,
    /// Whether every request is kept for [`ApiServer::journal`]; else only counters are.
    pub journal: bool,
    /// Whether KubeVirt's resources are there from the start.
    pub kubevirt: bool,
}

impl Default for Options {
    /// Seed 0, tokio's clock from a fixed epoch, [10 000 changes or 1 MiB](HistoryLimit), no journal, with KubeVirt.
    fn default() -> Self {
        Self {
            seed: 0,
            clock: Arc::new(clock::from_the_beginning()),
            history: HistoryLimit::default(),
            journal: false,
            kubevirt: true,
        }
    }
}

/// One life of a client's process: when it dies, nothing it asks is answered any more.
#[derive(Debug, Default)]
pub(crate) struct Incarnation {
    dead: AtomicBool,
}

impl Incarnation {
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }
}

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) log: Mutex<RequestLog>,
    pub(crate) validator: Mutex<Validator>,
    /// Makes every watch look at the armed faults again.
    pub(crate) control: Signal,
}

/// An API server in memory. Clones share everything.
#[derive(Clone)]
pub struct ApiServer {
    pub(crate) shared: Arc<Shared>,
}

/// Locks; a panic in another test thread while it held the lock changes nothing for us.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ApiServer {
    /// A server with the built-in resources and the namespaces that every cluster has.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let mut registry = Registry::built_in();
        if options.kubevirt {
            registry.add_kubevirt();
        }
        let state = State::new(registry, options.clock, options.seed, options.history);
        let shared = Shared {
            state: Mutex::new(state),
            faults: Mutex::new(Faults::default()),
            log: Mutex::new(RequestLog::with_journal(options.journal)),
            validator: Mutex::new(Validator::new()),
            control: Signal::default(),
        };
        let server = Self { shared: Arc::new(shared) };
        for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            // The four names are valid and new, so nothing refuses them.
            let _ = server.create("system", object);
        }
        server
    }

    /// Serves a CustomResourceDefinition's versions, with its schema's defaults, pruning and rules.
    ///
    /// # Errors
    /// When the CRD is incomplete or its schema cannot be read.
    pub fn add_crd(&self, crd: &Value) -> Result<(), RegistryError> {
        lock(&self.shared.state).registry.add_crd(crd)
    }

    /// Adds an admission hook after those that are there.
    pub fn add_admission(&self, hook: Arc<dyn Admission>) {
        lock(&self.shared.state).admission.push(hook);
    }

    /// A client whose requests count as this actor's. Must be called within a tokio runtime.
    #[must_use]
    pub fn client(&self, actor: &str) -> kube::Client {
        self.client_in(actor, "default")
    }

    /// Like [`Self::client`], with a default namespace.
    #[must_use]
    pub fn client_in(&self, actor: &str, namespace: &str) -> kube::Client {
        kube::Client::new(self.edge(actor), namespace)
    }

    /// What answers an actor's requests.
    pub(crate) fn edge(&self, actor: &str) -> Edge {
        let incarnation = lock(&self.shared.faults).incarnation(actor);
        Edge::new(self.shared.clone(), actor, incarnation)
    }

    /// Puts an object in place directly, as `actor` but past faults and counters: for filling a cluster. Unlike a
    /// client's create it keeps `status`.
    ///
    /// # Errors
    /// What the server answers to an object it cannot take.
    pub fn create(&self, actor: &str, mut object: Value) -> Result<Value, ApiError> {
        let mut state = lock(&self.shared.state);
        let validator = lock(&self.shared.validator);
        let (api_version, kind) = (object["apiVersion"].as_str(), object["kind"].as_str());
        let found = state.registry.of_kind(api_version.unwrap_or_default(), kind.unwrap_or_default());
        let resource = found.cloned().ok_or_else(ApiError::unknown_path)?;
        let namespace = match text(&object, "namespace") {
            "" if resource.namespaced => "default".to_owned(),
            namespace => namespace.to_owned(),
        };
        let status = object.as_object_mut().and_then(|fields| fields.shift_remove("status"));
        let options = WriteOptions { field_manager: actor.to_owned(), ..WriteOptions::default() };
        let call = Call {
            face: resource.clone(),
            resource,
            namespace,
            name: String::new(),
            subresource: String::new(),
            actor: actor.to_owned(),
            options,
        };
        let written = state.create(&validator, &call, object)?;
        let Some(status) = status else { return Ok(written.object.value.clone()) };
        let mut changed = written.object.value.clone();
        changed["status"] = status;
        let name = text(&changed, "name").to_owned();
        let subresource = if call.resource.status { "status".to_owned() } else { String::new() };
        let call = Call { name, subresource, ..call };
        let written = state.store_changed(&validator, &call, &written.object, changed, None)?;
        Ok(written.object.value.clone())
    }

    /// Looks at what is stored, past faults and counters.
    pub fn view<T>(&self, look: impl FnOnce(ClusterView<'_>) -> T) -> T {
        let state = lock(&self.shared.state);
        look(ClusterView { state: &state })
    }

    /// Which requests go wrong from now on; `None` for none.
    pub fn set_faults(&self, plan: Option<Box<dyn FaultPlan>>) {
        lock(&self.shared.faults).plan = plan;
    }

    /// Makes all of an actor's watches lag by this much (zero: no more).
    pub fn lag_watches(&self, actor: &str, lag: Duration) {
        lock(&self.shared.faults).set_lag(actor, lag);
        self.shared.control.raise();
    }

    /// Ends all of an actor's watches, as a connection that breaks.
    pub fn drop_watches(&self, actor: &str) {
        self.cut_watches(actor, false);
    }

    /// Ends all of an actor's watches with 410 Gone, so that they must list again.
    pub fn expire_watches(&self, actor: &str) {
        self.cut_watches(actor, true);
    }

    fn cut_watches(&self, actor: &str, gone: bool) {
        lock(&self.shared.faults).cut_watches(actor, gone);
        self.shared.control.raise();
    }

    /// Forgets all history, as etcd's compaction does.
    pub fn forget_history(&self) {
        lock(&self.shared.state).forget_history();
    }

    /// Kills the actor's process right after its nth successful write from now (n from 1): the write is stored, its
    /// answer never comes, and nothing this actor's present clients ask is answered any more. The returned signal turns
    /// true then. Clients made afterwards belong to the successor.
    pub fn crash_after_writes(&self, actor: &str, writes: u64) -> Crash {
        lock(&self.shared.faults).arm_crash(actor, writes)
    }

    /// Kills the actor's process now.
    pub fn crash(&self, actor: &str) {
        lock(&self.shared.faults).crash_now(actor);
        self.shared.control.raise();
    }

    /// How many requests of each kind were made.
    #[must_use]
    pub fn request_counts(&self) -> BTreeMap<RequestKind, u64> {
        lock(&self.shared.log).counts().clone()
    }

    /// Sets all counters to zero.
    pub fn reset_request_counts(&self) {
        lock(&self.shared.log).reset();
    }

    /// The most objects that this actor ever got in one answer to a list of this resource (`plural.group`).
    #[must_use]
    pub fn longest_list(&self, actor: &str, resource: &str) -> usize {
        lock(&self.shared.log).longest_list(actor, resource)
    }

    /// All requests so far, in order, where [`Options::journal`] asked for it.
    #[must_use]
    pub fn journal(&self) -> Vec<LoggedRequest> {
        lock(&self.shared.log).journal().to_vec()
    }
}
