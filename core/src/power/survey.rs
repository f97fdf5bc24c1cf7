//! What is seen of every node, and wished for it, at one moment: the arguments of [`super::advance`].

use super::{Facts, Wish};
use crate::model::{
    Ask, Blocker, ClassIndex, Node, NodeClass, NodeMarks, NodeName, Pace, PlanPhase, Pod, PodOwner, PodPhase, Policies,
    Policy, PolicyMode, PowerRecord, PowerState, Purpose, RecordedStep, Snapshot, Span, StepOutcome, Timestamp, rulers,
};
use crate::plan::Report;
use std::collections::{BTreeMap, BTreeSet};

/// The label that virt-controller takes away from a node whose virt-handler has been silent for five minutes.
const SCHEDULABLE: &str = "kubevirt.io/schedulable";
/// KubeVirt's label of its own parts, and the word for virt-handler.
const APP: &str = "kubevirt.io";
const HANDLER: &str = "virt-handler";
/// The minute of the wakes per rack and minute.
const A_MINUTE: Span = Span::from_secs(60);
/// The limit for nodes that no policy rules any more: that of the defaults.
const WAKES_PER_RACK: u32 = 10;

/// One node, ready to be led on.
#[derive(Debug, Clone)]
pub struct Seat {
    /// Which.
    pub node: NodeName,
    /// What is seen of it.
    pub facts: Facts,
    /// What is wished for it.
    pub wish: Wish,
    /// How fast its class is.
    pub pace: Pace,
}

/// How urgent a wish to be awake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    Plan,
    Person,
    Other,
}

/// All nodes that have, or are to have, a place in the power sequence: those that are wanted awake first. `report` is
/// the planner's on the same snapshot: it says what keeps nodes awake.
#[must_use]
pub fn survey(snapshot: &Snapshot, policies: &Policies, report: &Report, now: Timestamp) -> Vec<Seat> {
    let plans = PlanWishes::of(snapshot);
    let classes = ClassIndex::new(policies);
    let acting = rulers(policies);
    let mut seats: Vec<(Urgency, Seat, String, u32)> = Vec::new();
    for node in snapshot.nodes.values() {
        let class = classes.class_of(node).ok().flatten().filter(|class| class.invalid.is_none());
        let ruler = class.and_then(|class| acting.get(&class.name).copied());
        let ruler = ruler.filter(|policy| policy.mode != PolicyMode::Off && policy.invalid.is_none());
        let record = snapshot.powers.get(&node.name);
        let managed = ruler.is_some() && class.is_some_and(|class| class.sleep.can_be_woken);
        if !managed
            && record.is_none()
            && NodeMarks::of(node) == Some(NodeMarks::None)
            && node.power_condition.is_none()
        {
            continue;
        }
        let none = PowerRecord::default();
        let (urgency, wish) = wish(snapshot, &plans, node, ruler, record.unwrap_or(&none));
        let facts = facts(snapshot, report, node, class, managed, (record.unwrap_or(&none), &wish));
        let pace = class.map(|class| class.sleep.pace).unwrap_or_default();
        let rack_label = ruler.map(|policy| policy.sleep.rack.as_str());
        let rack = rack_label.and_then(|label| node.labels.get(label)).cloned().unwrap_or_default();
        let most = ruler.map_or(WAKES_PER_RACK, |policy| policy.sleep.wakes_per_rack_per_minute);
        seats.push((urgency, Seat { node: node.name.clone(), facts, wish, pace }, rack, most));
    }
    seats.sort_by(|a, b| {
        let awake = |seat: &Seat| !seat.wish.is_awake();
        (awake(&a.1), a.0).cmp(&(awake(&b.1), b.0)).then_with(|| a.1.node.cmp(&b.1.node))
    });
    stagger(snapshot, &mut seats, now);
    seats.into_iter().map(|(_, seat, _, _)| seat).collect()
}

