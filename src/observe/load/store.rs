//! What was measured of every node and VM that exists, and what is wrong with what came in.
//!
//! Memory is bounded by the [`Inventory`]: nothing else is kept, and what vanishes from it is forgotten. The
//! histories can be lent to a [`miyako_core::model::Snapshot`] for the length of a decision instead of being
//! copied every second; what arrives meanwhile waits.

use super::{
    inventory::Inventory,
    judge::{self, Figures, Refusal},
    meters::{Metered, Meters, WattsQuestion},
    past::{self, Past},
    prometheus::PrometheusReport,
    rivals::Rivals,
    served::Served,
};
use miyako_api::wire::{MAX_REFUSALS_PER_ACK, MAX_VMS_PER_SAMPLE, SAMPLE_INTERVAL, load as wire};
use miyako_core::model::{LoadHistory, LoadTable, NodeName, Snapshot, Span, Timestamp, VmKey, Watts};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque, btree_map},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Samples of an agent older than this are stale (`SPECIFICATION.md`, rule 8).
pub const AGENT_STALE_AFTER: Span = Span::from_secs(3);

/// How long an agent must have been silent about a node or VM before Prometheus is believed instead. Longer than an
/// agent's restart, so that windows are not mixed from both for nothing.
pub const AGENT_PREFERRED_FOR: Span = Span::from_secs(30);

/// Readings that wait per node and VM while the table is lent. A decision takes milliseconds.
const WAITING_PER_ENTRY: usize = 4;

/// Samples of the past that wait while the table is lent: those of a few agents that connect in the same moment.
/// Beyond it they are lost, and their windows fill as time goes by.
const PAST_WAITING: usize = 200_000;

/// One agent's stream, as long as it lasts. A later stream has a higher number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(u64);

/// Who measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The node's agent.
    Agent,
    /// A Prometheus server that scrapes every `interval`.
    Prometheus {
        /// The scrape interval.
        interval: Span,
    },
}

impl Source {
    /// From which age on what it measured is no basis for anything.
    #[must_use]
    pub fn stale_after(self) -> Span {
        match self {
            Self::Agent => AGENT_STALE_AFTER,
            Self::Prometheus { interval } => interval.saturating_mul(3),
        }
    }

    /// The shortest window it can answer for.
    #[must_use]
    pub fn shortest_window(self) -> Span {
        match self {
            Self::Agent => Span::ZERO,
            Self::Prometheus { interval } => interval.saturating_mul(4),
        }
    }
}

/// What is wrong with what comes from one node.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NodeProblem {
    /// The agent reported before and is silent now.
    #[error("its agent has been silent for {} s", .since.as_secs())]
    Silent {
        /// For how long.
        since: Span,
    },
    /// Two agents take the node from each other.
    #[error(
        "two agents report for it in turn, pods {one} and {other}: an order to sleep quotes samples of either; delete \
         one of them, or the DaemonSet that made it"
    )]
    TwoAgents {
        /// A pod.
        one: String,
        /// The other pod.
        other: String,
    },
    /// The last sample was refused as a whole.
    #[error("its agent's last sample was refused: {0}")]
    Refused(Refusal),
    /// Parts of the last sample were refused, beyond the day's business.
    #[error("parts of its agent's last sample were refused, the first because {0}")]
    PartlyRefused(Refusal),
}

impl NodeProblem {
    /// The name for conditions and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Silent { .. } => "AgentSilent",
            Self::TwoAgents { .. } => "TwoAgents",
            Self::Refused(refusal) | Self::PartlyRefused(refusal) => refusal.reason(),
        }
    }
}

/// What became of one sample.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// The sample as a whole is not believed.
    pub refused: Option<Refusal>,
    /// VMs of it that are not believed; the first few.
    pub parts: Vec<Refusal>,
}

impl Verdict {
    /// All refusals, as the answer to the agent names them.
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.refused.iter().chain(&self.parts).take(MAX_REFUSALS_PER_ACK)
    }
}

