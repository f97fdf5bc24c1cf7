//! Over in-memory streams under paused time: what happens when either end is slow, silent, dead or lying.

use crate::wire::scene::{cpu_of, refused, store};
use futures::{FutureExt as _, future::BoxFuture};
use hyper_util::rt::TokioIo;
use miyako::observe::load::{
    NodeProblem, SharedLoadStore,
    agents::{Authenticate, AuthenticationError, LoadService, Speaker, serve_connections},
};
use miyako_agent::{
    generator::{Carry, Generator, Scenario},
    stream::{Connection, Dial, DialError, Fleet, endpoint},
};
use miyako_core::model::{NodeName, Span, Timestamp, WindowAverage};
use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex, split},
    sync::mpsc,
    task::{AbortHandle, JoinHandle},
    time::{Duration, Instant, sleep},
};
use tokio_stream::wrappers::ReceiverStream;

const SECOND: Duration = Duration::from_secs(1);

/// Lets everybody in whose token names a node; while `hangs`, nobody gets an answer.
#[derive(Default)]
struct Doorkeeper {
    hangs: AtomicBool,
}

impl Authenticate for Doorkeeper {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Speaker, AuthenticationError>> {
        async move {
            if self.hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            let node = token.strip_prefix("agent-on:").map(NodeName::new);
            node.map(|node| Speaker { node, pod: None }).ok_or(AuthenticationError::NoToken)
        }
        .boxed()
    }
}

/// One operator replica that can be stopped and started, and the cable to it, which can be cut without anybody
/// being told.
pub(crate) struct Stand {
    pub(crate) store: SharedLoadStore,
    doorkeeper: Arc<Doorkeeper>,
    pub(crate) begun: Instant,
    pub(crate) cable: Cable,
    server: JoinHandle<()>,
}

