//! Planners that suspend a node which they should not, one way each.

use super::{Bent, Blind, Slip, each_node, each_policy};
use miyako_core::{
    check::Rule,
    generate::Cluster,
    model::{Plan, PodOwner, PolicyName, PowerState, Step, SuspendReason, SuspendStep, WakeReason, WakeStep},
};

pub(super) const SUSPENDS: &[(&str, Rule, Slip)] = &[
    ("ignores the control plane", Rule::Suspendable, Blind(|seen| each_node(seen, |node| node.control_plane = None))),
    ("ignores gateways", Rule::Suspendable, Blind(|seen| each_node(seen, |node| node.gateway = None))),
    ("ignores people's marks", Rule::Suspendable, Blind(|seen| each_node(seen, |node| node.keep_awake = None))),
    ("trusts what was never woken", Rule::Suspendable, Blind(trust_untested)),
    ("trusts an old wake test", Rule::Suspendable, Blind(trust_old_tests)),
    ("suspends under maintenance", Rule::Suspendable, Blind(|seen| each_node(seen, |node| node.maintenance = None))),
    ("suspends what is cordoned", Rule::Suspendable, Blind(|seen| each_node(seen, |node| node.unschedulable = false))),
    ("ignores others' taints", Rule::Suspendable, Blind(|seen| each_node(seen, |node| node.taints.clear()))),
    ("ignores volumes", Rule::Suspendable, Blind(|seen| each_node(seen, |node| node.attached_volumes.clear()))),
    ("ignores ordinary pods", Rule::Suspendable, Blind(|seen| forget_pods(seen, "web"))),
    ("takes storage for an ordinary pod", Rule::Suspendable, Blind(|seen| forget_pods(seen, "instance-manager"))),
    ("takes every DaemonSet for the node's own", Rule::Suspendable, Blind(|seen| forget_pods(seen, "own-agent"))),
    ("takes every static pod for the node's own", Rule::Suspendable, Blind(|seen| forget_pods(seen, "own-vip"))),
    ("does not see launchers and VMs", Rule::Suspendable, Blind(forget_vms)),
    ("does not see launchers whose VM it does not know", Rule::Suspendable, Blind(forget_launchers)),
    ("does not see what comes by migration", Rule::Suspendable, Blind(|seen| seen.snapshot.migrations.clear())),
    ("tries what never stays asleep", Rule::Suspendable, Blind(forget_restlessness)),
    ("ignores MachineHealthChecks", Rule::Suspendable, Blind(|seen| seen.snapshot.machine_checks.clear())),
    ("ignores others that power nodes", Rule::Suspendable, Blind(|seen| seen.snapshot.neighbours.clear())),
    ("suspends what nobody can wake", Rule::Suspendable, Blind(believe_in_drivers)),
    (
        "suspends what has no address to wake it by",
        Rule::Suspendable,
        Blind(|seen| seen.policies.classes.values_mut().for_each(|class| class.sleep.ways.clear())),
    ),
    ("suspends what sleeps", Rule::Suspendable, Bent(|cluster, plan| instead(plan, asleep(cluster)))),
    ("suspends what is not there", Rule::Suspendable, Bent(|_, plan| instead(plan, Some("gone".into())))),
    ("suspends what it wakes", Rule::Suspendable, Bent(wake_first)),
    (
        "keeps fewer awake than it is told",
        Rule::Reserve,
        Blind(|seen| each_policy(seen, |policy| policy.min_awake = 0)),
    ),
    ("keeps no node spare", Rule::Reserve, Blind(|seen| each_policy(seen, |policy| policy.spare_dedicated = 0))),
    ("fears no failure", Rule::Reserve, Blind(|seen| each_policy(seen, |policy| policy.keep_awake_failures = 0))),
    ("suspends all that is empty at once", Rule::Reserve, Bent(suspend_all)),
    ("ignores NodeHealthChecks", Rule::Reserve, Blind(|seen| seen.snapshot.health_checks.clear())),
    ("ignores pending pods", Rule::Pending, Blind(forget_pending)),
    ("suspends on half a picture", Rule::Knowledge, Blind(|seen| seen.snapshot.incomplete = None)),
    ("suspends while paused", Rule::Standstill, Blind(|seen| seen.snapshot.switches = Default::default())),
    (
        "suspends outside its schedule",
        Rule::Standstill,
        Blind(|seen| each_policy(seen, |policy| policy.in_schedule = true)),
    ),
    ("suspends another policy's nodes", Rule::Declared, Blind(super::one_policy_for_all)),
    ("suspends for a policy that is not there", Rule::Declared, Bent(for_nobody)),
];

