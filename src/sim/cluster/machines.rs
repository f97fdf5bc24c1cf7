//! The machines beneath simulated nodes: what a node's agent does with an order to suspend, what a waker does with one
//! to wake, and how a sleeping node looks to everybody else. It stands in for `miyako-agent`, with its contract
//! (`NodePower.status.agent`): an order is acknowledged before `mem` is written, and obeyed at most once.
//!
//! Each node has its [`Fate`]: agents that are silent, refuse or lie, wakes that fail or take long, a clock that wakes
//! it, a boot instead of a resume.

use super::fate::{AgentFate, BmcTalk, Fate, WakeFate};
use super::power::{fall_asleep, wake_up};
use crate::sim::apiserver::{ApiServer, ClusterView};
use crate::sim::at::{at, text};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use miyako_api::names::manager;
use miyako_api::node_power::NodePower;
use miyako_api::node_power_class::NodePowerClass;
use miyako_api::wake::ways;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A node's lease lapses this long after its last sign (50 s of grace).
const LEASE_SECONDS: i64 = 50;
/// From the beginning of a shutdown to a machine that is off.
const SHUTDOWN_SECONDS: i64 = 5;
/// From power to a kubelet that is ready.
const KUBELET_SECONDS: i64 = 2;
/// An agent ignores an order that is older.
const OLDEST_ORDER_SECONDS: i64 = 10;

/// One machine.
#[derive(Debug, Clone)]
struct Machine {
    fate: Fate,
    /// None while it runs.
    asleep_since: Option<Timestamp>,
    /// The lease of a sleeper has lapsed.
    lapsed: bool,
    /// When a wake comes true, and how.
    comes: Option<(Timestamp, WakeFate)>,
    /// When the kubelet of a machine that is back is ready.
    ready: Option<Timestamp>,
    /// It acknowledged this order and writes `mem` next.
    about_to: Option<i64>,
    /// The newest order to wake that a waker carried out.
    asked: Option<i64>,
    /// It runs, and nothing on it answers.
    hangs: bool,
    /// A wake of this sleep was asked for in vain.
    in_vain: bool,
    bmc: BmcTalk,
    /// It was shut down, and does not sleep in S3.
    off: bool,
    /// The newest order whose shutdown a waker has seen the end of.
    seen_off: Option<i64>,
    boots: u32,
    /// What its agent has not told yet: when it resumed, and how long it slept by which order.
    resumed: Option<(Timestamp, i64)>,
    /// The order that it sleeps by.
    by_order: Option<i64>,
}

impl Machine {
    fn new(fate: Fate) -> Self {
        Self {
            fate,
            asleep_since: None,
            lapsed: false,
            comes: None,
            ready: None,
            about_to: None,
            asked: None,
            hangs: false,
            in_vain: false,
            bmc: BmcTalk::Honest,
            off: false,
            seen_off: None,
            boots: 1,
            resumed: None,
            by_order: None,
        }
    }
}

/// All machines.
pub struct Machines {
    server: ApiServer,
    agents: Client,
    kubelet: Client,
    machines: BTreeMap<String, Machine>,
    fate: Fate,
    /// Times that a machine fell asleep with work on it: what no order may ever lead to.
    slept_with_work: Vec<String>,
    sleeps: u32,
    in_vain: u32,
}

fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.as_second() - from.as_second()
}

fn moment(object: &Value, pointer: &str) -> Option<Timestamp> {
    text(object, pointer).parse().ok()
}

/// What is on a node that no sleep may take along: launchers, and pods that no DaemonSet owns and no file of the node's.
fn work_on(view: &ClusterView<'_>, node: &str) -> Vec<String> {
    let owned = |pod: &Value| {
        let owners = at(pod, "/metadata/ownerReferences").and_then(Value::as_array);
        owners.is_some_and(|owners| owners.iter().any(|owner| owner["kind"] == "DaemonSet"))
    };
    let unfinished = |pod: &&Value| !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    let pods = view.list("", "pods", "").filter(|pod| text(pod, "/spec/nodeName") == node);
    let is_static = |pod: &&Value| at(pod, "/metadata/annotations/kubernetes.io~1config.mirror").is_some();
    let names = pods
        .filter(unfinished)
        .filter(|pod| !owned(pod) && !is_static(pod))
        .map(|pod| text(pod, "/metadata/name").to_owned());
    names.collect()
}

/// VMs that the API server believes to be on a node.
fn vms_on(view: &ClusterView<'_>, node: &str) -> Vec<String> {
    let vms = view.list("kubevirt.io", "virtualmachineinstances", "");
    vms.filter(|vm| text(vm, "/status/nodeName") == node).map(|vm| text(vm, "/metadata/name").to_owned()).collect()
}