/// CPU in use at a moment, ready to enter a history.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// Whose.
    pub(super) of: Subject,
    /// Up to when.
    pub(super) at: Timestamp,
    /// When it came in.
    pub(super) arrived: Timestamp,
    /// The time before `at` that it stands for; none where it stands for the time since the reading before.
    pub(super) covers: Option<Span>,
    /// What was measured.
    pub(super) figures: Figures,
    /// By whom.
    pub(super) source: Source,
}

impl Reading {
    fn of_agent(of: Subject, at: Timestamp, arrived: Timestamp, figures: Figures) -> Self {
        Self { of, at, arrived, covers: None, figures, source: Source::Agent }
    }
}

/// A node or a VM.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// A node.
    Node(NodeName),
    /// A VM.
    Vm(VmKey),
}

/// The newest word on a node or VM.
#[derive(Debug, Clone, Copy)]
struct Latest {
    at: Timestamp,
    source: Source,
    figures: Figures,
}

/// What is known of a node's agent.
#[derive(Debug, Clone)]
struct Agent {
    stream: StreamId,
    connected: bool,
    sequence: Option<u64>,
    heard: Option<Timestamp>,
    problem: Option<NodeProblem>,
}

/// Takes in what was measured.
#[derive(Debug, Default)]
pub struct LoadStore {
    inventory: Arc<Inventory>,
    /// None while it is lent.
    table: Option<LoadTable>,
    waiting: VecDeque<Reading>,
    past_waiting: Vec<(Subject, Past)>,
    latest: BTreeMap<Subject, Latest>,
    agents: BTreeMap<NodeName, Agent>,
    rivals: Rivals,
    /// VMs whose name came back with another uid, and when: what was measured before is not theirs.
    reborn: BTreeMap<VmKey, Timestamp>,
    /// Those of them whose old history is in the table that is lent.
    reborn_while_lent: Vec<VmKey>,
    next_stream: u64,
    accepted: u64,
    refused: BTreeMap<&'static str, u64>,
    prometheus: Option<PrometheusReport>,
    meters: Meters,
    served: Served,
}

