//! The operator itself: what one replica holds, and one pass of its loop.

use super::deadline::Deadline;
use super::energy::{self, Ledger};
use super::history::{Chronicle, History};
use super::hung::Hung;
use super::pass::{self, Thoughts};
use super::perform::Written;
use super::picture::{Onlookers, Picture};
use super::power::Part;
use super::refusals::Refusals;
use super::stalled;
use super::status::LoadView;
use super::statuses::Said;
use super::stuck::StuckNodes;
use super::wakes::Wakes;
use super::{Leadership, Metrics};
use crate::act::{Actor, Fence};
use crate::clock::Clock;
use crate::observe::load::{Inventory, Metered, SharedLoadStore};
use crate::observe::{Kind, Observer};
use miyako_api::consolidation_policy::ConsolidationPolicyStatus;
use miyako_api::node_power_class::NodePowerClassStatus;
use miyako_core::energy::Account;
use miyako_core::model::{ClassName, MigrationMode, Policy, PolicyName, Span, Timestamp, Uid};
use miyako_core::pass::Known;
use miyako_core::plan::Report;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

/// What the operator can be told at its start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Between passes.
    pub tick: Duration,
    /// Decides where a policy asks for randomness.
    pub seed: u64,
    /// Figures in a status are written at most this often; conditions at once.
    pub status_interval: Span,
    /// Finished plans are kept this long: longer than the longest budget (a day).
    pub keep_plans: Span,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tick: Duration::from_secs(1),
            seed: 0,
            status_interval: Span::from_secs(30),
            keep_plans: Span::from_secs(26 * 3600),
        }
    }
}

/// What a pass saw and thought, for who wants to look: the page, `explain`, tests.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// When.
    pub at: Timestamp,
    /// This replica leads.
    pub leading: bool,
    /// Why there is no decision yet.
    pub incomplete: Option<String>,
    /// The reasons.
    pub report: Report,
    /// What the ruled nodes drew and saved, as far back as is known.
    pub energy: Account,
    /// What was done lately.
    pub history: Arc<History>,
    /// The cluster itself, while somebody looks.
    pub picture: Option<Arc<Picture>>,
}

/// Old plans are deleted a few at a time: that is never urgent.
const FORGOTTEN_AT_ONCE: usize = 5;

/// One replica of the operator.
pub struct Operator {
    pub(super) actor: Actor,
    pub(super) metrics: Metrics,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) observer: Observer,
    pub(super) load: SharedLoadStore,
    leadership: Arc<Leadership>,
    pub(super) options: Options,
    pub(super) policies_said: BTreeMap<PolicyName, Said<ConsolidationPolicyStatus>>,
    pub(super) classes_said: BTreeMap<ClassName, Said<NodePowerClassStatus>>,
    pub(super) refusals: Refusals,
    /// Stalled migrations that people were told about, with how often their time had doubled.
    pub(super) stalled_told: BTreeMap<Uid, u32>,
    /// VMIs that lately lost our label.
    pub(super) unlabelled: BTreeMap<Uid, Timestamp>,
    /// Modes whose MigrationPolicy of ours was mended lately.
    pub(super) mended: BTreeMap<MigrationMode, Timestamp>,
    view: watch::Sender<Arc<View>>,
    pub(super) chronicle: Chronicle,
    pub(super) ledger: Ledger,
    pub(super) wakes: Wakes,
    pub(super) stuck: StuckNodes,
    pub(super) hung: Hung,
    onlookers: Onlookers,
    led: bool,
    /// When what is kept was last counted.
    pub(super) counted: Option<Timestamp>,
}

impl Operator {
    /// An operator that observes through `observer` and writes through `actor` while `leadership` holds.
    #[must_use]
    pub fn new(
        actor: Actor,
        observer: Observer,
        load: SharedLoadStore,
        leadership: Arc<Leadership>,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Self {
        Self {
            actor,
            metrics,
            clock,
            observer,
            load,
            leadership,
            options,
            policies_said: BTreeMap::new(),
            classes_said: BTreeMap::new(),
            refusals: Refusals::default(),
            stalled_told: BTreeMap::new(),
            unlabelled: BTreeMap::new(),
            mended: BTreeMap::new(),
            view: watch::Sender::new(Arc::default()),
            chronicle: Chronicle::default(),
            ledger: Ledger::default(),
            wakes: Wakes::default(),
            stuck: StuckNodes::default(),
            hung: Hung::default(),
            onlookers: Onlookers::default(),
            led: false,
            counted: None,
        }
    }

    /// What the last pass saw and thought.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// Who looks at the pictures in its views: without onlookers there are none.
    #[must_use]
    pub fn onlookers(&self) -> Onlookers {
        self.onlookers.clone()
    }

    /// Passes until it is dropped. A pass that takes long delays the next one; none is made up for.
    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(self.options.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.pass().await;
        }
    }

