//! What the operator tells Prometheus about itself. Labels come from typed reasons, never from texts of errors, and name
//! no object but nodes with their classes and policies, so their number is bounded.

use super::energy::Ledger;
use super::stuck::StuckNode;
use super::wakes::Took;
use miyako_core::check::Violation;
use miyako_core::energy::Source;
use miyako_core::model::{ClassName, Timestamp};
use miyako_core::plan::Report;
use prometheus::{
    CounterVec, Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// From a tenth of a millisecond, a small cluster's decision, to ten seconds, where something is badly wrong.
const SECONDS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// From a resume that is over at once to a boot that takes ten minutes.
const WAKE_SECONDS: [f64; 12] = [0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 40.0, 120.0, 300.0, 600.0];

/// The operator's metrics.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Time for one decision (plan and check).
    pub decision: Histogram,
    /// Time for one whole tick, writes included.
    pub tick: Histogram,
    /// Steps of plans that came to an end, by reason of the move and outcome.
    pub migrations: IntCounterVec,
    /// Steps that `check` refused, by rule.
    pub refusals: IntCounterVec,
    /// Writes that failed, by class of the error.
    pub failed_writes: IntCounterVec,
    /// Plans that came to an end, by phase.
    pub plans: IntCounterVec,
    /// Why VMs stay, by reason: how many VMs now.
    pub staying: IntGaugeVec,
    /// Nodes by what was found about them.
    pub nodes: IntGaugeVec,
    /// Load samples taken, and refused by reason.
    pub samples: IntGaugeVec,
    /// Series that Prometheus answered with, and nodes or VMs that they told of.
    pub prometheus: IntGaugeVec,
    /// Age of the oldest plan that is not over.
    pub plan_age: IntGauge,
    /// 1 while this replica leads.
    pub leading: IntGauge,
    /// How long each shared node has been overloaded with no VM on it that can be moved, by why most of them can't.
    pub stuck: IntGaugeVec,
    /// The share of the CPU it wanted that the worst served VM got.
    pub worst_served: Gauge,
    /// What the operator keeps between passes, by who keeps it.
    pub(super) held: IntGaugeVec,
    /// Nodes that could sleep.
    pub can_sleep: IntGauge,
    /// Nodes that nothing keeps awake by itself, by why they are awake all the same.
    pub awake: IntGaugeVec,
    /// What has held for longer than such a thing takes, by what it is.
    pub overdue: IntGaugeVec,
    /// What each part of a wake took, while this replica led.
    wakes: HistogramVec,
    /// What each node draws, while this replica leads.
    node_watts: GaugeVec,
    /// What each node drew while this replica led.
    node_joules: CounterVec,
    /// What each node would have drawn in that time, had it never slept.
    node_never_sleeping_joules: CounterVec,
}

/// The labels of what is told node by node: sums over them give classes and policies.
const NODE: [&str; 3] = ["node", "class", "policy"];

