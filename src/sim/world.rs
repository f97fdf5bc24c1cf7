//! The simulated cluster put together: API server, KubeVirt, scheduler and kubelets, on one clock and one seed.
//!
//! It runs on the current tokio runtime. Under paused time (`current_thread`) the same seed and the same requests give
//! the same run, byte for byte.

use super::{
    apiserver::{self, ApiServer, Options},
    cluster::{self, ClusterStandIn, LimitRangeAdmission, NodeSpec, PodRefusals, QuotaAdmission},
    kubevirt::{
        self, Clock, ClockSettings, KubeVirtStandIn, Now, Outages, VIRT_CONTROLLER, VIRT_HANDLER, VirtApi,
        create::{self, CreateError, VmSpec},
    },
};
use crate::clock::{Clock as _, SimClock};
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use miyako_api::kubevirt::VirtualMachineInstance;
use miyako_core::model::Timestamp;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::task::JoinSet;

/// How a world is built.
#[derive(Debug, Clone, Default)]
pub struct WorldSettings {
    /// All chance follows from it.
    pub seed: u64,
    /// What its clock shows at the start; the same fixed moment for all unless somebody else's clock is to agree.
    pub begins: Option<Timestamp>,
    /// Whether the API server keeps a journal of every request.
    pub journal: bool,
    /// How fast migrations go.
    pub migrations: ClockSettings,
    /// KubeVirt's pace.
    pub kubevirt: kubevirt::Timing,
    /// The cluster's pace.
    pub cluster: cluster::Timing,
    /// `spec.configuration.migrations` of the KubeVirt CR.
    pub configuration: BTreeMap<String, Value>,
}

/// A simulated cluster that runs until it is dropped.
pub struct World {
    /// The API server: for more clients, faults and journals.
    pub server: ApiServer,
    /// The clock that everything is stamped by.
    pub now: Now,
    /// The same clock.
    pub clock: SimClock,
    /// What carries migrations out: to make guests busy and migrations fail.
    pub hands: Arc<Mutex<Clock>>,
    /// Which parts of KubeVirt are away.
    pub outages: Outages,
    /// Somebody's webhook that may refuse pods.
    pub pod_refusals: Arc<PodRefusals>,
    /// Clients of KubeVirt's accounts.
    pub kubevirt: kubevirt::Clients,
    /// A person who may do everything.
    pub admin: Client,
    tasks: JoinSet<()>,
}

impl World {
    /// Builds a world without nodes and starts it.
    ///
    /// # Errors
    /// When the API server refuses the KubeVirt installation.
    pub async fn start(settings: WorldSettings) -> Result<Self, CreateError> {
        let clock = settings.begins.map_or_else(apiserver::from_the_beginning, SimClock::starting_at);
        let now: Now = Arc::new(move || crate::time::to_api(clock.now()).0);
        let server = ApiServer::new(Options {
            seed: settings.seed,
            clock: Arc::new(clock),
            journal: settings.journal,
            ..Options::default()
        });
        let (outages, pod_refusals) = (Outages::default(), Arc::new(PodRefusals::default()));
        server.add_admission(Arc::new(VirtApi::new(now.clone(), outages.clone())));
        server.add_admission(Arc::new(LimitRangeAdmission));
        server.add_admission(pod_refusals.clone());
        server.add_admission(Arc::new(QuotaAdmission));
        let kubelet = server.client("system:nodes");
        let kubevirt = kubevirt::Clients {
            virt_controller: server.client(VIRT_CONTROLLER),
            virt_handler: server.client(VIRT_HANDLER),
            kubelet: kubelet.clone(),
        };
        let admin = server.client("admin");
        create::installation(&admin, settings.configuration.into_iter().collect()).await?;
        let hands = Arc::new(Mutex::new(Clock::new(settings.migrations, settings.seed)));
        let mut tasks = JoinSet::new();
        let scheduler = server.client("system:kube-scheduler");
        let daemon_sets = server.client("system:serviceaccount:kube-system:daemon-set-controller");
        let clients = cluster::Clients { scheduler, kubelet, daemon_sets };
        tasks.spawn(ClusterStandIn::new(clients, now.clone(), settings.cluster, settings.seed).run());
        let timing = kubevirt::Timing { chance: settings.seed, ..settings.kubevirt };
        let stand_in = KubeVirtStandIn::new(kubevirt.clone(), hands.clone(), now.clone(), timing);
        tasks.spawn(stand_in.with_outages(outages.clone()).run());
        Ok(Self { server, now, clock, hands, outages, pod_refusals, kubevirt, admin, tasks })
    }

    /// Adds a node with what runs on every node.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn add_node(&self, spec: &NodeSpec) -> kube::Result<Node> {
        cluster::create_node(&self.admin, spec, (self.now)()).await
    }

    /// Adds a VM that runs on a node, and its namespace if need be.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn add_vm(&self, spec: &VmSpec, node: &str) -> Result<VirtualMachineInstance, CreateError> {
        let namespaces: Api<Namespace> = Api::all(self.admin.clone());
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(spec.namespace.clone()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        // That it is there already is as good.
        let _ = namespaces.create(&PostParams::default(), &namespace).await;
        create::running_vm(&self.kubevirt, &self.admin, spec, node, (self.now)()).await
    }

    /// Stops KubeVirt and the cluster's controllers; the API server goes on.
    pub fn stop(&mut self) {
        self.tasks.abort_all();
    }
}
