//! What BMCs measure, from the wakers that read them to the operator that counts it.

use crate::wire::paused::{CableDialer, Stand, clock};
use futures::{FutureExt as _, future::BoxFuture};
use miyako::sim::world::{World, WorldSettings};
use miyako_agent::{
    wake::{Driver, DriverError, Node, Reading, WattsReading, address_of},
    waker::{
        MakeDriver,
        meters::{Board, Meters, Scene, Teller},
    },
};
use miyako_api::{
    node_power::PowerPhase,
    node_power_class::{WakeDriver, WakeProtocol},
    wire::TELL_INTERVAL,
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

const MINUTE: Duration = Duration::from_secs(60);

/// Machines with BMCs that measure.
#[derive(Clone, Default)]
struct Bmcs {
    /// Readings that ended, as waker and address.
    read: Arc<Mutex<Vec<(String, String)>>>,
    /// Readings that began.
    begun: Arc<Mutex<BTreeMap<String, u32>>>,
    /// What each measures, by address; the others are silent.
    watts: Arc<Mutex<BTreeMap<String, f64>>>,
}

struct BmcsOf(&'static str, Bmcs);

struct Bmc {
    waker: &'static str,
    bmcs: Bmcs,
    address: String,
}

impl MakeDriver for BmcsOf {
    fn make(
        &self,
        spec: &WakeDriver,
        node: Node<'_>,
        secret: Option<&BTreeMap<String, Vec<u8>>>,
    ) -> Result<Box<dyn Driver>, String> {
        assert_eq!(spec.driver, WakeProtocol::Redfish, "the meter's driver and no other");
        secret.ok_or("no Secret")?;
        let address = address_of(spec, node).map_err(|error| error.to_string())?;
        Ok(Box::new(Bmc { waker: self.0, bmcs: self.1.clone(), address }))
    }
}

impl Driver for Bmc {
    fn protocol(&self) -> WakeProtocol {
        WakeProtocol::Redfish
    }

    fn address(&self) -> &str {
        &self.address
    }

    fn read(&self) -> BoxFuture<'_, Result<Reading, DriverError>> {
        unreachable!("nobody asks how it is")
    }

    fn wake(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        unreachable!("nobody wakes it")
    }

    fn power_on(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        unreachable!("nobody wakes it")
    }

    fn watts(&self) -> BoxFuture<'_, Result<WattsReading, DriverError>> {
        async {
            *self.bmcs.begun.lock().unwrap().entry(self.address.clone()).or_default() += 1;
            sleep(Duration::from_secs(2)).await;
            let watts = self.bmcs.watts.lock().unwrap().get(&self.address).copied();
            let watts = watts.ok_or(DriverError::TimedOut(Duration::from_secs(15)))?;
            self.bmcs.read.lock().unwrap().push((self.waker.to_owned(), self.address.clone()));
            Ok(WattsReading { watts, evidence: "a test".into() })
        }
        .boxed()
    }
}

/// Two nodes whose class measures by Redfish, and an operator.
struct Stage {
    stand: Stand,
    world: World,
    bmcs: Bmcs,
    scene: watch::Sender<Scene>,
}

impl Stage {
    async fn new() -> Self {
        let world = World::start(WorldSettings::default()).await.unwrap();
        for crd in miyako_api::crds() {
            world.server.add_crd(&serde_json::to_value(crd).unwrap()).unwrap();
        }
        let labels = json!({"pool": "shared"});
        let secret_ref = json!({"namespace": "bmc", "name": "redfish"});
        let objects = [
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1", "labels": labels}}),
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-2", "labels": labels}}),
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "of-no-class"}}),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bmc"}}),
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "bmc", "name": "redfish"},
                "data": {"username": "YWRtaW4=", "password": "c2VjcmV0"},
            }),
            json!({
                "apiVersion": "miyako.dev/v1alpha1", "kind": "NodePowerClass", "metadata": {"name": "shared"},
                "spec": {
                    "role": "Shared", "nodeSelector": {"matchLabels": labels},
                    "power": {"meter": {"redfish": {}}},
                    "wake": [
                        {"driver": "amt", "address": "{node}.amt", "secretRef": secret_ref},
                        {"driver": "redfish", "address": "https://{node}.bmc", "secretRef": secret_ref},
                    ],
                },
            }),
        ];
        for object in objects {
            world.server.create("admin", object).unwrap();
        }
        let bmcs = Bmcs::default();
        for (address, watts) in [("https://node-1.bmc", 230.0), ("https://node-2.bmc", 9.5)] {
            bmcs.watts.lock().unwrap().insert(address.to_owned(), watts);
        }
        Self { stand: Stand::new(), world, bmcs, scene: watch::Sender::default() }
    }

    /// A waker on this node.
    fn waker(&self, node: &'static str) -> JoinHandle<()> {
        let board = Board::default();
        let make = Arc::new(BmcsOf(node, self.bmcs.clone()));
        let meters = Meters::new(self.world.server.client(node), make, self.scene.subscribe(), board.clone());
        let dialer = CableDialer { cable: self.stand.cable.clone(), token: format!("agent-on:{node}") };
        let mut teller = Teller::new(dialer, board);
        let telling = async move {
            loop {
                teller.call(&BTreeSet::from(["operator".to_owned()])).await;
                sleep(TELL_INTERVAL).await;
            }
        };
        tokio::spawn(async { tokio::join!(meters.run(), telling).0 })
    }

    /// What the operator believes that nodes draw.
    fn metered(&self) -> Vec<(String, f64)> {
        let metered = self.stand.store.lock().metered(clock(self.stand.begun));
        metered.bmc.into_iter().map(|(node, (_, watts))| (node.to_string(), watts.value())).collect()
    }

    fn reads_of(&self, waker: &str) -> usize {
        self.bmcs.read.lock().unwrap().iter().filter(|(by, _)| by == waker).count()
    }
}

