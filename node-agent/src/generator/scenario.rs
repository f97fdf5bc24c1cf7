//! What the generator tells: nodes, VMs, and how much they use when. JSON or YAML.

use miyako_api::wire::load::{NodeSample, Usage, VmSample};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, path::PathBuf, time::Duration};

/// What a stand's nodes and VMs use over time. Seconds count from the moment the generator took the scenario in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// The nodes to speak for.
    pub nodes: Vec<Node>,
    /// The VMs on them.
    #[serde(default)]
    pub vms: Vec<Vm>,
}

/// A node to speak for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    /// The Node's name.
    pub name: String,
    /// The token to show for it.
    pub token_file: PathBuf,
    /// CPU that it has. VMs that want more in all get their share of it.
    pub cores: f64,
    /// CPU that the system itself uses.
    #[serde(default)]
    pub system_cores: f64,
    /// Memory that the system itself uses, in bytes.
    #[serde(default)]
    pub system_memory_bytes: u64,
    /// When and how to misbehave.
    #[serde(default)]
    pub faults: Vec<FaultWindow>,
}

/// A VM on one of the nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vm {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Where it runs.
    pub node: String,
    /// Memory that it uses, in bytes.
    #[serde(default)]
    pub memory_bytes: u64,
    /// The CPU that it wants, from when on; before the first step it wants none.
    pub cpu: Vec<Step>,
}

/// From this second on, so many cores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// The second.
    #[serde(default)]
    pub at: f64,
    /// The cores.
    pub cores: f64,
}

/// A fault and when it holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")] // serde can't refuse unknown fields beside a flattened one
pub struct FaultWindow {
    /// The second from which on it holds.
    #[serde(default)]
    pub from: f64,
    /// The second up to which it holds; for ever if none is given.
    #[serde(default)]
    pub until: Option<f64>,
    /// What is wrong.
    #[serde(flatten)]
    pub fault: Fault,
}

/// A way to misbehave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Fault {
    /// Tells nothing, over a connection that stands.
    Silent,
    /// Speaks in another node's name.
    WrongNode {
        /// Whose.
        claim: String,
    },
    /// CPU figures are NaN.
    NotANumber,
    /// CPU figures are negative.
    Negative,
    /// CPU figures are a hundred thousand times too high.
    Absurd,
    /// The node's clock is off by so many seconds: positive is ahead.
    ClockOff {
        /// By how much.
        seconds: f64,
    },
    /// Samples are held back before they are sent.
    HeldBack {
        /// For so many seconds.
        seconds: f64,
    },
    /// Every sample has the same sequence number.
    SameSequence,
    /// Tells of a VM that does not exist.
    UnknownVm,
}

/// What is wrong with a scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// It is not JSON or YAML of the right form.
    #[error("the scenario is not understood: {0}")]
    Format(#[from] serde_yaml::Error),
    /// Two nodes of one name.
    #[error("nodes[{index}].name: {name:?} is there twice; name every node once")]
    NodeTwice {
        /// Where.
        index: usize,
        /// Which.
        name: String,
    },
    /// A VM on a node that the scenario does not have.
    #[error("vms[{index}].node: no node is called {node:?}; add it to `nodes`")]
    NoSuchNode {
        /// Where.
        index: usize,
        /// Which.
        node: String,
    },
    /// Steps that go back in time.
    #[error("vms[{index}].cpu: `at` must grow from step to step")]
    StepsOutOfOrder {
        /// Where.
        index: usize,
    },
}

impl Scenario {
    /// Reads a scenario from JSON or YAML.
    ///
    /// # Errors
    /// Names the field and what to write instead.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = serde_yaml::from_str(text)?;
        let mut names = BTreeSet::new();
        for (index, node) in scenario.nodes.iter().enumerate() {
            if !names.insert(node.name.as_str()) {
                return Err(ScenarioError::NodeTwice { index, name: node.name.clone() });
            }
        }
        for (index, vm) in scenario.vms.iter().enumerate() {
            if !names.contains(vm.node.as_str()) {
                return Err(ScenarioError::NoSuchNode { index, node: vm.node.clone() });
            }
            if !vm.cpu.is_sorted_by(|step, next| step.at < next.at) {
                return Err(ScenarioError::StepsOutOfOrder { index });
            }
        }
        Ok(scenario)
    }

    /// What `node` and its VMs use after `elapsed`, without any fault. Times and sequence are the caller's.
    #[must_use]
    pub fn sample(&self, node: &Node, elapsed: Duration) -> NodeSample {
        let wants: Vec<_> =
            self.vms.iter().filter(|vm| vm.node == node.name).map(|vm| (vm, vm.wants(elapsed))).collect();
        let wanted: f64 = wants.iter().map(|(_, cores)| cores).sum();
        let room = (node.cores - node.system_cores).max(0.0);
        let share = if wanted > room { room / wanted } else { 1.0 };
        let memory = wants.iter().map(|(vm, _)| vm.memory_bytes).fold(node.system_memory_bytes, u64::saturating_add);
        let usage = |cpu_cores, cpu_wait_cores, memory_bytes| {
            let (memory_bytes, cpu_wait_cores) = (Some(memory_bytes), Some(cpu_wait_cores));
            Some(Usage { cpu_cores, memory_bytes, cpu_wait_cores, ..Usage::default() })
        };
        NodeSample {
            node: node.name.clone(),
            usage: usage(node.system_cores.min(node.cores) + wanted * share, wanted * (1.0 - share), memory),
            vms: wants
                .iter()
                .map(|(vm, cores)| VmSample {
                    namespace: vm.namespace.clone(),
                    name: vm.name.clone(),
                    uid: vm.uid.clone(),
                    usage: usage(cores * share, cores * (1.0 - share), vm.memory_bytes),
                    ..VmSample::default()
                })
                .collect(),
            ..NodeSample::default()
        }
    }
}

