//! What there is to say about policies.

use super::{
    Advice, some,
    world::{GivenPolicy, World},
};
use crate::lint::Finding;
use miyako_api::duration::Duration;
use miyako_core::model::{PolicyMode, PostCopyUse, Role};

pub(super) fn advise(world: &World<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for policy in &world.policies {
        let mut advice = Advice::on(policy.object);
        classes(policy, world, &mut advice);
        roles(policy, world, &mut advice);
        virtual_machines(policy, world, &mut advice);
        thresholds(policy, &mut advice);
        post_copy(policy, &mut advice);
        budgets(policy, &mut advice);
        topology(policy, world, &mut advice);
        awake(policy, world, &mut advice);
        findings.append(&mut advice.findings);
    }
    findings
}

/// Classes that are not given, or that another policy gets.
fn classes(policy: &GivenPolicy<'_>, world: &World<'_>, advice: &mut Advice<'_>) {
    for (index, class) in policy.read.classes.iter().enumerate() {
        let field = format!("spec.nodeClasses[{index}]");
        if !world.classes.is_empty() && !world.ruled.classes.contains_key(class) {
            let given = some(world.classes.iter().map(|class| class.read.name.as_str()));
            advice.warn(
                &field,
                format!("no NodePowerClass {class} is given: its nodes will not be ruled until there is one"),
                format!("add the NodePowerClass, or name one of those given: {given}"),
            );
        }
        if let Some(winner) = world.ruled.ruling(class).filter(|winner| winner.name != policy.read.name) {
            let why = match winner.priority.cmp(&policy.read.priority) {
                std::cmp::Ordering::Equal => "its name comes first".to_owned(),
                _ => format!("its priority {} is higher than {}", winner.priority, policy.read.priority),
            };
            advice.warn(
                &field,
                format!("class {class} belongs to ConsolidationPolicy {}, because {why}", winner.name),
                format!("leave the class out, or write a spec.priority above {}", winner.priority),
            );
        }
    }
}

/// Idle VMs go to shared nodes and busy ones to dedicated nodes: a policy needs both.
fn roles(policy: &GivenPolicy<'_>, world: &World<'_>, advice: &mut Advice<'_>) {
    let given: Vec<_> = world.classes_of(&policy.read).collect();
    if given.len() < policy.read.classes.len() {
        return;
    }
    let has = |role: Role| given.iter().any(|class| class.read.role == role);
    if !has(Role::Dedicated) {
        advice.warn(
            "spec.nodeClasses",
            "none of these classes has role Dedicated: a VM on an overloaded node has nowhere to go",
            "add a NodePowerClass with role: Dedicated",
        );
    }
    if !has(Role::Shared) {
        advice.warn(
            "spec.nodeClasses",
            "none of these classes has role Shared: idle VMs have nowhere to be packed",
            "add a NodePowerClass with role: Shared",
        );
    }
}

/// Selectors that match none of the given VMs or namespaces.
fn virtual_machines(policy: &GivenPolicy<'_>, world: &World<'_>, advice: &mut Advice<'_>) {
    let selector = &policy.read.vms;
    if !world.namespaces.is_empty()
        && !world.namespaces.iter().any(|ns| selector.namespaces.matches(&world.namespace_labels(&ns.name)))
    {
        let given = some(world.namespaces.iter().map(|namespace| namespace.name.as_str()));
        advice.warn(
            "spec.virtualMachines.namespaceSelector",
            "matches none of the given Namespaces, so the policy rules no VM",
            format!("write labels that a Namespace has; given are {given}"),
        );
    } else if !world.vms.is_empty()
        && !world.vms.iter().any(|vm| selector.matches(&vm.labels, &world.namespace_labels(&vm.namespace)))
    {
        let given = some(world.vms.iter().map(|vm| vm.name.as_str()));
        advice.warn(
            "spec.virtualMachines",
            "matches none of the given VirtualMachineInstances, so the policy rules no VM",
            format!("write labels that a VirtualMachineInstance has; given are {given}"),
        );
    }
}

/// Thresholds that are in order, but work against each other. (Those out of order the operator refuses.)
fn thresholds(policy: &GivenPolicy<'_>, advice: &mut Advice<'_>) {
    let thresholds = policy.thresholds();
    let [settle, window] =
        [thresholds.settle, thresholds.overload_window].map(|span| Duration::from_secs(span.as_secs()));
    if thresholds.settle < thresholds.overload_window {
        advice.warn(
            "spec.thresholds.settle",
            format!(
                "a VM may move again {settle} after it came, before the overloadWindow of {window} has passed: its node's average still tells of the time before"
            ),
            format!("write a settle of at least {window}"),
        );
    }
    if thresholds.admission_minutes() == 0 {
        let window = Duration::from_secs(thresholds.admission_window.as_secs());
        advice.warn(
            "spec.thresholds.admissionWindow",
            format!(
                "an admissionWindow of {window} brings VMs back by the moment's averages: shared nodes are filled in a quiet moment and overloaded in the next"
            ),
            "leave it out, or write 10m or more; 30m by default",
        );
    }
    let margin = thresholds.overload.value() - thresholds.admission.value();
    if margin > 0.0 && margin < 5.0 {
        advice.warn(
            "spec.thresholds.admissionPercent",
            format!(
                "only {margin:.0} points below overloadPercent: a node that just took a VM is soon overloaded, and VMs go to and fro"
            ),
            "leave 5 points or more between them; 15 by default",
        );
    }
}