fn trust_untested(seen: &mut Cluster) {
    let now = seen.now;
    each_node(seen, |node| node.wake_tested = node.wake_tested.or(Some(now)));
}

fn trust_old_tests(seen: &mut Cluster) {
    let now = seen.now;
    each_node(seen, |node| node.wake_tested = node.wake_tested.map(|_| now));
}

fn forget_pods(seen: &mut Cluster, named: &str) {
    seen.snapshot.pods.retain(|key, _| !key.name.as_str().contains(named));
}

fn forget_vms(seen: &mut Cluster) {
    seen.snapshot.vms.clear();
    forget_launchers(seen);
}

fn forget_launchers(seen: &mut Cluster) {
    seen.snapshot.pods.retain(|_, pod| !matches!(pod.owner, PodOwner::Vm { .. }));
}

fn forget_restlessness(seen: &mut Cluster) {
    seen.snapshot.powers.values_mut().for_each(|record| record.restless = None);
}

fn believe_in_drivers(seen: &mut Cluster) {
    seen.policies.classes.values_mut().for_each(|class| class.sleep.can_be_woken = true);
}

fn forget_pending(seen: &mut Cluster) {
    seen.snapshot.pods.retain(|_, pod| pod.node.is_some());
}

/// The plan suspends this node instead of the one that it should.
fn instead(plan: &mut Plan, node: Option<miyako_core::model::NodeName>) {
    let Some(other) = node else { return };
    for step in &mut plan.steps {
        if let Step::Suspend(step) = step {
            step.node = other.clone();
        }
    }
}

fn asleep(cluster: &Cluster) -> Option<miyako_core::model::NodeName> {
    let mut nodes = cluster.snapshot.nodes.values();
    nodes.find(|node| node.power == PowerState::Suspended).map(|node| node.name.clone())
}

fn wake_first(_: &Cluster, plan: &mut Plan) {
    let suspends = plan.steps.iter().filter_map(|step| match step {
        Step::Suspend(SuspendStep { policy, node, .. }) => Some((policy.clone(), node.clone())),
        _ => None,
    });
    let wakes = suspends.map(|(policy, node)| Step::Wake(WakeStep { policy, node, reason: WakeReason::Reserve }));
    let wakes: Vec<_> = wakes.collect();
    plan.steps.splice(0..0, wakes);
}

fn for_nobody(_: &Cluster, plan: &mut Plan) {
    for step in &mut plan.steps {
        if let Step::Suspend(step) = step {
            step.policy = PolicyName::new("nobody");
        }
    }
}

fn suspend_all(cluster: &Cluster, plan: &mut Plan) {
    let Some(Step::Suspend(first)) = plan.steps.iter().find(|step| matches!(step, Step::Suspend(_))).cloned() else {
        return;
    };
    let hosts: Vec<_> = cluster.snapshot.vms.values().filter_map(|vm| vm.node.as_ref()).collect();
    let empty = cluster.snapshot.nodes.values().filter(|node| node.is_usable() && !hosts.contains(&&node.name));
    plan.steps = empty
        .map(|node| {
            let (policy, node) = (first.policy.clone(), node.name.clone());
            Step::Suspend(SuspendStep { policy, node, reason: SuspendReason::Empty })
        })
        .collect();
}