impl LoadStore {
    /// A store that knows of no node yet, and so believes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { table: Some(LoadTable::default()), ..Self::default() }
    }

    /// Learns from a snapshot which nodes and VMs exist at `now`; see [`Self::set_inventory`].
    pub fn learn(&mut self, snapshot: &Snapshot, now: Timestamp) {
        if !self.inventory.is_of(snapshot) {
            self.set_inventory(Inventory::of(snapshot), now);
        }
    }

    /// Says which nodes and VMs exist at `now`. What is not among them is forgotten; a VM with a new uid begins anew.
    pub fn set_inventory(&mut self, inventory: Inventory, now: Timestamp) {
        if inventory == *self.inventory {
            return;
        }
        let known = Arc::new(inventory);
        let before = std::mem::replace(&mut self.inventory, Arc::clone(&known));
        for (key, place) in &before.vms {
            if known.vms.get(key).is_some_and(|place_now| place_now.uid != place.uid) {
                self.reborn.insert(key.clone(), now);
                self.latest.remove(&Subject::Vm(key.clone()));
                self.served.retain(|vm| vm != key);
                self.waiting.retain(|reading| reading.of != Subject::Vm(key.clone()));
                self.past_waiting.retain(|(of, _)| *of != Subject::Vm(key.clone()));
                match &mut self.table {
                    Some(table) => drop(table.vms.remove(key)),
                    None => self.reborn_while_lent.push(key.clone()),
                }
            }
        }
        self.reborn.retain(|key, _| known.vms.contains_key(key));
        self.agents.retain(|name, _| known.nodes.contains_key(name));
        self.rivals.keep(|name| known.nodes.contains_key(name));
        self.latest.retain(|subject, _| exists(&known, subject));
        self.meters.keep(&known);
        self.served.retain(|vm| known.vms.contains_key(vm));
        self.waiting.retain(|reading| exists(&known, &reading.of));
        if let Some(table) = &mut self.table {
            forget_vanished(&known, table);
        }
    }

    /// What is kept, counted by what it is; the histories as long as they are not lent.
    #[must_use]
    pub fn held(&self) -> [(&'static str, usize); 8] {
        let histories = self.table.as_ref().map_or(0, |table| table.nodes.len() + table.vms.len());
        [
            ("Histories", histories),
            ("Waiting", self.waiting.len()),
            ("PastWaiting", self.past_waiting.len()),
            ("Latest", self.latest.len()),
            ("Agents", self.agents.len()),
            ("Reborn", self.reborn.len() + self.reborn_while_lent.len()),
            ("Served", self.served.len()),
            ("Meters", self.meters.len()),
        ]
    }

    /// The share of the CPU it wanted that a VM got within about the last hour, if its agent tells what it wants.
    #[must_use]
    pub fn served(&self, vm: &VmKey) -> Option<f64> {
        self.served.of(vm)
    }

    /// The VM that got the least share of what it wanted, and that share.
    #[must_use]
    pub fn worst_served(&self) -> Option<(&VmKey, f64)> {
        self.served.worst()
    }

    /// A new stream of `node`'s agent begins at `now`, in this pod; it takes over from any other of this node.
    pub fn open_stream_of(&mut self, node: &NodeName, pod: Option<&str>, now: Timestamp) -> StreamId {
        if let Some(pod) = pod.filter(|_| self.inventory.nodes.contains_key(node)) {
            let before = self.agents.get(node).filter(|agent| agent.connected);
            let live = before.and_then(|agent| agent.heard).is_some_and(|heard| now.since(heard) <= AGENT_STALE_AFTER);
            self.rivals.opened(node, pod, live, now);
        }
        self.open_stream(node)
    }

    /// The same of an agent whose pod is not known.
    pub fn open_stream(&mut self, node: &NodeName) -> StreamId {
        self.next_stream += 1;
        let stream = StreamId(self.next_stream);
        // An agent on a node that the watch has not seen yet is remembered at its first sample.
        if self.inventory.nodes.contains_key(node) {
            let heard = self.agents.get(node).and_then(|agent| agent.heard);
            self.agents.insert(node.clone(), Agent { stream, connected: true, sequence: None, heard, problem: None });
        }
        stream
    }

    /// A stream ended.
    pub fn close_stream(&mut self, node: &NodeName, stream: StreamId) {
        if let Some(agent) = self.agents.get_mut(node).filter(|agent| agent.stream == stream) {
            agent.connected = false;
        }
    }

    /// The sequence of the newest sample of a node's agent, while its stream lasts.
    #[must_use]
    pub fn newest_sample(&self, node: &NodeName) -> Option<u64> {
        self.agents.get(node).filter(|agent| agent.connected)?.sequence
    }

    /// Takes in a sample that arrived at `arrived` on a stream of `speaker`'s agent.
    pub fn accept(
        &mut self,
        stream: StreamId,
        speaker: &NodeName,
        sample: &wire::NodeSample,
        arrived: Timestamp,
    ) -> Verdict {
        self.accept_late(stream, speaker, sample, arrived, Span::ZERO)
    }

    /// The same of one that was `under_way` for so long; see [`judge::moment`].
    pub fn accept_late(
        &mut self,
        stream: StreamId,
        speaker: &NodeName,
        sample: &wire::NodeSample,
        arrived: Timestamp,
        under_way: Span,
    ) -> Verdict {
        let verdict = match self.take_node(stream, speaker, sample, (arrived, under_way)) {
            Ok((at, past)) => {
                self.accepted += 1;
                let mut parts = self.take_vms(speaker, sample, at, arrived);
                parts.splice(..0, past);
                parts.splice(..0, self.take_watts(speaker, sample, at));
                parts.truncate(MAX_REFUSALS_PER_ACK);
                Verdict { refused: None, parts }
            }
            Err(refusal) => {
                self.count(refusal.reason());
                Verdict { refused: Some(refusal), parts: Vec::new() }
            }
        };
        self.note_problem(stream, speaker, &verdict);
        verdict
    }

    fn take_node(
        &mut self,
        stream: StreamId,
        speaker: &NodeName,
        sample: &wire::NodeSample,
        (arrived, under_way): (Timestamp, Span),
    ) -> Result<(Timestamp, Option<Refusal>), Refusal> {
        if sample.node != speaker.as_str() {
            let claimed: String = sample.node.chars().take(253).collect();
            return Err(Refusal::WrongNode { speaker: speaker.clone(), claimed: NodeName::new(claimed) });
        }
        let Some(&capacity) = self.inventory.nodes.get(speaker) else {
            return Err(Refusal::UnknownNode(speaker.clone()));
        };
        let agent = self.agents.entry(speaker.clone()).or_insert(Agent {
            stream,
            connected: true,
            sequence: None,
            heard: None,
            problem: None,
        });
        if stream < agent.stream {
            return Err(Refusal::Superseded);
        }
        match agent.sequence {
            Some(newest) if sample.sequence == newest => return Err(Refusal::Duplicate(newest)),
            Some(newest) if sample.sequence < newest => {
                return Err(Refusal::OutOfOrder { got: sample.sequence, newest });
            }
            _ => agent.sequence = Some(sample.sequence),
        }
        if sample.vms.len() > MAX_VMS_PER_SAMPLE {
            return Err(Refusal::TooManyVms(sample.vms.len()));
        }
        let at = judge::moment(sample, arrived, under_way)?;
        let figures = judge::figures(sample.usage.as_ref(), Some(capacity))?;
        agent.heard = Some(arrived);
        let subject = Subject::Node(speaker.clone());
        let past = self.take_past(&subject, &sample.past_cpu_cores, sample, at);
        self.take(Reading::of_agent(subject, at, arrived, figures));
        Ok((at, past.err()))
    }

    /// Takes in what the node's energy counters say. A figure that can't be takes nothing else of the sample along: the
    /// node's watts are modelled then.
    fn take_watts(&mut self, speaker: &NodeName, sample: &wire::NodeSample, at: Timestamp) -> Option<Refusal> {
        let judged = sample.watts.map(|watts| judge::watts("watts", watts)).transpose();
        self.meters.of_agent(speaker, at, *judged.as_ref().unwrap_or(&None));
        let refusal = judged.err()?;
        self.count(refusal.reason());
        Some(refusal)
    }

    /// Takes in what a Prometheus server says that nodes draw.
    pub(super) fn accept_watts(&mut self, answers: Vec<(NodeName, Watts)>, arrived: Timestamp) {
        let known = answers.into_iter().filter(|(node, _)| self.inventory.nodes.contains_key(node));
        self.meters.of_prometheus(known.collect(), arrived);
    }

    /// Takes in what the waker on this node has read of BMCs, and says whether it is to go on.
    pub(super) fn accept_readings(
        &mut self,
        waker: &NodeName,
        told: &wire::Readings,
        arrived: Timestamp,
    ) -> wire::Wanted {
        let refused = self.meters.of_waker(waker, &told.readings, &self.inventory, arrived);
        refused.iter().for_each(|refusal| self.count(refusal.reason()));
        let refusals = refused.iter().take(MAX_REFUSALS_PER_ACK).map(ToString::to_string).collect();
        wire::Wanted { read: self.meters.is_reader(waker), refusals }
    }

    /// Says what a Prometheus server is to be asked about nodes' watts.
    pub fn set_watts_questions(&mut self, questions: Vec<WattsQuestion>) {
        self.meters.questions = questions;
    }

    pub(super) fn watts_questions(&self) -> Vec<WattsQuestion> {
        self.meters.questions.clone()
    }

    /// What meters say that nodes draw, as far as it is fresh.
    #[must_use]
    pub fn metered(&self, now: Timestamp) -> Metered {
        self.meters.fresh(now, AGENT_STALE_AFTER)
    }

    /// Takes in what was before a sample of `at`; what is known already stays as it is.
    fn take_past(
        &mut self,
        of: &Subject,
        cpu_cores: &[f32],
        sample: &wire::NodeSample,
        at: Timestamp,
    ) -> Result<(), Refusal> {
        let capacity = self.inventory.nodes.get(&NodeName::new(&sample.node)).copied();
        let judged = past::judged(cpu_cores, &sample.past_age_ms, at, capacity);
        let mut past = judged.inspect_err(|refusal| self.count(refusal.reason()))?;
        if let Subject::Vm(key) = of
            && let Some(came) = self.inventory.arrived.get(key)
        {
            past.retain(|(at, _)| at > came);
        }
        if past.is_empty() {
            return Ok(());
        }
        match &mut self.table {
            Some(table) => past::enter(history_of(table, of.clone()), &past, second_steps),
            None if self.past_waiting.iter().map(|(_, past)| past.len()).sum::<usize>() < PAST_WAITING => {
                self.past_waiting.push((of.clone(), past));
            }
            None => {}
        }
        Ok(())
    }

    fn take_vms(
        &mut self,
        speaker: &NodeName,
        sample: &wire::NodeSample,
        at: Timestamp,
        arrived: Timestamp,
    ) -> Vec<Refusal> {
        let capacity = self.inventory.nodes.get(speaker).copied();
        let mut seen = BTreeSet::new();
        let mut refusals = Vec::new();
        for vm in &sample.vms {
            let judged = self.place_vm(speaker, vm).and_then(|key| {
                if !seen.insert(key.clone()) {
                    return Err(Refusal::Twice(key));
                }
                Ok((key, judge::figures(vm.usage.as_ref(), capacity)?))
            });
            match judged {
                Ok((key, figures)) => {
                    self.served.note(&key, at, &figures);
                    let subject = Subject::Vm(key);
                    let past = self.take_past(&subject, &vm.past_cpu_cores, sample, at);
                    self.take(Reading::of_agent(subject, at, arrived, figures));
                    if let Err(refusal) = past
                        && refusals.len() < MAX_REFUSALS_PER_ACK
                    {
                        refusals.push(refusal);
                    }
                }
                Err(refusal) => {
                    self.count(refusal.reason());
                    // What is broken matters more than what is just moving.
                    if refusals.len() < MAX_REFUSALS_PER_ACK {
                        refusals.push(refusal);
                    } else if !refusal.is_ordinary()
                        && let Some(ordinary) = refusals.iter_mut().find(|refusal| refusal.is_ordinary())
                    {
                        *ordinary = refusal;
                    }
                }
            }
        }
        refusals.sort_by_key(Refusal::is_ordinary);
        refusals
    }

    /// The VM that a part of a sample names, if it is one that runs there.
    fn place_vm(&self, speaker: &NodeName, vm: &wire::VmSample) -> Result<VmKey, Refusal> {
        let key = judge::vm_key(vm)?;
        let Some(place) = self.inventory.vms.get(&key) else { return Err(Refusal::UnknownVm(key)) };
        if place.uid.as_str() != vm.uid {
            return Err(Refusal::OtherUid(key));
        }
        if place.node.as_ref() != Some(speaker) {
            return Err(Refusal::Elsewhere(key));
        }
        Ok(key)
    }

    fn note_problem(&mut self, stream: StreamId, speaker: &NodeName, verdict: &Verdict) {
        let Some(agent) = self.agents.get_mut(speaker).filter(|agent| agent.stream == stream) else { return };
        agent.problem = match (&verdict.refused, verdict.parts.first()) {
            (Some(refusal), _) => Some(NodeProblem::Refused(refusal.clone())),
            (None, Some(part)) if !part.is_ordinary() => Some(NodeProblem::PartlyRefused(part.clone())),
            _ => None,
        };
    }

    /// Takes in what a Prometheus server answered, each subject's readings from the oldest to the newest, and says
    /// how many nodes and VMs are measured by it now. What an agent speaks for is passed over, and what was taken in
    /// before.
    pub(super) fn accept_scrapes(&mut self, readings: Vec<Reading>, arrived: Timestamp) -> usize {
        for reading in readings {
            let passed_over = self.latest.get(&reading.of).is_some_and(|latest| {
                let agent_speaks = latest.source == Source::Agent && arrived.since(latest.at) <= AGENT_PREFERRED_FOR;
                // A moment ahead of our own clock means that our clock was set back.
                let known = reading.at <= latest.at && latest.at.since(arrived) <= judge::TOLERANCE;
                agent_speaks || known
            });
            let before_its_time = matches!(&reading.of, Subject::Vm(key)
                if self.reborn.get(key).is_some_and(|&reborn| reading.at <= reborn));
            if !passed_over && !before_its_time && exists(&self.inventory, &reading.of) {
                self.accepted += 1;
                self.take(reading);
            }
        }
        let measured = |latest: &&Latest| {
            latest.source != Source::Agent && arrived.since(latest.at) <= latest.source.stale_after()
        };
        self.latest.values().filter(measured).count()
    }

    /// How it stands with Prometheus; none where none is asked.
    #[must_use]
    pub fn prometheus(&self) -> Option<&PrometheusReport> {
        self.prometheus.as_ref()
    }

    pub(super) fn set_prometheus(&mut self, report: PrometheusReport) {
        self.prometheus = Some(report);
    }

    /// The nodes and VMs that exist.
    pub(super) fn inventory(&self) -> Arc<Inventory> {
        Arc::clone(&self.inventory)
    }

    fn take(&mut self, reading: Reading) {
        let latest = Latest { at: reading.at, source: reading.source, figures: reading.figures };
        self.latest.insert(reading.of.clone(), latest);
        if let Some(table) = &mut self.table {
            enter(table, reading);
        } else {
            if self.waiting.len() >= WAITING_PER_ENTRY * (self.inventory.nodes.len() + self.inventory.vms.len()) {
                self.waiting.pop_front();
            }
            self.waiting.push_back(reading);
        }
    }

    /// Counts something that was refused: a sample, a part of one, or an agent that may not speak.
    pub(super) fn count(&mut self, reason: &'static str) {
        *self.refused.entry(reason).or_default() += 1;
    }

    /// Hands the histories out, to be looked at and given back with [`Self::take_back`]. A table that is never given
    /// back (a decision that panicked) is lost, and all windows fill anew.
    #[must_use]
    pub fn lend(&mut self) -> LoadTable {
        self.table.take().unwrap_or_default()
    }

    /// Takes the histories back and enters what arrived meanwhile.
    pub fn take_back(&mut self, mut table: LoadTable) {
        forget_vanished(&self.inventory, &mut table);
        for key in self.reborn_while_lent.drain(..) {
            table.vms.remove(&key);
        }
        for (of, past) in self.past_waiting.drain(..) {
            if exists(&self.inventory, &of) {
                past::enter(history_of(&mut table, of), &past, second_steps);
            }
        }
        for reading in self.waiting.drain(..) {
            enter(&mut table, reading);
        }
        self.table = Some(table);
    }

    /// The newest figures of a node, and when they were measured.
    #[must_use]
    pub fn node_figures(&self, node: &NodeName) -> Option<(Timestamp, Figures)> {
        self.figures(&Subject::Node(node.clone()))
    }

    /// The newest figures of a VM, and when they were measured.
    #[must_use]
    pub fn vm_figures(&self, vm: &VmKey) -> Option<(Timestamp, Figures)> {
        self.figures(&Subject::Vm(vm.clone()))
    }

    fn figures(&self, subject: &Subject) -> Option<(Timestamp, Figures)> {
        self.latest.get(subject).map(|latest| (latest.at, latest.figures))
    }

    /// Agents that are connected.
    #[must_use]
    pub fn agents_connected(&self) -> usize {
        self.agents.values().filter(|agent| agent.connected).count()
    }

    /// What is wrong with what comes from the nodes. A node that never had an agent has no problem, nor has one that
    /// sleeps, or whose figures Prometheus has taken over.
    #[must_use]
    pub fn problems(&self, now: Timestamp) -> BTreeMap<NodeName, NodeProblem> {
        self.agents
            .iter()
            .filter_map(|(node, agent)| {
                let replaced = self
                    .latest
                    .get(&Subject::Node(node.clone()))
                    .is_some_and(|latest| latest.source != Source::Agent && !agent.connected);
                if replaced || self.inventory.asleep.contains(node) {
                    return None;
                }
                if let Some((one, other)) = self.rivals.of(node, now) {
                    return Some((node.clone(), NodeProblem::TwoAgents { one, other }));
                }
                let silent = agent.heard.map(|heard| now.since(heard)).filter(|since| *since > AGENT_STALE_AFTER);
                // What its samples suffer from tells more than that there are none.
                let problem = match (&agent.problem, silent) {
                    (Some(problem), _) if agent.connected => Some(problem.clone()),
                    (_, Some(since)) => Some(NodeProblem::Silent { since }),
                    (problem, None) => problem.clone(),
                };
                Some((node.clone(), problem?))
            })
            .collect()
    }

    /// Samples and scraped figures taken in since the start.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Refusals since the start, by reason.
    #[must_use]
    pub fn refused(&self) -> &BTreeMap<&'static str, u64> {
        &self.refused
    }
}

