//! The waker's replicas on the simulated API server, with drivers that answer as told: who wakes a node, and what is
//! said of it.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use miyako::sim::world::{World, WorldSettings};
use miyako_agent::stream::WallClock;
use miyako_agent::wake::{Credentials, Driver, DriverError, Node, PowerState, Reading, address_of};
use miyako_agent::waker::{MakeDriver, Waker};
use miyako_api::NodePower;
use miyako_api::names::ours;
use miyako_api::node_power::{WakeOutcome, WakerStatus};
use miyako_api::node_power_class::{WakeDriver, WakeProtocol};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Machines behind BMCs.
#[derive(Clone, Default)]
struct Machines {
    /// Requests to wake, by address, and who was logged in.
    requests: Arc<Mutex<Vec<(String, String)>>>,
    /// What goes wrong, by address.
    broken: Arc<Mutex<BTreeMap<String, DriverError>>>,
    /// How long a BMC takes to answer.
    slowness: Duration,
    /// They were shut down, and are off from then on.
    off: Arc<Mutex<bool>>,
}

struct Machine {
    machines: Machines,
    protocol: WakeProtocol,
    address: String,
    user: String,
}

impl MakeDriver for Machines {
    fn make(
        &self,
        spec: &WakeDriver,
        node: Node<'_>,
        secret: Option<&BTreeMap<String, Vec<u8>>>,
    ) -> Result<Box<dyn Driver>, String> {
        let credentials = secret.map(Credentials::from_secret).transpose().map_err(|error| error.to_string())?;
        let user = credentials.map_or_else(String::new, |credentials| credentials.username().to_owned());
        let address = address_of(spec, node).map_err(|error| error.to_string())?;
        Ok(Box::new(Machine { machines: self.clone(), protocol: spec.driver, address, user }))
    }
}

impl Machine {
    fn answer<T: Send + 'static>(
        &self,
        answer: impl FnOnce() -> T + Send + 'static,
    ) -> BoxFuture<'_, Result<T, DriverError>> {
        async move {
            tokio::time::sleep(self.machines.slowness).await;
            match self.machines.broken.lock().unwrap().get(&self.address) {
                Some(error) => Err(error.clone()),
                None => Ok(answer()),
            }
        }
        .boxed()
    }

    fn is_on(&self) -> bool {
        self.machines.requests.lock().unwrap().iter().any(|(address, _)| *address == self.address)
    }
}

impl Driver for Machine {
    fn protocol(&self) -> WakeProtocol {
        self.protocol
    }

    fn address(&self) -> &str {
        &self.address
    }

    fn read(&self) -> BoxFuture<'_, Result<Reading, DriverError>> {
        let state = match (*self.machines.off.lock().unwrap(), self.is_on()) {
            (true, _) => PowerState::Off,
            (false, true) => PowerState::On,
            (false, false) => PowerState::Sleeping,
        };
        self.answer(move || Reading::sure(state, "told so"))
    }

    fn wake(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        let (requests, address, user) = (Arc::clone(&self.machines.requests), self.address.clone(), self.user.clone());
        self.answer(move || requests.lock().unwrap().push((address, user)))
    }

    fn power_on(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        self.wake()
    }
}

struct Stage {
    world: World,
    machines: Machines,
}

