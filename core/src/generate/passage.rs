//! What becomes of a cluster when a plan is carried out and time passes.

use super::{Cluster, cluster::steady};
use crate::model::{
    AppliedPolicy, Cores, LastMigration, MigrateStep, Migration, NodeName, Plan, PowerState, Role, Span, Step, Uid,
    VmKey,
};
use std::collections::BTreeMap;

impl Cluster {
    /// Carries a plan out at once: moved VMs take their load along, woken nodes are ready. Migrations that were under
    /// way stay so.
    pub fn carry_out(&mut self, plan: &Plan) {
        for step in &plan.steps {
            match step {
                Step::Migrate(step) => self.move_vm(step),
                Step::Wake(step) => self.set_power(&step.node, PowerState::Awake),
                Step::Suspend(step) => self.set_power(&step.node, PowerState::Suspended),
                Step::Abort { migration, .. } => {
                    let vm = self.snapshot.migrations.remove(migration).map(|Migration { vm, .. }| vm);
                    if let Some(vm) = vm.and_then(|key| self.snapshot.vms.get_mut(&key)) {
                        vm.activity = None;
                    }
                }
            }
        }
    }

    fn set_power(&mut self, node: &NodeName, power: PowerState) {
        if let Some(node) = self.snapshot.nodes.get_mut(node) {
            node.power = power;
            node.ready = power == PowerState::Awake;
            if node.ready {
                node.taints.retain(|taint| !taint.key.starts_with("miyako.dev/"));
            }
        }
    }

    fn move_vm(&mut self, step: &MigrateStep) {
        let now = self.now;
        let Some(vm) = self.snapshot.vms.get_mut(&step.vm) else { return };
        vm.node = Some(step.target.clone());
        vm.last_migration = Some(LastMigration {
            uid: Uid::new(format!("{}-{now:?}", vm.uid)),
            source: Some(step.source.clone()),
            target: Some(step.target.clone()),
            started: Some(now),
            ended: Some(now),
            completed: true,
            failed: false,
            failure: None,
            mode: Some(step.mode),
            policy: AppliedPolicy::Ours(step.mode),
        });
        self.snapshot.history.vms.entry(vm.uid.clone()).or_default().moves.push(now);
        for pod in self.snapshot.pods.values_mut().filter(|pod| pod.vm() == Some(&step.vm)) {
            pod.node = Some(step.target.clone());
        }
    }

    /// Lets time pass under constant load: every VM uses what it used, every node what its VMs use.
    pub fn pass(&mut self, time: Span) {
        self.now = self.now + time;
        let mut on_nodes: BTreeMap<NodeName, Cores> = BTreeMap::new();
        let loads: BTreeMap<VmKey, Cores> =
            self.snapshot.load.vms.iter().filter_map(|(key, known)| Some((key.clone(), known.latest()?))).collect();
        for vm in self.snapshot.vms.values() {
            if let (Some(node), Some(load)) = (&vm.node, loads.get(&vm.key)) {
                *on_nodes.entry(node.clone()).or_default() += *load;
            }
        }
        for (key, load) in loads {
            self.snapshot.load.vms.insert(key, steady(self.now, load.value()));
        }
        self.snapshot.load.nodes.clear();
        for node in self.snapshot.nodes.values().filter(|node| node.is_usable()) {
            let dedicated =
                self.policies.class_of(node).ok().flatten().is_some_and(|class| class.role == Role::Dedicated);
            let own = if dedicated { 0.0 } else { 0.1 };
            let load = on_nodes.get(&node.name).map_or(0.0, |load| load.value()) + own;
            let load = load.min(node.allocatable.cpu.cores().value());
            self.snapshot.load.nodes.insert(node.name.clone(), steady(self.now, load));
        }
    }
}
