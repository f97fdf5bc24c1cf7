//! The real operator in a [`World`]: replicas that are started and killed, loads that are measured and fed, and a
//! watchdog, on one thread under tokio's (paused) time, from one seed.
//!
//! ```text
//!  Scenario ──▶ Simulation ──second()──▶ stand-ins move on, loads are measured and fed, operators pass, Watchdog looks
//! ```
//!
//! The same scenario and seed give the same run, write for write ([`Simulation::journal`] tells).

mod replica;
mod scenario;
mod sleepers;
mod watchdog;

pub use replica::Replica;
pub use scenario::{BEGINS, CLASS_LABEL, Scenario, SimulatedVm};
pub use watchdog::{Objects, Watchdog};

use super::apiserver::{ApiServer, LoggedRequest, RegistryError};
use super::cluster::Machines;
use super::kubevirt::create::CreateError;
use super::neighbours::{Acts, Scene};
use super::workload::{Feeder, Measured, Meter, Workload};
use super::world::{World, WorldSettings};
use crate::clock::{Clock, SimClock};
use kube::api::{Api, Patch, PatchParams};
use miyako_api::NodePower;
use miyako_core::model::{Timestamp, VmKey};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The user that people's own objects come from.
pub const USER: &str = "alice";

/// A runtime whose time passes only when everybody waits: as fast as it goes, and the same each time.
///
/// # Errors
/// When the machine gives none.
pub fn paused_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()
}

