//! Which nodes' machines would be replaced while they sleep: MachineHealthChecks joined with Machines.

use super::super::convert::machine::{Machine, MachineCheck};
use super::super::seen::{Kind, ObjectKey};
use miyako_core::model::{Name, NodeName};
use std::collections::BTreeMap;

/// Checks and machines of every API that serves them. Two versions of one API tell of the same objects, each for itself.
#[derive(Debug, Default)]
pub(super) struct MachineChecks {
    checks: BTreeMap<(Kind, ObjectKey), MachineCheck>,
    machines: BTreeMap<(Kind, ObjectKey), Machine>,
    dirty: bool,
}

/// The kind of the machines that checks of a kind select.
fn machines_of(check: Kind) -> Kind {
    match check {
        Kind::OpenShiftMachineHealthCheck => Kind::OpenShiftMachine,
        Kind::OldClusterApiMachineHealthCheck => Kind::OldClusterApiMachine,
        _ => Kind::ClusterApiMachine,
    }
}

impl MachineChecks {
    pub(super) fn put_check(&mut self, kind: Kind, key: &ObjectKey, check: Option<MachineCheck>) {
        let key = (kind, key.clone());
        let before = match check {
            Some(check) if self.checks.get(&key) == Some(&check) => return,
            Some(check) => self.checks.insert(key, check),
            None if !self.checks.contains_key(&key) => return,
            None => self.checks.remove(&key),
        };
        drop(before);
        self.dirty = true;
    }

    pub(super) fn put_machine(&mut self, kind: Kind, key: &ObjectKey, machine: Option<Machine>) {
        let key = (kind, key.clone());
        let before = match machine {
            Some(machine) if self.machines.get(&key) == Some(&machine) => return,
            Some(machine) => self.machines.insert(key, machine),
            None if !self.machines.contains_key(&key) => return,
            None => self.machines.remove(&key),
        };
        drop(before);
        self.dirty = true;
    }

    pub(super) fn remove(&mut self, kind: Kind, key: &ObjectKey) {
        self.put_check(kind, key, None);
        self.put_machine(kind, key, None);
    }

    /// The objects of a kind that matter.
    pub(super) fn known(&self, kind: Kind) -> Vec<ObjectKey> {
        let all = self.checks.keys().chain(self.machines.keys());
        all.filter(|(of, _)| *of == kind).map(|(_, key)| key.clone()).collect()
    }

    /// Joins them anew if anything changed.
    pub(super) fn refresh(&mut self, found: &mut BTreeMap<NodeName, Name>) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        found.clear();
        for ((kind, key), check) in &self.checks {
            let wanted = machines_of(*kind);
            for ((_, at), machine) in self.machines.iter().filter(|((of, _), _)| *of == wanted) {
                let watched = at.namespace == key.namespace
                    && machine.cluster == check.cluster
                    && check.machines.matches(&machine.labels);
                if watched {
                    found.entry(machine.node.clone()).or_insert_with(|| Name::from(key.to_string().as_str()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miyako_core::model::{Labels, Selector};

    fn key(namespace: &str, name: &str) -> ObjectKey {
        ObjectKey { namespace: Name::from(namespace), name: Name::from(name) }
    }

    #[test]
    fn a_check_is_found_for_the_nodes_of_its_own_machines_alone() {
        let mut all = MachineChecks::default();
        let check = |cluster: Option<&str>| MachineCheck {
            machines: Selector::label("role", "worker"),
            cluster: cluster.map(str::to_owned),
        };
        let machine = |node: &str, cluster: Option<&str>, role: &str| Machine {
            labels: Labels::from([("role".into(), role.into())]),
            cluster: cluster.map(str::to_owned),
            node: NodeName::new(node),
        };
        all.put_check(Kind::ClusterApiMachineHealthCheck, &key("ns", "workers"), Some(check(Some("a"))));
        all.put_machine(Kind::ClusterApiMachine, &key("ns", "m1"), Some(machine("n1", Some("a"), "worker")));
        all.put_machine(Kind::ClusterApiMachine, &key("ns", "m2"), Some(machine("n2", Some("b"), "worker")));
        all.put_machine(Kind::ClusterApiMachine, &key("ns", "m3"), Some(machine("n3", Some("a"), "infra")));
        all.put_machine(Kind::ClusterApiMachine, &key("other", "m4"), Some(machine("n4", Some("a"), "worker")));
        all.put_machine(Kind::OpenShiftMachine, &key("ns", "m5"), Some(machine("n5", None, "worker")));
        let mut found = BTreeMap::new();
        all.refresh(&mut found);
        assert_eq!(found, BTreeMap::from([(NodeName::new("n1"), Name::from("ns/workers"))]));
        all.put_check(Kind::ClusterApiMachineHealthCheck, &key("ns", "workers"), None);
        all.refresh(&mut found);
        assert_eq!(found, BTreeMap::new());
    }
}