fn both() -> Vec<(String, f64)> {
    vec![("node-1".to_owned(), 230.0), ("node-2".to_owned(), 9.5)]
}

#[tokio::test(start_paused = true)]
async fn one_of_two_wakers_reads_each_bmc_once_a_minute_and_the_other_takes_over() {
    let stage = Stage::new().await;
    let first = stage.waker("cp-1");
    sleep(Duration::from_secs(1)).await;
    let _second = stage.waker("cp-2");
    sleep(MINUTE * 2).await;
    assert_eq!(stage.metered(), both());
    let before = stage.reads_of("cp-1");
    sleep(MINUTE * 10).await;
    let reads = stage.reads_of("cp-1") - before;
    assert!((18..=22).contains(&reads), "two nodes for ten minutes: {reads}");
    assert_eq!(stage.reads_of("cp-2"), 0);
    first.abort();
    sleep(MINUTE * 2).await;
    assert!(stage.reads_of("cp-2") >= 2);
    assert_eq!(stage.metered(), both());
}

#[tokio::test(start_paused = true)]
async fn without_an_operator_nothing_is_read_and_a_new_one_hears_all_that_is_fresh() {
    let mut stage = Stage::new().await;
    let _waker = stage.waker("cp-1");
    sleep(MINUTE * 2).await;
    stage.stand.stop();
    sleep(MINUTE).await;
    let before = stage.reads_of("cp-1");
    sleep(MINUTE * 10).await;
    assert_eq!(stage.reads_of("cp-1"), before, "nobody would hear it");
    assert_eq!(stage.metered(), [], "what was read before is stale");
    stage.stand.start();
    sleep(MINUTE).await;
    stage.stand.stop();
    stage.stand.store = crate::wire::scene::store(clock(stage.stand.begun));
    stage.stand.start();
    sleep(Duration::from_secs(15)).await;
    assert_eq!(stage.metered(), both(), "long before they are read again");
}

#[tokio::test(start_paused = true)]
async fn a_wake_comes_before_a_reading() {
    let stage = Stage::new().await;
    stage.bmcs.watts.lock().unwrap().remove("https://node-2.bmc");
    let _waker = stage.waker("cp-1");
    let begun = |stage: &Stage| stage.bmcs.begun.lock().unwrap().get("https://node-1.bmc").copied().unwrap_or(0);
    while begun(&stage) < 3 {
        sleep(Duration::from_millis(200)).await;
    }
    let ended = stage.reads_of("cp-1");
    stage.scene.send_replace(Scene { busy: ["node-1".to_owned()].into(), ..Scene::default() });
    sleep(MINUTE * 5).await;
    assert_eq!((begun(&stage), stage.reads_of("cp-1")), (3, ended), "it was dropped, and none begun");
    stage.scene.send_replace(Scene::default());
    sleep(MINUTE).await;
    assert!(stage.reads_of("cp-1") > ended);
}

#[tokio::test(start_paused = true)]
async fn a_bmc_that_falls_silent_is_left_to_the_model_and_asked_ever_more_seldom() {
    let stage = Stage::new().await;
    let _waker = stage.waker("cp-1");
    sleep(MINUTE * 2).await;
    stage.bmcs.watts.lock().unwrap().remove("https://node-1.bmc");
    let before = stage.bmcs.begun.lock().unwrap()["https://node-1.bmc"];
    sleep(MINUTE * 4).await;
    assert_eq!(stage.metered(), both()[1..], "the other one goes on");
    sleep(MINUTE * 56).await;
    let asked = stage.bmcs.begun.lock().unwrap()["https://node-1.bmc"] - before;
    assert!((5..=8).contains(&asked), "{asked} times in an hour");
    // It is never believed for longer than it is fresh, whatever it said.
    stage.bmcs.watts.lock().unwrap().insert("https://node-2.bmc".into(), -3.0);
    sleep(MINUTE * 5).await;
    assert_eq!(stage.metered(), [], "less than nothing is no figure");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_falls_asleep_is_read_soon() {
    let stage = Stage::new().await;
    let _waker = stage.waker("cp-1");
    let phase = |phase| {
        let phases = BTreeMap::from([("node-2".to_owned(), phase)]);
        stage.scene.send_replace(Scene { phases, ..Scene::default() });
    };
    phase(PowerPhase::Awake);
    let count = || stage.bmcs.read.lock().unwrap().iter().filter(|(_, at)| at == "https://node-2.bmc").count();
    let before = {
        sleep(MINUTE).await;
        let before = count();
        while count() == before {
            sleep(Duration::from_secs(1)).await;
        }
        count()
    };
    phase(PowerPhase::Suspended);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(count(), before + 1, "not a minute later");
}