/// A waker would take this order up.
fn ordered_awake(power: &Value) -> bool {
    text(power, "/spec/desired") == "Awake" && matches!(text(power, "/status/phase"), "Waking" | "Quarantined")
}

/// Whether a waker finds any way to the machine: by the classes as they are now, or as the NodePower recorded it.
fn is_reachable(view: &ClusterView<'_>, node: &str, power: &Value) -> bool {
    let read = |value: &Value| serde_json::from_value::<NodePowerClass>(value.clone()).ok();
    let classes: Vec<_> = view.list("miyako.dev", "nodepowerclasses", "").filter_map(read).collect();
    let node = view.get("", "nodes", "", node).and_then(|node| serde_json::from_value(node.clone()).ok());
    let power: Option<NodePower> = serde_json::from_value(power.clone()).ok();
    node.is_some_and(|node: Node| !ways(&node, &classes, power.as_ref()).ways.is_empty())
}

impl Machines {
    /// Machines of the nodes that have a NodePower, all of this fate until another is [set](Self::set_fate).
    #[must_use]
    pub fn new(server: &ApiServer, fate: Fate) -> Self {
        Self {
            server: server.clone(),
            agents: server.client("agents"),
            kubelet: server.client("system:nodes"),
            machines: BTreeMap::new(),
            fate,
            slept_with_work: Vec::new(),
            sleeps: 0,
            in_vain: 0,
        }
    }

    /// Decides how a machine behaves from now on.
    pub fn set_fate(&mut self, node: &str, fate: Fate) {
        self.machine(node).fate = fate;
    }

    /// Decides what a machine's BMC says from now on.
    pub fn set_bmc(&mut self, node: &str, bmc: BmcTalk) {
        self.machine(node).bmc = bmc;
    }

    /// The machines that sleep.
    #[must_use]
    pub fn asleep(&self) -> Vec<&str> {
        let sleepers = self.machines.iter().filter(|(_, machine)| machine.asleep_since.is_some());
        sleepers.map(|(node, _)| node.as_str()).collect()
    }

    /// How often any machine fell asleep.
    #[must_use]
    pub fn sleeps(&self) -> u32 {
        self.sleeps
    }

    /// Sleeps that somebody asked to end, in vain.
    #[must_use]
    pub fn asked_in_vain(&self) -> u32 {
        self.in_vain
    }

    /// Machines that fell asleep with work on them.
    #[must_use]
    pub fn slept_with_work(&self) -> &[String] {
        &self.slept_with_work
    }

    /// A person presses the button, or the machine wakes by itself. One that hangs boots.
    pub fn press_button(&mut self, node: &str, now: Timestamp) {
        let machine = self.machine(node);
        if machine.hangs {
            machine.hangs = false;
            machine.boots += 1;
            machine.ready = Some(now);
        } else if machine.asleep_since.is_some() {
            machine.comes = Some((now, WakeFate::After(0)));
        }
    }

    /// A machine that runs boots anew: nothing on it answers for so many seconds.
    ///
    /// # Errors
    /// When the API server refuses what becomes of the Node.
    pub async fn reboot(&mut self, node: &str, seconds: i64, now: Timestamp) -> kube::Result<()> {
        let machine = self.machine(node);
        if machine.asleep_since.is_some() {
            return Ok(());
        }
        machine.boots += 1;
        (machine.hangs, machine.lapsed, machine.about_to) = (false, true, None);
        machine.ready = now.checked_add(jiff::SignedDuration::from_secs(seconds)).ok();
        fall_asleep(&self.kubelet, node, now).await
    }

    /// A machine that runs hangs until somebody presses its button.
    ///
    /// # Errors
    /// When the API server refuses what becomes of the Node.
    pub async fn hang(&mut self, node: &str, now: Timestamp) -> kube::Result<()> {
        let machine = self.machine(node);
        (machine.hangs, machine.lapsed, machine.about_to) = (true, true, None);
        fall_asleep(&self.kubelet, node, now).await
    }

    /// Whether a machine sleeps: its BMC would call it off.
    #[must_use]
    pub fn is_asleep(&self, node: &str) -> bool {
        self.machines.get(node).is_some_and(|machine| machine.asleep_since.is_some())
    }

    /// Whether a machine runs and nothing on it answers.
    #[must_use]
    pub fn hangs(&self, node: &str) -> bool {
        self.machines.get(node).is_some_and(|machine| machine.hangs)
    }

    fn machine(&mut self, node: &str) -> &mut Machine {
        let fate = self.fate;
        self.machines.entry(node.to_owned()).or_insert_with(|| Machine::new(fate))
    }