impl Stage {
    /// A sleeping node whose class names two drivers, and an order to wake it.
    async fn with(machines: Machines) -> Self {
        let world = World::start(WorldSettings::default()).await.unwrap();
        for crd in miyako_api::crds() {
            world.server.add_crd(&serde_json::to_value(crd).unwrap()).unwrap();
        }
        let secret_ref = json!({"namespace": "bmc", "name": "amt"});
        let wake = json!([
            {"driver": "amt", "address": "{node}.amt", "secretRef": secret_ref},
            {"driver": "ipmi", "address": "{node}.ipmi", "secretRef": secret_ref},
        ]);
        let objects = [
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"pool": "shared"}}}),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bmc"}}),
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "bmc", "name": "amt"},
                "data": {"username": "YWRtaW4=", "password": "c2VjcmV0"},
            }),
            json!({
                "apiVersion": "miyako.dev/v1alpha1", "kind": "NodePowerClass", "metadata": {"name": "shared"},
                "spec": {"role": "Shared", "nodeSelector": {"matchLabels": {"pool": "shared"}}, "wake": wake},
            }),
            json!({
                "apiVersion": "miyako.dev/v1alpha1", "kind": "NodePower", "metadata": {"name": "n1"},
                "spec": {
                    "desired": "Awake", "generation": 3, "reason": "load returned",
                    "issuedAt": "2026-01-05T00:00:00Z", "expiresAt": "2026-01-05T01:00:00Z",
                },
                "status": {"phase": "Waking"},
            }),
        ];
        for object in objects {
            world.server.create("admin", object).unwrap();
        }
        Self { world, machines }
    }

    fn replica(&self, name: &str) -> JoinHandle<()> {
        self.replica_off_by(name, 0)
    }

    /// A replica on a machine whose clock is so many milliseconds ahead.
    fn replica_off_by(&self, name: &str, millis: i64) -> JoinHandle<()> {
        let now = self.world.now.clone();
        let clock: WallClock = Arc::new(move || now().as_millisecond() + millis);
        let client = self.world.server.client(name);
        tokio::spawn(Waker::new(client, name.into(), clock, Arc::new(self.machines.clone()), 1).run())
    }

    async fn said(&self) -> Option<WakerStatus> {
        let power = Api::<NodePower>::all(self.world.admin.clone()).get("n1").await.unwrap();
        power.status.and_then(|status| status.waker)
    }

    async fn outcome(&self) -> WakerStatus {
        loop {
            if let Some(said) = self.said().await.filter(|said| said.outcome.is_some()) {
                return said;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn requests(&self) -> Vec<(String, String)> {
        self.machines.requests.lock().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_two_replicas_wakes_the_node_with_its_own_credentials() {
    let stage = Stage::with(Machines { slowness: Duration::from_secs(2), ..Machines::default() }).await;
    let (_a, _b) = (stage.replica("waker-a"), stage.replica("waker-b"));
    let said = stage.outcome().await;
    assert_eq!((said.generation, said.outcome), (3, Some(WakeOutcome::Awake)));
    assert_eq!(said.driver.as_deref(), Some("amt"));
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(stage.requests(), [("n1.amt".to_owned(), "admin".to_owned())], "once, and not again");
}

#[tokio::test(start_paused = true)]
async fn another_driver_is_asked_where_the_first_fails() {
    let stage = Stage::with(Machines::default()).await;
    let refused = DriverError::NotSupported("a test".into());
    stage.machines.broken.lock().unwrap().insert("n1.amt".into(), refused);
    let _replica = stage.replica("waker-a");
    let said = stage.outcome().await;
    assert_eq!((said.outcome, said.driver.as_deref()), (Some(WakeOutcome::Awake), Some("ipmi")));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_with_what_each_driver_said() {
    let stage = Stage::with(Machines::default()).await;
    for address in ["n1.amt", "n1.ipmi"] {
        let error = DriverError::NotSupported(format!("{address} is on fire"));
        stage.machines.broken.lock().unwrap().insert(address.into(), error);
    }
    let _replica = stage.replica("waker-a");
    let said = stage.outcome().await;
    let message = said.message.unwrap();
    assert_eq!(said.outcome, Some(WakeOutcome::Failed));
    assert!(message.contains("n1.amt is on fire") && message.contains("n1.ipmi is on fire"), "{message}");
    assert!(!message.contains("secret"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn the_other_replica_takes_over_when_the_first_dies_at_work() {
    let slow = Machines { slowness: Duration::from_secs(14), ..Machines::default() };
    let stage = Stage::with(slow).await;
    let first = stage.replica("waker-a");
    while stage.said().await.is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let _second = stage.replica("waker-b");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.said().await.unwrap().by, "waker-a", "a living claim is respected");
    first.abort();
    let said = stage.outcome().await;
    assert_eq!((said.by.as_str(), said.outcome), ("waker-b", Some(WakeOutcome::Awake)));
}

#[tokio::test(start_paused = true)]
async fn clocks_that_differ_neither_end_an_order_nor_a_living_claim() {
    for (first, second) in [(7_200_000, 0), (0, 7_200_000), (-7_200_000, 7_200_000)] {
        let stage = Stage::with(Machines { slowness: Duration::from_secs(25), ..Machines::default() }).await;
        let _first = stage.replica_off_by("waker-a", first);
        while stage.said().await.is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let _second = stage.replica_off_by("waker-b", second);
        let said = stage.outcome().await;
        assert_eq!((said.by.as_str(), said.outcome), ("waker-a", Some(WakeOutcome::Awake)), "{first} and {second}");
        assert_eq!(stage.requests().len(), 1, "{first} and {second}");
    }
}

/// What the operator records in the order to sleep of a node of [`Stage::with`].
fn recorded() -> serde_json::Value {
    let secret_ref = json!({"namespace": "bmc", "name": "amt"});
    json!({"spec": {"wakeWays": [{"driver": "ipmi", "address": "n1.ipmi", "secretRef": secret_ref}]}})
}

/// What may become of a node's class while it sleeps.
#[derive(Debug, Clone, Copy)]
enum Change {
    ClassDeleted,
    NodeDeleted,
    LabelLost,
    SecondClass,
}

impl Change {
    async fn befall(self, stage: &Stage) {
        let admin = stage.world.admin.clone();
        let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(admin.clone());
        let classes: Api<miyako_api::NodePowerClass> = Api::all(admin);
        match self {
            Self::ClassDeleted => drop(classes.delete("shared", &DeleteParams::default()).await.unwrap()),
            Self::NodeDeleted => drop(nodes.delete("n1", &DeleteParams::default()).await.unwrap()),
            Self::LabelLost => {
                let lost = Patch::Merge(json!({"metadata": {"labels": {"pool": null}}}));
                nodes.patch("n1", &PatchParams::default(), &lost).await.unwrap();
            }
            Self::SecondClass => {
                let selector = json!({"matchLabels": {"pool": "shared"}});
                let spec = json!({"role": "Shared", "nodeSelector": selector});
                let second = json!({
                    "apiVersion": "miyako.dev/v1alpha1", "kind": "NodePowerClass", "metadata": {"name": "b"},
                    "spec": spec,
                });
                stage.world.server.create("admin", second).unwrap();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_is_woken_by_what_was_recorded_whatever_became_of_its_class() {
    for change in [Change::ClassDeleted, Change::NodeDeleted, Change::LabelLost, Change::SecondClass] {
        let stage = Stage::with(Machines::default()).await;
        change.befall(&stage).await;
        let _replica = stage.replica("waker-a");
        assert_eq!(stage.outcome().await.outcome, Some(WakeOutcome::Failed), "{change:?}, and nothing was recorded");
        let stage = Stage::with(Machines::default()).await;
        patch(&stage, recorded(), json!({})).await;
        change.befall(&stage).await;
        let _replica = stage.replica("waker-a");
        let said = stage.outcome().await;
        assert_eq!((said.outcome, said.driver.as_deref()), (Some(WakeOutcome::Awake), Some("ipmi")), "{change:?}");
        assert_eq!(stage.requests(), [("n1.ipmi".to_owned(), "admin".to_owned())], "{change:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_driver_that_cannot_be_set_up_leaves_the_others() {
    let stage = Stage::with(Machines::default()).await;
    let wake = json!({"spec": {"wake": [
        {"driver": "wol", "address": "{label:mac}"},
        {"driver": "ipmi", "address": "{node}.ipmi", "secretRef": {"namespace": "bmc", "name": "amt"}},
    ]}});
    let classes: Api<miyako_api::NodePowerClass> = Api::all(stage.world.admin.clone());
    classes.patch("shared", &PatchParams::default(), &Patch::Merge(wake)).await.unwrap();
    let _replica = stage.replica("waker-a");
    let said = stage.outcome().await;
    assert_eq!((said.outcome, said.driver.as_deref()), (Some(WakeOutcome::Awake), Some("ipmi")));
}

#[tokio::test(start_paused = true)]
async fn a_newer_order_to_sleep_is_not_answered() {
    let stage = Stage::with(Machines::default()).await;
    let powers: Api<NodePower> = Api::all(stage.world.admin.clone());
    let asleep = Patch::Merge(json!({"spec": {"desired": "Suspended", "generation": 4}}));
    powers.patch("n1", &PatchParams::default(), &asleep).await.unwrap();
    let _replica = stage.replica("waker-a");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(stage.said().await, None);
    assert!(stage.requests().is_empty());
}

async fn patch(stage: &Stage, patch: serde_json::Value, status: serde_json::Value) {
    let powers: Api<NodePower> = Api::all(stage.world.admin.clone());
    powers.patch("n1", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    powers.patch_status("n1", &PatchParams::default(), &Patch::Merge(json!({ "status": status }))).await.unwrap();
}

/// A node that is ordered to power off; its agent has acknowledged that.
async fn shutting_down() -> Stage {
    let stage = Stage::with(Machines::default()).await;
    let order = json!({"spec": {"desired": "Suspended", "generation": 4, "method": "PowerOff"}});
    let agent = json!({"acknowledgedGeneration": 4, "attempt": 4});
    patch(&stage, order, json!({"phase": "Suspending", "agent": agent})).await;
    stage
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_shuts_down_is_watched_until_its_bmc_calls_it_off() {
    let stage = shutting_down().await;
    let _replica = stage.replica("waker-a");
    tokio::time::sleep(Duration::from_secs(30)).await;
    let said = stage.said().await.unwrap();
    assert_eq!((said.generation, said.outcome), (4, None), "it is not off yet");
    *stage.machines.off.lock().unwrap() = true;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let said = stage.said().await.unwrap();
    assert_eq!((said.outcome, said.driver.as_deref()), (Some(WakeOutcome::Off), Some("amt")));
    assert!(stage.requests().is_empty(), "it is not woken");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_never_goes_off_and_bmcs_that_refuse_are_told() {
    let stage = shutting_down().await;
    let _replica = stage.replica("waker-a");
    let said = stage.outcome().await;
    assert_eq!(said.outcome, Some(WakeOutcome::Failed));
    assert!(said.message.unwrap().contains("its shutdown may hang"));
    let stage = shutting_down().await;
    for address in ["n1.amt", "n1.ipmi"] {
        stage.machines.broken.lock().unwrap().insert(address.into(), DriverError::NotSupported("a test".into()));
    }
    let begun = tokio::time::Instant::now();
    let _replica = stage.replica("waker-a");
    assert_eq!(stage.outcome().await.outcome, Some(WakeOutcome::Failed));
    assert!(begun.elapsed() < Duration::from_secs(5), "nothing to wait for");
}

#[tokio::test(start_paused = true)]
async fn an_order_that_takes_the_shutdown_back_ends_the_watch() {
    let stage = shutting_down().await;
    let _replica = stage.replica("waker-a");
    tokio::time::sleep(Duration::from_secs(12)).await;
    let order = json!({"spec": {"desired": "Awake", "generation": 5, "expiresAt": "2026-01-05T02:00:00Z"}});
    patch(&stage, order, json!({"phase": "Waking"})).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let said = stage.said().await.unwrap();
    assert_eq!((said.generation, said.outcome), (5, Some(WakeOutcome::Awake)));
}

#[tokio::test(start_paused = true)]
async fn a_person_can_wake_a_node_when_no_operator_runs() {
    let stage = Stage::with(Machines::default()).await;
    let order = json!({"spec": {"desired": "Suspended", "generation": 4}});
    patch(&stage, order, json!({"phase": "Suspended"})).await;
    let (_a, _b) = (stage.replica("waker-a"), stage.replica("waker-b"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(stage.said().await, None, "nobody wants it awake");
    let asked = json!({"metadata": {"annotations": {ours::REQUEST: "wake ana 1"}}});
    patch(&stage, asked, json!({})).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(stage.said().await, None, "an operator would answer within its time");
    let said = stage.outcome().await;
    assert_eq!((said.request.as_deref(), said.outcome), (Some("wake ana 1"), Some(WakeOutcome::Awake)));
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(stage.requests().len(), 1, "once, and not again");
}