    /// One pass: observe → plan → check → act.
    #[allow(clippy::disallowed_methods, reason = "how long a pass takes is measured, not decided upon")]
    pub async fn pass(&mut self) {
        let began = Instant::now();
        let now = self.clock.now();
        self.observer.drain();
        let leading = self.leadership.holds();
        if leading && !self.led {
            // Another replica may have written since we last did.
            self.policies_said.clear();
            self.classes_said.clear();
        }
        self.led = leading;
        if leading {
            // What has come back is usable in this very pass: somebody may be waiting for it.
            self.lead_power(&Report::default(), now, Part::ComingBack).await;
        }
        let load_view = self.borrow_load();
        let thoughts = self.think(now);
        let metered = self.metered(now);
        let (snapshot, policies) = self.observer.snapshot();
        self.ledger.note(&thoughts.report, (snapshot, policies), &metered, now);
        self.chronicle.note(&thoughts, snapshot, &self.ledger, now);
        let picture = (self.onlookers.count() > 0).then(|| {
            let said = |policy: &Policy| {
                let said = self.policies_said.get(&policy.name);
                said.map(|said| said.status().conditions.clone()).unwrap_or_default()
            };
            let load = self.load.lock();
            let served = |vm: &_| load.served(vm);
            Arc::new(Picture::of(snapshot, policies, &thoughts.report, &self.ledger, now, said, served))
        });
        self.return_load(now);
        self.metrics.decision.observe(began.elapsed().as_secs_f64());
        self.metrics.leading.set(i64::from(leading));
        self.metrics.observe(&thoughts.report);
        self.metrics.energy(&self.ledger, leading);
        let woken = self.wakes.look(&thoughts.report, self.observer.snapshot().0, now);
        if leading {
            self.metrics.woken(&woken);
        }
        let stuck = self.stuck.look(&thoughts.report, self.observer.snapshot().0, now);
        let worst = self.load.lock().worst_served().map(|(_, share)| share);
        self.metrics.starving(&stuck, worst, now);
        self.metrics.refused(&thoughts.violations);
        for violation in &thoughts.violations {
            tracing::error!(%violation, "the safety check refused a step of our own planner; please report this");
        }
        if leading {
            let written = self.perform(&thoughts, Deadline::from_now()).await;
            self.expect(written);
            self.lead_power(&thoughts.report, now, Part::All).await;
            let stalled = stalled::find(self.observer.snapshot().0, now);
            let deadline = Deadline::from_now();
            self.tell_stalled(&stalled, deadline).await;
            self.write_energy(deadline, now).await;
            self.write_statuses(&thoughts.report, &load_view, (&stalled, &stuck), deadline, now).await;
            self.forget_old_plans(deadline, now).await;
        }
        let incomplete = self.observer.snapshot().0.incomplete.clone();
        let history = self.chronicle.history();
        let energy = self.ledger.sum(|_| true);
        let report = thoughts.report;
        self.view.send_replace(Arc::new(View { at: now, leading, incomplete, report, energy, history, picture }));
        // Nothing waits for it.
        self.tell_held(now);
        self.metrics.tick.observe(began.elapsed().as_secs_f64());
    }

    fn think(&mut self, now: Timestamp) -> Thoughts {
        let seed = self.options.seed;
        let policies = self.observer.declared(Kind::ConsolidationPolicy).into_iter();
        let known = Known {
            policies: policies.filter_map(|(name, own)| Some((PolicyName::new(name.as_str()), own.uid?))).collect(),
            over: self.observer.plans_over().clone(),
        };
        let drifted = self.observer.drifted_migration_policies().collect();
        let (snapshot, policies) = self.observer.snapshot();
        Thoughts { drifted, ..pass::think(snapshot, policies, &known, now, seed) }
    }

    /// Borrows the histories from the store for the pass.
    fn borrow_load(&mut self) -> LoadView {
        let now = self.clock.now();
        let inventory = Inventory::of(self.observer.snapshot().0);
        let mut store = self.load.lock();
        store.set_inventory(inventory, now);
        let view = LoadView::of(&store, now);
        for (reason, count) in store.refused() {
            self.metrics.samples.with_label_values(&[*reason]).set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        self.metrics.samples.with_label_values(&["Accepted"]).set(i64::try_from(store.accepted()).unwrap_or(i64::MAX));
        for asked in store.prometheus().iter().flat_map(|report| &report.asked) {
            for (what, count) in [("series", asked.series), ("known", asked.known)] {
                let gauge = self.metrics.prometheus.with_label_values(&[asked.about, what]);
                gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        *self.observer.load_mut() = store.lend();
        view
    }

    /// What meters say, and what they are asked next.
    fn metered(&mut self, now: Timestamp) -> Metered {
        let questions = energy::questions(self.observer.snapshot().1);
        let mut store = self.load.lock();
        store.set_watts_questions(questions);
        store.metered(now)
    }

    /// Gives the histories back, and tells the store who exists: of nobody else it believes anything.
    fn return_load(&mut self, now: Timestamp) {
        let table = std::mem::take(self.observer.load_mut());
        let mut store = self.load.lock();
        store.take_back(table);
        store.learn(self.observer.snapshot().0, now);
    }

    fn expect(&mut self, written: Vec<Written>) {
        for object in written {
            match object {
                Written::Plan(plan) => self.observer.expect_written(&*plan),
                Written::Migration(migration) => self.observer.expect_written(&*migration),
            }
        }
    }

    async fn forget_old_plans(&mut self, deadline: Deadline, now: Timestamp) {
        let keep = self.options.keep_plans;
        for (name, uid) in self.observer.plans_over_before(now - keep).into_iter().take(FORGOTTEN_AT_ONCE) {
            if let Err(error) = deadline.within(self.actor.forget_plan(&name, &uid)).await {
                self.failed(&error);
            }
        }
    }
}