impl Vm {
    fn wants(&self, elapsed: Duration) -> f64 {
        let now = elapsed.as_secs_f64();
        self.cpu.iter().take_while(|step| step.at <= now).last().map_or(0.0, |step| step.cores)
    }
}

impl Node {
    /// The faults that hold after `elapsed`.
    pub fn faults_at(&self, elapsed: Duration) -> impl Iterator<Item = &Fault> {
        let now = elapsed.as_secs_f64();
        let holds = move |window: &&FaultWindow| window.from <= now && window.until.is_none_or(|until| now < until);
        self.faults.iter().filter(holds).map(|window| &window.fault)
    }
}

impl Fault {
    /// Spoils a sample.
    pub fn spoil(&self, sample: &mut NodeSample) {
        match self {
            Self::WrongNode { claim } => sample.node.clone_from(claim),
            Self::NotANumber => every_cpu(sample, |_| f64::NAN),
            Self::Negative => every_cpu(sample, |cores| -1.0 - cores),
            Self::Absurd => every_cpu(sample, |cores| (1.0 + cores) * 1e5),
            Self::SameSequence => sample.sequence = 1,
            Self::UnknownVm => sample.vms.push(VmSample {
                namespace: "nowhere".to_owned(),
                name: "nothing".to_owned(),
                uid: "00000000-0000-0000-0000-000000000000".to_owned(),
                usage: Some(Usage::default()),
                ..VmSample::default()
            }),
            // These concern whether and when it is sent.
            Self::Silent | Self::ClockOff { .. } | Self::HeldBack { .. } => {}
        }
    }
}

fn every_cpu(sample: &mut NodeSample, spoil: impl Fn(f64) -> f64) {
    let usages = sample.vms.iter_mut().filter_map(|vm| vm.usage.as_mut()).chain(sample.usage.as_mut());
    for usage in usages {
        usage.cpu_cores = spoil(usage.cpu_cores);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
nodes:
- {name: a, tokenFile: /tokens/a, cores: 4, systemCores: 1, faults: [{from: 5, until: 6, fault: clockOff, seconds: -9}]}
vms:
- {namespace: default, name: web, uid: u1, node: a, memoryBytes: 100, cpu: [{cores: 1}, {at: 10, cores: 4}]}
- {namespace: default, name: db, uid: u2, node: a, cpu: [{at: 10, cores: 2}]}
";

    #[test]
    fn vms_follow_their_steps_and_share_a_full_node() {
        let scenario = Scenario::parse(TEXT).unwrap();
        let cpu = |seconds| {
            let sample = scenario.sample(&scenario.nodes[0], Duration::from_secs(seconds));
            let vms = sample.vms.iter().map(|vm| vm.usage.unwrap().cpu_cores).collect::<Vec<_>>();
            (sample.usage.unwrap().cpu_cores, vms)
        };
        assert_eq!(cpu(0), (2.0, vec![1.0, 0.0]));
        assert_eq!(cpu(10), (4.0, vec![2.0, 1.0]));
    }

    #[test]
    fn faults_hold_for_their_time() {
        let scenario = Scenario::parse(TEXT).unwrap();
        let at = |seconds| scenario.nodes[0].faults_at(Duration::from_secs(seconds)).cloned().collect::<Vec<_>>();
        assert_eq!(at(4), []);
        assert_eq!(at(5), [Fault::ClockOff { seconds: -9.0 }]);
        assert_eq!(at(6), []);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let refuse = |text: &str| Scenario::parse(text).unwrap_err().to_string();
        assert!(
            refuse("nodes: [{name: a, tokenFile: t, cores: 1}, {name: a, tokenFile: t, cores: 1}]")
                .contains("nodes[1]")
        );
        assert!(refuse("{nodes: [], vms: [{namespace: d, name: v, uid: u, node: x, cpu: []}]}").contains("\"x\""));
        assert!(refuse("nodes: [{name: a, tokenfile: t, cores: 1}]").contains("tokenFile"));
    }
}