/// A post-copy migration that fails loses the VM: that should be meant.
fn post_copy(policy: &GivenPolicy<'_>, advice: &mut Advice<'_>) {
    let is_written = policy.written.spec.migration.post_copy.is_some();
    if policy.read.mode == PolicyMode::Automatic && policy.read.post_copy == PostCopyUse::Allow && !is_written {
        advice.warn(
            "spec.migration",
            "with profile Reactive, mode Automatic uses post-copy on every VM that does not forbid it, and a post-copy migration that fails loses the VM",
            "write postCopy: Allow if that is meant, or OptIn for the VMs labelled miyako.dev/post-copy=allow alone",
        );
    }
}

/// Budgets that leave nothing to do.
fn budgets(policy: &GivenPolicy<'_>, advice: &mut Advice<'_>) {
    let budgets = &policy.read.budgets;
    if policy.read.mode == PolicyMode::Off {
        return;
    }
    if budgets.moves_per_vm_per_day == 0 {
        advice.warn(
            "spec.budgets.movesPerVMPerDay",
            "0 moves per VM and day: the policy never moves anything",
            "write 1 to 11, or mode: \"Off\" if that is meant",
        );
    }
    if budgets.moves_per_hour == Some(0) {
        advice.warn(
            "spec.budgets.movesPerHour",
            "0 moves per hour: the policy never moves anything",
            "leave it out, or write mode: \"Off\" if that is meant",
        );
    }
    if budgets.moves_per_vm_per_day == 1 {
        advice.warn(
            "spec.budgets.movesPerVMPerDay",
            "one move per VM and day: a VM never returns to a shared node, because that would leave no move for the time when it is busy again",
            "write 2 or more",
        );
    }
}

/// Topology keys that the nodes do not have.
fn topology(policy: &GivenPolicy<'_>, world: &World<'_>, advice: &mut Advice<'_>) {
    let nodes: Vec<_> = world.classes_of(&policy.read).flat_map(|class| world.nodes_of(&class.read)).collect();
    if nodes.is_empty() {
        return;
    }
    let lacking = |key: &str| nodes.iter().filter(|node| !node.labels.contains_key(key)).collect::<Vec<_>>();
    for (index, key) in policy.read.stay_within.iter().enumerate() {
        let lacking = lacking(key);
        if !lacking.is_empty() {
            advice.warn(
                &format!("spec.stayWithin[{index}]"),
                format!(
                    "{} of {} nodes have no label {key}, so VMs can't leave or reach them: {}",
                    lacking.len(),
                    nodes.len(),
                    some(lacking.iter().map(|node| node.name.as_str()))
                ),
                "label the nodes, or write a key that they have",
            );
        }
    }
    let key = &policy.read.keep_awake_per;
    if policy.read.keep_awake_failures > 1 && lacking(key).len() == nodes.len() {
        advice.warn(
            "spec.keepAwake.per",
            format!("none of the nodes has a label {key}, so all of them count as one place"),
            "write a label that they have, such as kubernetes.io/hostname or topology.kubernetes.io/zone",
        );
    }
}

/// Reserves that keep all nodes awake.
fn awake(policy: &GivenPolicy<'_>, world: &World<'_>, advice: &mut Advice<'_>) {
    let classes: Vec<_> = world.classes_of(&policy.read).collect();
    let count = |role: Option<Role>| {
        let of_role = classes.iter().filter(|class| role.is_none_or(|role| class.read.role == role));
        of_role.map(|class| world.nodes_of(&class.read).count()).sum::<usize>()
    };
    let (all, dedicated) = (count(None), count(Some(Role::Dedicated)));
    if all > 1 && policy.read.min_awake as usize >= all {
        advice.warn(
            "spec.minAwake",
            format!("{} of {all} nodes stay awake whatever happens: none can sleep", policy.read.min_awake),
            format!("write less than {all}"),
        );
    }
    if dedicated > 0 && policy.read.spare_dedicated as usize >= dedicated {
        advice.warn(
            "spec.spare.dedicatedNodes",
            format!("{} spare of {dedicated} dedicated nodes: none can sleep", policy.read.spare_dedicated),
            format!("write less than {dedicated}"),
        );
    }
}