/// Why a simulation could not begin.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// A definition is not to be had.
    #[error("a CustomResourceDefinition of ours is not understood")]
    Definition(#[from] RegistryError),
    /// An object of the scenario was refused.
    #[error("the API server refused an object of the scenario: {0}")]
    Refused(String),
    /// A request failed.
    #[error("a request failed while the world was built")]
    Request(#[from] kube::Error),
    /// KubeVirt or a VM could not be made.
    #[error("KubeVirt or a VM could not be made")]
    Create(#[from] CreateError),
}

/// A running simulation.
pub struct Simulation {
    /// The world, for faults and for looks at the truth.
    pub world: World,
    workload: Workload,
    clock: SimClock,
    scenario: Scenario,
    replicas: BTreeMap<String, Replica>,
    truth: Feeder,
    watchdog: Watchdog,
    /// The machines beneath the nodes, if the scenario has any.
    pub machines: Option<Machines>,
    /// Programs of others that act on its nodes.
    pub neighbours: Vec<Box<dyn Acts>>,
    /// What these did, in their order.
    deeds: Vec<String>,
}

impl Simulation {
    /// Builds the scenario's cluster. No operator runs yet.
    ///
    /// # Errors
    /// When the scenario names something impossible.
    pub async fn begin(scenario: Scenario) -> Result<Self, SimulationError> {
        let world = World::start(WorldSettings {
            seed: scenario.seed,
            journal: scenario.journal,
            migrations: scenario.hands.clone(),
            configuration: scenario.migrations.clone(),
            ..WorldSettings::default()
        })
        .await?;
        let clock = world.clock;
        for crd in miyako_api::crds() {
            world.server.add_crd(&serde_json::to_value(crd).unwrap_or_default())?;
        }
        for node in &scenario.nodes {
            world.add_node(node).await?;
        }
        let mut workload = Workload { seed: scenario.seed, patterns: BTreeMap::new(), noise: scenario.noise };
        for vm in &scenario.vms {
            world.add_vm(&vm.spec, &vm.node).await?;
            workload.patterns.insert(VmKey::new(&vm.spec.namespace, &vm.spec.name), vm.pattern.clone());
        }
        for object in &scenario.objects {
            create(&world.server, object.clone())?;
            if let (Some(status), "NodePower") = (object.get("status"), object["kind"].as_str().unwrap_or_default()) {
                let api: Api<NodePower> = Api::all(world.server.client(USER));
                let patch = Patch::Merge(json!({ "status": status }));
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                api.patch_status(name, &PatchParams::default(), &patch).await?;
            }
        }
        let meter = Meter { workload: workload.clone(), system: scenario.system };
        let truth = Feeder::new(world.server.client("watchdog"), meter);
        let watchdog = Watchdog::of(&scenario);
        let machines = scenario.machines.map(|fate| Machines::new(&world.server, fate));
        Ok(Self {
            world,
            workload,
            clock,
            scenario,
            replicas: BTreeMap::new(),
            truth,
            watchdog,
            machines,
            neighbours: Vec::new(),
            deeds: Vec::new(),
        })
    }

    /// The time in the world.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Starts an operator of this name, or its successor after a crash.
    ///
    /// # Errors
    /// When its metrics clash: a mistake of ours.
    pub fn start_operator(&mut self, name: &str) -> Result<(), prometheus::Error> {
        let meter = Meter { workload: self.workload.clone(), system: self.scenario.system };
        let feeder = Feeder::new(self.world.server.client("agents"), meter);
        let client = self.world.server.client(name);
        let replica = Replica::start(name, client, feeder, Arc::new(self.clock), self.scenario.seed)?;
        self.replicas.insert(name.to_owned(), replica);
        Ok(())
    }

    /// Kills an operator: nothing it asked for is answered any more, and its lease is not given back.
    pub fn kill_operator(&mut self, name: &str) {
        self.world.server.crash(name);
        self.replicas.remove(name);
    }

    /// A running operator.
    #[must_use]
    pub fn operator(&self, name: &str) -> Option<&Replica> {
        self.replicas.get(name)
    }

    /// Changes what VMs ask for from now on.
    pub fn set_workload(&mut self, workload: Workload) {
        self.workload = workload;
        for feeder in self.replicas.values_mut().map(Replica::feeder).chain([&mut self.truth]) {
            feeder.meter().workload = self.workload.clone();
        }
    }

    /// Lets one second pass: what was measured in it comes back.
    ///
    /// # Errors
    /// When a stand-in can't see the cluster.
    pub async fn second(&mut self) -> Result<Measured, kube::Error> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = self.clock.now();
        if let Some(machines) = &mut self.machines {
            machines.step((self.world.now)()).await?;
            for neighbour in &mut self.neighbours {
                let (server, deeds, now) = (&self.world.server, &mut self.deeds, (self.world.now)());
                neighbour.act(Scene { server, machines, deeds, now }).await?;
            }
        }
        for replica in self.replicas.values_mut() {
            replica.feed(now).await?;
        }
        let placement = self.truth.placement().await?;
        let measured = self.truth.meter().measure(&placement, now);
        self.world.server.view(|view| self.watchdog.look(&view, now));
        if let Some(machines) = &self.machines {
            self.watchdog.look_at_machines(machines, now);
        }
        Ok(measured)
    }

    /// Adds a program of somebody else's, with its definitions.
    ///
    /// # Errors
    /// When its definitions are not understood.
    pub fn add_neighbour(&mut self, neighbour: impl Acts + 'static) -> Result<(), SimulationError> {
        for crd in neighbour.definitions() {
            self.world.server.add_crd(&crd)?;
        }
        self.neighbours.push(Box::new(neighbour));
        Ok(())
    }

    /// What programs of others did to nodes so far.
    #[must_use]
    pub fn deeds(&self) -> &[String] {
        &self.deeds
    }

    /// What the watchdog found: rules that were broken, each once.
    #[must_use]
    pub fn broken_rules(&self) -> &[String] {
        self.watchdog.broken()
    }

    /// Migrations that operators asked for so far, as `namespace/vm` → how often.
    #[must_use]
    pub fn migrations_asked_for(&self) -> &BTreeMap<VmKey, u32> {
        self.watchdog.moves()
    }

    /// All requests so far, if the scenario keeps a journal.
    #[must_use]
    pub fn journal(&self) -> Vec<LoggedRequest> {
        self.world.server.journal()
    }

    /// Where each VM runs.
    #[must_use]
    pub fn placement(&self) -> BTreeMap<VmKey, String> {
        self.world.server.view(|view| {
            let vmis = view.list("kubevirt.io", "virtualmachineinstances", "");
            vmis.map(|vmi| {
                let text = |pointer: &str| vmi.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
                let key = VmKey::new(text("/metadata/namespace"), text("/metadata/name"));
                (key, text("/status/nodeName").to_owned())
            })
            .collect()
        })
    }
}

fn create(server: &ApiServer, object: Value) -> Result<(), SimulationError> {
    server.create(USER, object).map(drop).map_err(|error| SimulationError::Refused(format!("{error:?}")))
}