#[derive(Clone, Default)]
pub(crate) struct Cable {
    operator: Arc<Mutex<Option<mpsc::Sender<DuplexStream>>>>,
    cut: Arc<AtomicBool>,
    dialled: Arc<AtomicUsize>,
    carriers: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Cable {
    /// A stream to the operator, if it listens.
    fn plug_in(&self) -> io::Result<DuplexStream> {
        self.dialled.fetch_add(1, Ordering::SeqCst);
        let (ours, agent_side) = duplex(16 * 1024);
        let (operator_side, theirs) = duplex(16 * 1024);
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let operator = self.operator.lock().unwrap().clone().ok_or_else(refused)?;
        operator.try_send(theirs).map_err(|_| refused())?;
        let (from_agent, to_agent) = split(agent_side);
        let (from_operator, to_operator) = split(operator_side);
        let carriers = [
            tokio::spawn(carry_bytes(from_agent, to_operator, Arc::clone(&self.cut))),
            tokio::spawn(carry_bytes(from_operator, to_agent, Arc::clone(&self.cut))),
        ];
        self.carriers.lock().unwrap().extend(carriers.map(|carrier| carrier.abort_handle()));
        Ok(ours)
    }
}

/// Carries bytes until either end closes; once the cable is cut they vanish and no end is told.
async fn carry_bytes(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    cut: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if cut.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

pub(crate) struct CableDialer {
    pub(crate) cable: Cable,
    pub(crate) token: String,
}

impl Dial for CableDialer {
    type Address = String;

    async fn dial(&self, _: &String) -> Result<Connection, DialError> {
        let cable = self.cable.clone();
        let connector = tower::service_fn(move |_: http::Uri| {
            let plugged = cable.plug_in().map(TokioIo::new);
            async move { plugged }
        });
        let channel = endpoint("http://operator".to_owned())?.connect_with_connector(connector).await?;
        Ok(Connection { channel, authorization: format!("Bearer {}", self.token).parse().ok() })
    }
}

impl Stand {
    pub(crate) fn new() -> Self {
        let begun = Instant::now();
        let stand = Self {
            store: store(clock(begun)),
            doorkeeper: Arc::default(),
            begun,
            cable: Cable::default(),
            server: tokio::spawn(async {}),
        };
        stand.started()
    }

    fn started(mut self) -> Self {
        self.start();
        self
    }

    pub(crate) fn start(&mut self) {
        let (plugs, connections) = mpsc::channel(8);
        *self.cable.operator.lock().unwrap() = Some(plugs);
        let begun = self.begun;
        let service = LoadService::new(self.doorkeeper.clone(), self.store.clone(), Arc::new(move || clock(begun)));
        let service = service.with_wakers(self.doorkeeper.clone());
        self.server = tokio::spawn(async move {
            serve_connections(service, ReceiverStream::new(connections), std::future::pending()).await.unwrap();
        });
    }

    /// The operator's process dies: every connection is gone with it.
    pub(crate) fn stop(&mut self) {
        *self.cable.operator.lock().unwrap() = None;
        self.server.abort();
        self.cable.carriers.lock().unwrap().drain(..).for_each(|carrier| carrier.abort());
    }

    fn generator(&self, scenario: &str) -> Generator {
        let (cable, begun) = (self.cable.clone(), self.begun);
        let carry: Carry = Box::new(move |node, newest, clock, seed| {
            let dialer = CableDialer { cable: cable.clone(), token: format!("agent-on:{}", node.name) };
            let mut fleet = Fleet::new(dialer, newest, clock, seed);
            async move {
                fleet.set_replicas(&BTreeSet::from(["operator".to_owned()]));
                std::future::pending().await
            }
            .boxed()
        });
        let mut generator = Generator::new(carry, Arc::new(move || clock(begun).millis()), 7);
        generator.set_scenario(Scenario::parse(scenario).unwrap());
        generator
    }

    fn window(&self, node: &str) -> WindowAverage {
        let table = self.store.lock().lend();
        let average = table
            .nodes
            .get(&NodeName::new(node))
            .map_or(WindowAverage::Never, |history| history.average(clock(self.begun), Span::from_secs(5)));
        self.store.lock().take_back(table);
        average
    }
}

/// Simulated time as a wall clock's.
pub(crate) fn clock(begun: Instant) -> Timestamp {
    Timestamp::from_secs(1_800_000_000) + begun.elapsed()
}

const HONEST: &str = "{nodes: [{name: node-1, tokenFile: t, cores: 16, systemCores: 1}], \
    vms: [{namespace: default, name: web, uid: uid-1, node: node-1, cpu: [{cores: 2}]}]}";

fn with_faults(faults: &str) -> String {
    format!("{{nodes: [{{name: node-1, tokenFile: t, cores: 16, systemCores: 1, faults: [{faults}]}}]}}")
}

#[tokio::test(start_paused = true)]
async fn a_window_fills_in_its_own_length_and_one_tick() {
    let stand = Stand::new();
    let _generator = stand.generator(HONEST);
    sleep(SECOND * 7).await;
    assert_eq!(stand.window("node-1").full().map(|cores| cores.value()), Some(3.0));
    assert_eq!(stand.store.lock().refused().values().sum::<u64>(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_comes_back_is_found_again() {
    let mut stand = Stand::new();
    let _generator = stand.generator(HONEST);
    sleep(SECOND * 10).await;
    stand.stop();
    sleep(SECOND * 60).await;
    assert!(matches!(stand.window("node-1"), WindowAverage::Stale { .. }));
    let tries = stand.cable.dialled.load(Ordering::SeqCst);
    assert!((3..60).contains(&tries), "it backs off: {tries} tries in a minute");
    stand.start();
    sleep(SECOND * 30).await;
    assert!(stand.window("node-1").full().is_some());
    assert_eq!(refused(&stand.store, "ClockSkew"), 0, "nothing from before the break was sent after it");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_falls_silent_is_noticed() {
    let stand = Stand::new();
    let _generator = stand.generator(&with_faults("{from: 10, fault: silent}"));
    sleep(SECOND * 9).await;
    assert_eq!(stand.store.lock().problems(clock(stand.begun)), [].into());
    sleep(SECOND * 6).await;
    assert!(matches!(stand.window("node-1"), WindowAverage::Stale { .. }));
    let problems = stand.store.lock().problems(clock(stand.begun));
    assert!(matches!(problems.get(&NodeName::new("node-1")), Some(NodeProblem::Silent { .. })), "{problems:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cut_cable_is_noticed_by_both_ends_within_seconds() {
    let stand = Stand::new();
    let _generator = stand.generator(HONEST);
    sleep(SECOND * 10).await;
    assert_eq!(stand.store.lock().agents_connected(), 1);
    stand.cable.cut.store(true, Ordering::SeqCst);
    sleep(SECOND * 10).await;
    assert!(stand.cable.dialled.load(Ordering::SeqCst) > 1, "the agent dials anew");
    assert_eq!(stand.store.lock().agents_connected(), 0, "the operator knows that the agent is gone");
    stand.cable.cut.store(false, Ordering::SeqCst);
    sleep(SECOND * 30).await;
    assert!(stand.window("node-1").full().is_some());
}

#[tokio::test(start_paused = true)]
async fn samples_that_could_not_be_sent_are_dropped_not_queued() {
    let stand = Stand::new();
    stand.doorkeeper.hangs.store(true, Ordering::SeqCst);
    let _generator = stand.generator(HONEST);
    sleep(SECOND * 120).await;
    assert_eq!(stand.store.lock().accepted(), 0);
    stand.doorkeeper.hangs.store(false, Ordering::SeqCst);
    sleep(SECOND * 30).await;
    let accepted = stand.store.lock().accepted();
    assert!((1..=60).contains(&accepted), "two minutes of samples did not come late: {accepted}");
    assert_eq!(refused(&stand.store, "HeldBack") + refused(&stand.store, "ClockSkew"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_claims_another_node_is_cut_off_and_counted() {
    let stand = Stand::new();
    let _generator = stand.generator(&with_faults("{from: 10, until: 20, fault: wrongNode, claim: node-2}"));
    sleep(SECOND * 19).await;
    assert!(refused(&stand.store, "WrongNode") > 0);
    assert_eq!(cpu_of(&stand.store, "node-2"), None);
    let problem = stand.store.lock().problems(clock(stand.begun)).remove(&NodeName::new("node-1"));
    assert!(problem.is_some(), "its own node shows a problem");
    sleep(SECOND * 30).await;
    assert!(stand.window("node-1").full().is_some(), "once honest it is heard again");
}

#[tokio::test(start_paused = true)]
async fn samples_that_can_not_be_true_are_refused_and_never_enter_a_window() {
    for (fault, reason) in [
        ("fault: notANumber", "NotFinite"),
        ("fault: negative", "Negative"),
        ("fault: absurd", "Absurd"),
        ("fault: clockOff, seconds: 3600", "ClockSkew"),
        ("fault: clockOff, seconds: -3600", "ClockSkew"),
        ("fault: heldBack, seconds: 10", "HeldBack"),
        ("fault: heldBack, seconds: -10", "SampledAfterSent"),
        ("fault: sameSequence", "OutOfOrder"),
    ] {
        let stand = Stand::new();
        let _generator = stand.generator(&with_faults(&format!("{{from: 10, {fault}}}")));
        sleep(SECOND * 20).await;
        assert!(refused(&stand.store, reason) > 0, "{fault}: {:?}", stand.store.lock().refused());
        assert!(matches!(stand.window("node-1"), WindowAverage::Stale { .. }), "{fault}");
        let problems = stand.store.lock().problems(clock(stand.begun));
        let problem = problems.get(&NodeName::new("node-1")).map(NodeProblem::reason);
        assert_eq!(problem, Some(reason), "{fault}");
        assert_eq!(cpu_of(&stand.store, "node-1"), Some(1.0), "{fault}: the last good figure");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_run() {
    let run = async || {
        let mut stand = Stand::new();
        let _generator = stand.generator(HONEST);
        sleep(SECOND * 5).await;
        stand.stop();
        sleep(SECOND * 45).await;
        stand.start();
        sleep(SECOND * 45).await;
        (stand.cable.dialled.load(Ordering::SeqCst), stand.store.lock().accepted())
    };
    assert_eq!(run().await, run().await);
}