/// Holds back wakes beyond the racks' limits: the most urgent ones first, the others within the next minutes.
fn stagger(snapshot: &Snapshot, seats: &mut [(Urgency, Seat, String, u32)], now: Timestamp) {
    let mut woken: BTreeMap<String, u32> = BTreeMap::new();
    for (_, seat, rack, _) in seats.iter() {
        let record = snapshot.powers.get(&seat.node);
        let waking = record.filter(|record| record.phase == PowerState::Waking);
        if waking.and_then(|record| record.since).is_some_and(|since| now.since(since) < A_MINUTE) {
            *woken.entry(rack.clone()).or_default() += 1;
        }
    }
    for (_, seat, rack, most) in seats {
        let asleep = snapshot.powers.get(&seat.node).is_some_and(|record| record.phase == PowerState::Suspended);
        if !asleep || !seat.wish.is_awake() {
            continue;
        }
        let count = woken.entry(rack.clone()).or_default();
        if *count < *most {
            *count += 1;
        } else {
            seat.wish = Wish::None;
        }
    }
}

/// What plans that run want of nodes.
struct PlanWishes<'a> {
    wakes: BTreeMap<&'a NodeName, String>,
    suspends: BTreeMap<&'a NodeName, Purpose>,
}

impl<'a> PlanWishes<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        let mut wishes = Self { wakes: BTreeMap::new(), suspends: BTreeMap::new() };
        let running = |phase| phase == PlanPhase::Running;
        for plan in snapshot.plans.values().filter(|plan| running(plan.phase) && plan.is_cleared()) {
            for step in &plan.steps {
                match step {
                    RecordedStep::Wake { node, reason, outcome: StepOutcome::Running, .. } => {
                        wishes.wakes.insert(node, format!("plan {}: {}", plan.name, reason.name()));
                    }
                    RecordedStep::Suspend { node, outcome: StepOutcome::Running, .. } => {
                        wishes.suspends.insert(node, plan.purpose());
                    }
                    _ => {}
                }
            }
        }
        wishes
    }
}

/// What is wished for a node. Whatever wants it awake is looked at before whatever wants it asleep.
fn wish(
    snapshot: &Snapshot,
    plans: &PlanWishes<'_>,
    node: &Node,
    ruler: Option<&Policy>,
    record: &PowerRecord,
) -> (Urgency, Wish) {
    let awake = |urgency, reason: String| (urgency, Wish::Awake { reason });
    if let Some(reason) = plans.wakes.get(&node.name) {
        return awake(Urgency::Plan, reason.clone());
    }
    let asked = record.request.as_ref();
    let slept = matches!(record.phase, PowerState::Suspended | PowerState::Waking | PowerState::Quarantined);
    match asked.map(|request| request.ask) {
        Some(Ask::Wake) => return awake(Urgency::Person, "a person asked for it".into()),
        Some(Ask::WakeTest) if slept => return awake(Urgency::Person, "wake test".into()),
        _ => {}
    }
    let sleeps = matches!(record.phase, PowerState::Suspended | PowerState::Waking);
    if sleeps && record.purpose.as_ref().is_some_and(Purpose::is_wake_test) {
        return awake(Urgency::Other, "wake test".into());
    }
    if let Some(by) = snapshot.switches.held.as_ref().or_else(|| ruler?.held.as_ref()) {
        return awake(Urgency::Other, format!("everything is held awake: {by}"));
    }
    if let Some(reason) = &node.keep_awake {
        return awake(Urgency::Other, format!("kept awake: {reason}"));
    }
    if let Some(check) = snapshot.machine_checks.get(&node.name) {
        return awake(Urgency::Other, format!("MachineHealthCheck {check} would replace its machine"));
    }
    if let Some(neighbour) = snapshot.neighbours.get(&node.name) {
        return awake(Urgency::Other, neighbour.to_string());
    }
    if ruler.is_none() {
        return awake(Urgency::Other, "no policy that acts rules it".into());
    }
    let asleep = match asked.map(|request| (request.ask, request)) {
        _ if snapshot.switches.paused.is_some() || snapshot.incomplete.is_some() => None,
        Some((Ask::Suspend | Ask::WakeTest, request)) => Some(request.purpose()),
        _ => plans.suspends.get(&node.name).cloned(),
    };
    (Urgency::Other, asleep.map_or(Wish::None, |purpose| Wish::Asleep { purpose }))
}