fn exists(inventory: &Inventory, subject: &Subject) -> bool {
    match subject {
        Subject::Node(node) => inventory.nodes.contains_key(node),
        Subject::Vm(vm) => inventory.vms.contains_key(vm),
    }
}

fn forget_vanished(inventory: &Inventory, table: &mut LoadTable) {
    table.nodes.retain(|node, _| inventory.nodes.contains_key(node));
    table.vms.retain(|vm, _| inventory.vms.contains_key(vm));
}

fn history_of(table: &mut LoadTable, subject: Subject) -> &mut LoadHistory {
    fn history<K: Ord>(entry: btree_map::Entry<'_, K, LoadHistory>) -> &mut LoadHistory {
        entry.or_default()
    }
    match subject {
        Subject::Node(node) => history(table.nodes.entry(node)),
        Subject::Vm(vm) => history(table.vms.entry(vm)),
    }
}

/// Enters a reading into its history.
fn enter(table: &mut LoadTable, reading: Reading) {
    let history = history_of(table, reading.of);
    // Our own clock was set back: by the new time everything measured lies in the future, and nothing would enter
    // until the clock has caught up.
    if history.newest().is_some_and(|newest| newest.since(reading.arrived) > judge::TOLERANCE) {
        *history = LoadHistory::default();
    }
    history.set_stale_after(reading.source.stale_after());
    history.set_shortest_window(reading.source.shortest_window());
    let covers = reading.covers.unwrap_or_else(|| second_steps(history.newest(), reading.at));
    history.push(reading.at, covers, reading.figures.cpu);
}

/// The time that an agent's sample stands for. Samples come a second apart and a little early or late, so now and
/// then a whole second by the clock passes without one: the next sample stands for it too.
fn second_steps(newest: Option<Timestamp>, at: Timestamp) -> Span {
    let steps = newest.map_or(1, |newest| at.second().saturating_sub(newest.second()));
    if steps == 2 { SAMPLE_INTERVAL * 2 } else { SAMPLE_INTERVAL }
}

/// A store that the wire's streams, the Prometheus poller and the loop share. Locks are held for microseconds.
#[derive(Debug, Clone)]
pub struct SharedLoadStore(Arc<Mutex<LoadStore>>);

impl Default for SharedLoadStore {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(LoadStore::new())))
    }
}

impl SharedLoadStore {
    /// The store, for a moment. A panic elsewhere does not matter: every operation leaves the store usable.
    pub fn lock(&self) -> MutexGuard<'_, LoadStore> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