    /// One second of every machine.
    ///
    /// # Errors
    /// When the API server refuses what agents and kubelets write.
    pub async fn step(&mut self, now: Timestamp) -> kube::Result<()> {
        let powers: Vec<Value> = self.server.view(|view| view.list("miyako.dev", "nodepowers", "").cloned().collect());
        for power in powers {
            let node = text(&power, "/metadata/name").to_owned();
            let exists = self.server.view(|view| view.get("", "nodes", "", &node).is_some());
            if !exists {
                continue;
            }
            self.watch_shutdown(&node, &power, now).await?;
            if self.machine(&node).asleep_since.is_some() {
                self.sleep_on(&node, &power, now).await?;
            } else {
                self.run_on(&node, &power, now).await?;
            }
        }
        Ok(())
    }

    /// A second of a machine that sleeps.
    async fn sleep_on(&mut self, node: &str, power: &Value, now: Timestamp) -> kube::Result<()> {
        let generation = at(power, "/spec/generation").and_then(Value::as_i64).unwrap_or_default();
        let machine = self.machine(node);
        let Some(since) = machine.asleep_since else { return Ok(()) };
        if ordered_awake(power) && machine.asked != Some(generation) {
            let reachable = self.server.view(|view| is_reachable(&view, node, power));
            let machine = self.machine(node);
            let wake = if reachable { machine.fate.wake } else { WakeFate::Refused };
            // An order that nobody takes up stands until a waker is there.
            machine.asked = wake.outcome().map(|_| generation);
            machine.comes = machine.comes.or_else(|| wake.comes(now));
            let in_vain = wake.is_vain() && !machine.in_vain;
            machine.in_vain |= wake.is_vain();
            self.in_vain += u32::from(in_vain);
            self.tell_of_wake(node, generation, wake, now).await?;
        }
        let machine = self.machine(node);
        let alarm = machine.fate.alarm.filter(|alarm| seconds(since, now) >= *alarm).map(|_| machine.fate.wake);
        let comes = machine.comes.filter(|(comes, _)| *comes <= now).map(|(_, wake)| wake);
        if let Some(wake) = alarm.or(comes) {
            let off = std::mem::take(&mut machine.off);
            let boots = off || matches!(wake, WakeFate::Boots(_));
            machine.boots += u32::from(boots);
            machine.hangs = matches!(wake, WakeFate::Hangs(_));
            (machine.asleep_since, machine.comes) = (None, None);
            if !machine.hangs {
                machine.ready = now.checked_add(jiff::SignedDuration::from_secs(KUBELET_SECONDS)).ok();
                machine.resumed = (off || !boots).then_some((now, seconds(since, now)));
                return Ok(());
            }
        }
        if !machine.lapsed && (machine.hangs || seconds(since, now) >= LEASE_SECONDS) {
            machine.lapsed = true;
            fall_asleep(&self.kubelet, node, now).await?;
        }
        Ok(())
    }

