//! Why a VM, node or policy is where and how it is, what was considered, and what would change it: a pure function of
//! what was observed and decided, told as text or JSON.
//!
//! Loads are not in the API. Where the caller has none ([`Seen::knows_load`]), everything that does not depend on them
//! is told live, and for the rest what the operator itself said ([`Past`]).

pub(crate) mod change;
mod node;
mod past;
mod policy;
mod vm;

pub use past::{OperatorSays, Past};

use miyako_core::model::{NodeName, Policies, PolicyName, Snapshot, Timestamp, VmKey};
use miyako_core::plan::Report;
use serde::Serialize;
use std::fmt;

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A VirtualMachineInstance.
    Vm(VmKey),
    /// A node.
    Node(NodeName),
    /// A ConsolidationPolicy.
    Policy(PolicyName),
    /// Everything.
    Cluster,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vm(key) => write!(f, "vm {key}"),
            Self::Node(name) => write!(f, "node {name}"),
            Self::Policy(name) => write!(f, "policy {name}"),
            Self::Cluster => f.write_str("the cluster"),
        }
    }
}

impl Subject {
    /// All that a name can mean here: a node, a policy, or VMs of that name in whatever namespace.
    #[must_use]
    pub fn named(name: &str, seen: &Seen<'_>) -> Vec<Self> {
        if let Some((namespace, name)) = name.split_once('/') {
            let key = VmKey::new(namespace, name);
            return seen.snapshot.vms.contains_key(&key).then_some(Self::Vm(key)).into_iter().collect();
        }
        let node = Some(NodeName::new(name)).filter(|node| seen.snapshot.nodes.contains_key(node)).map(Self::Node);
        let policy = Some(PolicyName::new(name)).filter(|policy| seen.policies.policies.contains_key(policy));
        let vms = seen.snapshot.vms.keys().filter(|key| key.name.as_str() == name).cloned().map(Self::Vm);
        node.into_iter().chain(policy.map(Self::Policy)).chain(vms).collect()
    }
}

/// What was observed and decided at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The cluster.
    pub snapshot: &'a Snapshot,
    /// What people declared.
    pub policies: &'a Policies,
    /// What was decided about it.
    pub report: &'a Report,
    /// When.
    pub now: Timestamp,
}

impl Seen<'_> {
    /// Loads are known: the decision is the operator's own.
    #[must_use]
    pub fn knows_load(&self) -> bool {
        !self.snapshot.load.nodes.is_empty() || !self.snapshot.load.vms.is_empty()
    }
}

/// An explanation.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What it is about.
    pub title: String,
    /// The verdict's reason as a name, for programs.
    pub reason: Option<String>,
    /// What becomes of it, and why.
    pub says: String,
    /// What would change that.
    pub would_change: Option<String>,
    /// Names and values.
    pub facts: Vec<(&'static str, String)>,
    /// What was considered, what happened before, and so on.
    pub lists: Vec<List>,
}

/// A list in an explanation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct List {
    /// What is listed.
    pub title: &'static str,
    /// Sentences.
    pub items: Vec<String>,
}

impl Explanation {
    fn fact(&mut self, name: &'static str, value: impl Into<String>) {
        self.facts.push((name, value.into()));
    }

    /// Adds a list unless it is empty.
    fn list(&mut self, title: &'static str, items: Vec<String>) {
        if !items.is_empty() {
            self.lists.push(List { title, items });
        }
    }
}

/// The width of the column of names.
const NAMES: usize = 12;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        for (name, value) in &self.facts {
            writeln!(f, "  {:NAMES$} {value}", format!("{name}:"))?;
        }
        if !self.says.is_empty() {
            writeln!(f, "\n{}", self.says)?;
        }
        if let Some(change) = &self.would_change {
            writeln!(f, "What would change it: {change}")?;
        }
        for list in &self.lists {
            writeln!(f, "\n{}:", list.title)?;
            for item in &list.items {
                writeln!(f, "  - {item}")?;
            }
        }
        Ok(())
    }
}

/// Explains something; none if it is not there.
#[must_use]
pub fn explain(subject: &Subject, seen: &Seen<'_>, past: &Past) -> Option<Explanation> {
    match subject {
        Subject::Vm(key) => vm::explain(key, seen, past),
        Subject::Node(name) => node::explain(name, seen, past),
        Subject::Policy(name) => policy::explain(name, seen, past),
        Subject::Cluster => Some(policy::overview(seen)),
    }
}