fn facts(
    snapshot: &Snapshot,
    report: &Report,
    node: &Node,
    class: Option<&NodeClass>,
    managed: bool,
    (record, wish): (&PowerRecord, &Wish),
) -> Facts {
    let counts = |blocker: &&Blocker| match blocker {
        Blocker::NotAwake { .. } => false,
        // A person who asks for it has mended something, or wants to see.
        Blocker::WillNotStayAsleep { .. } => !matches!(wish, Wish::Asleep { purpose } if purpose.is_request()),
        // An untested node is empty all the same, and may sleep for its test.
        Blocker::NoWakeTest => matches!(wish, Wish::Asleep { purpose } if !purpose.is_wake_test()),
        _ => true,
    };
    let judged = report.nodes.get(&node.name).filter(|report| report.policy.is_some());
    let blocker = match judged {
        Some(report) => report.blockers.iter().find(counts).map(ToString::to_string),
        None => Some("no policy that acts rules it".to_owned()),
    };
    let is_work =
        |blocker: &Blocker| matches!(blocker, Blocker::Pods { .. } | Blocker::Vms { .. } | Blocker::Migrations { .. });
    let missing = missing(snapshot, node, class, record);
    let may_lack = node.ready && missing.is_some() && record.phase == PowerState::Waking;
    Facts {
        managed,
        ready: node.ready,
        usable: missing.is_none(),
        missing,
        lacks_pod: may_lack && lacks_pod(snapshot, node, class),
        boot_id: node.boot_id.clone(),
        marks: NodeMarks::of(node),
        condition: node.power_condition,
        blocker,
        work: judged.is_some_and(|report| report.blockers.iter().any(is_work)),
        method: class.map(|class| class.sleep.method).unwrap_or_default(),
    }
}

/// What a node lacks until it counts.
fn missing(snapshot: &Snapshot, node: &Node, class: Option<&NodeClass>, record: &PowerRecord) -> Option<String> {
    if !node.ready {
        return Some("its kubelet is not ready".to_owned());
    }
    if !node.virt_handler_ready {
        return Some("virt-handler is not ready on it".to_owned());
    }
    if node.labels.get(SCHEDULABLE).is_some_and(|schedulable| schedulable != "true") {
        return Some(format!("KubeVirt has not made it schedulable again (label {SCHEDULABLE})"));
    }
    let class = class?;
    if let Some(condition) = class.sleep.ready_conditions.difference(&node.conditions).next() {
        return Some(format!("its condition {condition} is not True (readyWhen)"));
    }
    if class.sleep.ready_daemon_sets.is_empty() || record.phase == PowerState::Awake {
        return None;
    }
    let runs = |pod: &Pod| pod.phase == PodPhase::Running && !pod.terminating && pod.ready;
    let there = daemon_sets_on(snapshot, node, runs);
    let absent = class.sleep.ready_daemon_sets.difference(&there).next()?;
    Some(format!("DaemonSet {absent} is not ready on it (readyWhen)"))
}

/// DaemonSets that have such a pod on the node.
fn daemon_sets_on(snapshot: &Snapshot, node: &Node, such: impl Fn(&Pod) -> bool) -> BTreeSet<String> {
    let pods = snapshot.pods_on(&node.name).filter(|pod| such(pod));
    pods.filter_map(|pod| match &pod.owner {
        PodOwner::DaemonSet(name) => Some(format!("{}/{name}", pod.key.namespace)),
        _ => None,
    })
    .collect()
}

/// Whether virt-handler's pod, or that of a DaemonSet in the class's `readyWhen`, is not even on its way on this node:
/// it was rolled out, or failed, while the node slept or shut down.
fn lacks_pod(snapshot: &Snapshot, node: &Node, class: Option<&NodeClass>) -> bool {
    let is_handler = |pod: &Pod| pod.labels.get(APP).is_some_and(|app| app == HANDLER);
    let there = daemon_sets_on(snapshot, node, |pod| !pod.terminating);
    !snapshot.pods_on(&node.name).any(|pod| !pod.terminating && is_handler(pod))
        || class.is_some_and(|class| !class.sleep.ready_daemon_sets.is_subset(&there))
}