    /// A second of a machine that runs.
    async fn run_on(&mut self, node: &str, power: &Value, now: Timestamp) -> kube::Result<()> {
        let (boots, lapsed) = (self.machine(node).boots, self.machine(node).lapsed);
        if self.machine(node).ready.is_some_and(|ready| ready <= now) {
            if lapsed {
                wake_up(&self.kubelet, node, now).await?;
            }
            let status = json!({"status": {"nodeInfo": {"bootID": format!("boot-{boots}-of-{node}")}}});
            let nodes: Api<Node> = Api::all(self.kubelet.clone());
            nodes.patch_status(node, &PatchParams::default(), &Patch::Merge(status)).await?;
            let machine = self.machine(node);
            (machine.ready, machine.lapsed) = (None, false);
        }
        let machine = self.machine(node);
        if machine.fate.agent == AgentFate::Silent || machine.ready.is_some() || machine.hangs {
            return Ok(());
        }
        if let Some(generation) = machine.about_to.take() {
            if machine.fate.agent == AgentFate::StaysAwake {
                return self
                    .say(node, json!({"attempt": null, "refusal": "slept for 0 s: a wake-up event was pending"}))
                    .await;
            }
            // The last look before `mem`: a pod may have come since the acknowledgement.
            let work = self.server.view(|view| work_on(&view, node));
            if let Some(pod) = work.first() {
                return self.say(node, json!({"attempt": null, "refusal": format!("pod {pod} came")})).await;
            }
            let machine = self.machine(node);
            let off = text(power, "/spec/method") == "PowerOff";
            if off && machine.fate.agent == AgentFate::HangsShuttingDown {
                (machine.hangs, machine.lapsed) = (true, true);
                return fall_asleep(&self.kubelet, node, now).await;
            }
            (machine.asleep_since, machine.lapsed, machine.in_vain) = (Some(now), false, false);
            (machine.off, machine.by_order) = (off, Some(generation));
            self.sleeps += 1;
            let work = self.server.view(|view| vms_on(&view, node));
            if !work.is_empty() {
                self.slept_with_work.push(format!("{node} by order {generation} with {}", work.join(", ")));
            }
            return Ok(());
        }
        if let Some((resumed, slept)) = machine.resumed.take() {
            // The proof is of S3: of a machine that was off nobody knows how long.
            let off = text(power, "/spec/method") == "PowerOff";
            let sleep = json!({
                "generation": machine.by_order, "method": text(power, "/spec/method"), "wokenBy": "Unknown",
                "seconds": (!off).then_some(slept),
            });
            let resumed = resumed.to_string();
            let told = json!({"attempt": null, "resumedAt": resumed, "refusal": null, "lastSleep": sleep});
            return self.say(node, told).await;
        }
        let generation = at(power, "/spec/generation").and_then(Value::as_i64).unwrap_or_default();
        let acknowledged = at(power, "/status/agent/acknowledgedGeneration").and_then(Value::as_i64);
        if acknowledged.is_some_and(|acknowledged| acknowledged >= generation) {
            return Ok(());
        }
        if text(power, "/spec/desired") == "Awake" {
            return self.say(node, json!({"acknowledgedGeneration": generation})).await;
        }
        let old = moment(power, "/spec/issuedAt").is_none_or(|at| seconds(at, now) > OLDEST_ORDER_SECONDS);
        let refuses = self.machine(node).fate.agent == AgentFate::Refuses;
        let work = self.server.view(|view| work_on(&view, node));
        let refusal = match (refuses, work.first()) {
            _ if old => Some("the order is too old".to_owned()),
            (true, _) => Some("no wake source is armed".to_owned()),
            (_, Some(pod)) => Some(format!("pod {pod} is here")),
            _ => None,
        };
        if refusal.is_none() {
            self.machine(node).about_to = Some(generation);
        }
        let attempt = refusal.is_none().then_some(generation);
        self.say(node, json!({"acknowledgedGeneration": generation, "attempt": attempt, "refusal": refusal})).await
    }

    /// A waker asks the BMC of a machine that shuts down whether it is off.
    async fn watch_shutdown(&mut self, node: &str, power: &Value, now: Timestamp) -> kube::Result<()> {
        let generation = at(power, "/spec/generation").and_then(Value::as_i64).unwrap_or_default();
        let ordered = text(power, "/spec/desired") == "Suspended"
            && text(power, "/spec/method") == "PowerOff"
            && text(power, "/status/phase") == "Suspending"
            && at(power, "/status/agent/attempt").and_then(Value::as_i64) == Some(generation);
        let machine = self.machine(node);
        let gone = machine.asleep_since.is_some_and(|since| seconds(since, now) >= SHUTDOWN_SECONDS);
        let says_off = match machine.bmc {
            BmcTalk::Honest => machine.off && gone,
            BmcTalk::AlwaysOn => false,
            BmcTalk::AlwaysOff => true,
        };
        if !ordered || !says_off || machine.seen_off == Some(generation) {
            return Ok(());
        }
        machine.seen_off = Some(generation);
        let told = json!({
            "generation": generation, "by": "waker-0", "at": now.to_string(), "attempts": 1, "outcome": "Off",
            "message": "redfish: off (PowerState Off)",
        });
        self.write_status(node, "miyako-waker", json!({ "waker": told })).await
    }

    /// The waker's word about an order that it carried out.
    async fn tell_of_wake(&self, node: &str, generation: i64, wake: WakeFate, now: Timestamp) -> kube::Result<()> {
        let Some((outcome, message)) = wake.outcome() else { return Ok(()) };
        let told = json!({
            "generation": generation, "by": "waker-0", "at": now.to_string(), "attempts": 1, "outcome": outcome,
            "message": message,
        });
        self.write_status(node, "miyako-waker", json!({"waker": told})).await
    }

    async fn say(&self, node: &str, mut agent: Value) -> kube::Result<()> {
        let boots = self.machines.get(node).map_or(1, |machine| machine.boots);
        agent["bootId"] = json!(format!("boot-{boots}-of-{node}"));
        self.write_status(node, manager::AGENT, json!({"agent": agent})).await
    }

    async fn write_status(&self, node: &str, manager: &str, status: Value) -> kube::Result<()> {
        let api: Api<NodePower> = Api::all(self.agents.clone());
        let params = PatchParams { field_manager: Some(manager.into()), ..PatchParams::default() };
        match api.patch_status(node, &params, &Patch::Merge(json!({ "status": status }))).await {
            Err(error) if miyako_api::answer::is_absent(&error) => Ok(()),
            said => said.map(drop),
        }
    }
}