impl Metrics {
    /// Registers everything under the names that the documentation gives.
    ///
    /// # Errors
    /// Two metrics of one name: a mistake of ours.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let histogram = |name: &str, help: &str| -> Result<Histogram, prometheus::Error> {
            let metric = Histogram::with_opts(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()))?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
            let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let metric = IntGauge::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let worst_served = Gauge::new(
            "miyako_worst_vm_cpu_served_ratio",
            "The share of the CPU it wanted within about the last hour that the worst served VM got; 1 while nobody tells.",
        )?;
        worst_served.set(1.0);
        registry.register(Box::new(worst_served.clone()))?;
        let watts =
            Opts::new("miyako_node_power_watts", "What a node draws, and whether that is measured or modelled.");
        let node_watts = GaugeVec::new(watts, &[NODE[0], NODE[1], NODE[2], "source"])?;
        registry.register(Box::new(node_watts.clone()))?;
        let joules = |name: &str, help: &str| -> Result<CounterVec, prometheus::Error> {
            let metric = CounterVec::new(Opts::new(name, help), &NODE)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let wakes = HistogramOpts::new(
            "miyako_wake_duration_seconds",
            "What each part of a wake took, from the order to wake until the node was usable.",
        );
        let wakes = HistogramVec::new(wakes.buckets(WAKE_SECONDS.to_vec()), &["class", "part"])?;
        registry.register(Box::new(wakes.clone()))?;
        Ok(Self {
            wakes,
            node_watts,
            node_joules: joules("miyako_node_energy_joules_total", "What a node drew while this replica led.")?,
            node_never_sleeping_joules: joules(
                "miyako_node_never_sleeping_energy_joules_total",
                "What a node would have drawn while this replica led, had it never slept: less what it drew, it was saved.",
            )?,
            decision: histogram("miyako_decision_duration_seconds", "Time to decide and check, once a second.")?,
            tick: histogram("miyako_tick_duration_seconds", "Time for a whole pass, its writes included.")?,
            migrations: counters(
                "miyako_migrations_total",
                "Migrations that came to an end, by the reason they were asked for and their outcome.",
                &["reason", "outcome"],
            )?,
            refusals: counters("miyako_refusals_total", "Steps that the safety rules refused, by rule.", &["rule"])?,
            failed_writes: counters(
                "miyako_failed_writes_total",
                "Writes to the API server that failed, by what is done about it.",
                &["class"],
            )?,
            plans: counters("miyako_plans_total", "Plans that came to an end, by phase.", &["phase"])?,
            staying: gauges("miyako_vms_staying", "VMs that stay where they are, by reason.", &["reason"])?,
            nodes: gauges("miyako_nodes", "Nodes by what their load says.", &["state"])?,
            samples: gauges(
                "miyako_load_samples",
                "Load samples since the start, by what became of them.",
                &["result"],
            )?,
            prometheus: gauges(
                "miyako_prometheus_answers",
                "What the last answers about CPU of the Prometheus server held: series, and the nodes or VMs known by them.",
                &["about", "what"],
            )?,
            plan_age: gauge("miyako_oldest_plan_age_seconds", "Age of the oldest plan that is not over.")?,
            leading: gauge("miyako_leading", "1 while this replica leads.")?,
            stuck: gauges(
                "miyako_node_stuck_seconds",
                "How long a shared node has been overloaded with no VM on it that can be moved, by why most of them can't.",
                &["node", "because"],
            )?,
            worst_served,
            held: gauges(
                "miyako_held_entries",
                "Entries that the operator keeps in memory between passes, by who keeps them; counted once a minute.",
                &["owner"],
            )?,
            awake: gauges(
                "miyako_nodes_awake",
                "Nodes that nothing on them keeps awake, by why they are awake all the same.",
                &["because"],
            )?,
            overdue: gauges(
                "miyako_holds_overdue",
                "Evacuations, rollouts, upgrades and backups that have lasted for too long, by reason.",
                &["reason"],
            )?,
            can_sleep: gauge("miyako_nodes_can_sleep", "Nodes that nothing keeps awake.")?,
            registry,
        })
    }

    /// Counts what `check` refused.
    pub fn refused(&self, violations: &[Violation]) {
        for violation in violations {
            self.refusals.with_label_values(&[violation.rule().name()]).inc();
        }
    }

    /// Sets the gauges that a report tells.
    pub fn observe(&self, report: &Report) {
        use miyako_core::plan::{NodeVerdict, VmVerdict};
        self.staying.reset();
        for vm in report.vms.values() {
            if let VmVerdict::Stays { reason } = &vm.verdict {
                self.staying.with_label_values(&[reason.name()]).inc();
            }
        }
        self.nodes.reset();
        self.awake.reset();
        let mut can_sleep = 0;
        for node in report.nodes.values() {
            let state = match node.verdict {
                NodeVerdict::NoClass | NodeVerdict::NoPolicy | NodeVerdict::Ambiguous { .. } => "NotRuled",
                NodeVerdict::NotUsable => "NotUsable",
                NodeVerdict::Dedicated => "Dedicated",
                NodeVerdict::LoadUnknown => "LoadUnknown",
                NodeVerdict::Calm { .. } => "Calm",
                NodeVerdict::Settling { .. } | NodeVerdict::Relieving { .. } | NodeVerdict::Relieved { .. } => {
                    "Overloaded"
                }
                NodeVerdict::Stuck { .. } => "Stuck",
            };
            self.nodes.with_label_values(&[state]).inc();
            can_sleep += i64::from(node.can_sleep());
            if let Some(because) = &node.awake_because {
                self.awake.with_label_values(&[because.name()]).inc();
            }
        }
        self.can_sleep.set(can_sleep);
        self.overdue.reset();
        let holds = report.policies.values().flat_map(|policy| &policy.holds).filter(|hold| hold.overdue);
        let overdue: std::collections::BTreeSet<_> = holds.map(|hold| (hold.kind, &hold.key)).collect();
        for (kind, _) in overdue {
            self.overdue.with_label_values(&[kind.overdue_name()]).inc();
        }
    }

    /// Tells which nodes are stuck, and how the worst served VM fares.
    pub(super) fn starving(&self, stuck: &[StuckNode], worst: Option<f64>, now: Timestamp) {
        self.stuck.reset();
        for StuckNode { node, since, because, .. } in stuck {
            let seconds = i64::try_from(now.since(*since).as_secs()).unwrap_or(i64::MAX);
            self.stuck.with_label_values(&[node.as_str(), because]).set(seconds);
        }
        self.worst_served.set(worst.unwrap_or(1.0));
    }

    /// Notes wakes that are over.
    pub(super) fn woken(&self, took: &[Took]) {
        for (class, part, span) in took {
            let class = class.as_ref().map_or("", ClassName::as_str);
            self.wakes.with_label_values(&[class, part.name()]).observe(span.as_secs_f64());
        }
    }

    /// Tells what nodes draw. Only the leader does, so that sums over all replicas count no node twice.
    pub(super) fn energy(&self, ledger: &Ledger, leading: bool) {
        self.node_watts.reset();
        if !leading {
            self.node_joules.reset();
            self.node_never_sleeping_joules.reset();
            return;
        }
        for (node, energy) in ledger.nodes() {
            let labels = [node.as_str(), energy.class.as_str(), energy.policy.as_str()];
            let source = match energy.draw.source {
                Source::Measured => "measured",
                Source::Modelled => "modelled",
            };
            let now = energy.draw.now.value();
            self.node_watts.with_label_values(&[labels[0], labels[1], labels[2], source]).set(now);
            self.node_joules.with_label_values(&labels).inc_by(energy.added.used.value());
            let never_sleeping = energy.added.never_sleeping.value();
            self.node_never_sleeping_joules.with_label_values(&labels).inc_by(never_sleeping);
        }
        for (node, energy) in ledger.gone() {
            let labels = [node.as_str(), energy.class.as_str(), energy.policy.as_str()];
            // That there is no such series is as good.
            let _ = self.node_joules.remove_label_values(&labels);
            let _ = self.node_never_sleeping_joules.remove_label_values(&labels);
        }
    }

    /// Everything in Prometheus' text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        // Encoding into memory fails only for metrics without a name or type, which `new` would have refused.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}
