//! Load from a Prometheus server, whose every answer the tests write.

use super::*;
use crate::observe::load::{
    SharedLoadStore, WattsQuestion,
    prometheus::{Poller, Query, Questions},
};
use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// What the server says.
#[derive(Clone)]
enum Says {
    /// Series of the four metrics, by query prefix.
    Series(fn(query: &str, now: Timestamp) -> Value),
    /// Something else.
    Text(u16, String),
    /// Nothing.
    Nothing,
    /// More than anybody wants.
    TooMuch,
}

struct Stand {
    store: SharedLoadStore,
    says: Arc<Mutex<Says>>,
    begun: Instant,
}

fn clock(begun: Instant) -> Timestamp {
    START + begun.elapsed()
}

impl Stand {
    fn new(says: Says, questions: Questions) -> Self {
        let stand = Self { store: SharedLoadStore::default(), says: Arc::new(Mutex::new(says)), begun: Instant::now() };
        stand.store.lock().set_inventory(inventory(&["a", "b"], &[("web", "u1", "a")]), START);
        let (says, begun) = (Arc::clone(&stand.says), stand.begun);
        let service = tower::service_fn(move |request: Request<Body>| {
            let says = says.lock().unwrap().clone();
            async move { Ok::<_, Infallible>(answer(says, request.uri().query().unwrap_or_default(), clock(begun)).await) }
        });
        let client = kube::Client::new(service, "default");
        let poller = Poller::new(client, questions, stand.store.clone(), Arc::new(move || clock(begun)));
        tokio::spawn(poller.poll());
        stand
    }

    fn now(&self) -> Timestamp {
        clock(self.begun)
    }

    fn reasons(&self) -> Vec<&'static str> {
        let store = self.store.lock();
        store
            .prometheus()
            .map_or_else(Vec::new, |report| report.problems.iter().map(|problem| problem.reason()).collect())
    }

    fn problem(&self) -> String {
        let store = self.store.lock();
        let problem = store.prometheus().and_then(|report| report.problems.first().cloned());
        problem.map_or_else(String::new, |problem| problem.to_string())
    }

    fn node_window(&self) -> WindowAverage {
        node_window(&mut self.store.lock(), "a", self.now(), SECOND * 5)
    }
}

async fn answer(says: Says, query: &str, now: Timestamp) -> Response<Body> {
    let respond =
        |status: u16, text: String| Response::builder().status(status).body(Body::from(text.into_bytes())).unwrap();
    match says {
        Says::Series(series) => {
            let matrix = query.contains("%5B");
            let result = series(query.trim_start_matches("query="), now);
            let kind = if matrix { "matrix" } else { "vector" };
            respond(200, json!({"status": "success", "data": {"resultType": kind, "result": result}}).to_string())
        }
        Says::Text(status, text) => respond(status, text),
        Says::Nothing => std::future::pending().await,
        Says::TooMuch => {
            static TOO_MUCH: OnceLock<bytes::Bytes> = OnceLock::new();
            let body = TOO_MUCH.get_or_init(|| vec![b' '; (64 << 20) + 1].into()).clone();
            Response::new(Body::from(body))
        }
    }
}

/// Samples of a counter that grows by `cores` a second and is scraped every 15 s, the newest up to 14 s old.
fn counter(now: Timestamp, cores: f64) -> Value {
    let newest = now.second() / 15 * 15;
    (0..6).rev().map(|back| newest - back * 15).map(|at| json!([at, format!("{}", at as f64 * cores)])).collect()
}

fn healthy(query: &str, now: Timestamp) -> Value {
    let labels = json!({"node": "a", "namespace": "default", "name": "web", "pod": "virt-handler-x"});
    match query.split(['%', '[', '{']).next().unwrap_or_default() {
        "container_cpu_usage_seconds_total" => json!([
            {"metric": {"node": "a", "id": "/"}, "values": counter(now, 3.0)},
            {"metric": {"node": "b", "id": "/"}, "values": counter(now, 0.5)},
        ]),
        "kubevirt_vmi_cpu_usage_seconds_total" => json!([
            {"metric": labels, "values": counter(now, 1.5)},
            {"metric": {"node": "b", "namespace": "default", "name": "web"}, "values": counter(now, 7.0)},
        ]),
        "container_memory_working_set_bytes" => json!([{"metric": {"node": "a"}, "value": [now.second(), "1e9"]}]),
        _ => json!([{"metric": labels, "value": [now.second(), "5e8"]}]),
    }
}

#[tokio::test(start_paused = true)]
async fn load_comes_in_with_the_scrape_intervals_own_window() {
    let stand = Stand::new(Says::Series(healthy), Questions::default());
    sleep(Duration::from_secs(2)).await;
    assert_eq!(stand.reasons(), [""; 0]);
    {
        let mut store = stand.store.lock();
        let report = store.prometheus().cloned().unwrap();
        assert_eq!((report.scrape_interval, report.measured), (Some(SECOND * 15), 3));
        assert_eq!(store.vm_figures(&vm("web")).unwrap().1.memory.unwrap().0, 500_000_000);
        assert_eq!(full(vm_window(&mut store, "web", stand.now(), SECOND * 5)), 1.5, "as seen where it runs");
    }
    assert_eq!(full(stand.node_window()), 3.0);
    // A window of five seconds means one of four scrapes, and those of a quarter of an hour are not there yet.
    let long = node_window(&mut stand.store.lock(), "a", stand.now(), SECOND * 900);
    assert!(matches!(long, WindowAverage::Filling { want: 900, .. }), "{long:?}");
    // It goes on.
    sleep(Duration::from_secs(600)).await;
    assert_eq!(full(stand.node_window()), 3.0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_is_named_and_its_last_figures_grow_stale() {
    let broken = [
        (Says::Text(503, "upstream connect error".to_owned()), "PrometheusHttpStatus"),
        (Says::Text(200, "<!doctype html><title>Log in</title>".to_owned()), "NotPrometheus"),
        (Says::Text(302, String::new()), "PrometheusHttpStatus"),
        (Says::Text(200, "{\"status\":\"success\"".to_owned()), "NotPrometheus"),
        (Says::Text(400, json!({"status": "error", "error": "parse error"}).to_string()), "PrometheusQueryRefused"),
        (Says::Nothing, "PrometheusTooSlow"),
        (Says::TooMuch, "PrometheusAnswerTooLarge"),
        (Says::Series(|_, _| json!([])), "PrometheusNoSeries"),
    ];
    for (says, reason) in broken {
        let stand = Stand::new(Says::Series(healthy), Questions::default());
        sleep(Duration::from_secs(20)).await;
        full(stand.node_window());
        *stand.says.lock().unwrap() = says;
        sleep(Duration::from_secs(120)).await;
        assert_eq!(stand.reasons().first(), Some(&reason));
        assert!(matches!(stand.node_window(), WindowAverage::Stale { .. }), "{reason}");
        *stand.says.lock().unwrap() = Says::Series(healthy);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(stand.reasons(), [""; 0]);
        full(stand.node_window());
    }
}

/// What an exporter of BMCs might say: of `a` something that can be, of `b` what the case says.
fn exporter(query: &str, now: Timestamp, of_b: &str) -> Value {
    if !query.starts_with("bmc_watts") {
        return healthy(query, now);
    }
    let value = |watts: &str| json!([now.second(), watts]);
    json!([
        {"metric": {"host": "a"}, "value": value("180.5")},
        {"metric": {"host": "b"}, "value": value(of_b)},
        {"metric": {"host": "stranger"}, "value": value("1")},
        {"metric": {"instance": "10.0.0.1"}, "value": value("1")},
    ])
}

#[tokio::test(start_paused = true)]
async fn watts_are_asked_for_and_only_those_that_can_be_are_believed() {
    let asked = |stand: &Stand| {
        let metered = stand.store.lock().metered(stand.now());
        ["a", "b"].map(|name| metered.asked.get(&node(name)).map(|watts| watts.value()))
    };
    let question = || vec![WattsQuestion { query: "bmc_watts".into(), node_label: "host".into() }];
    type Case = (fn(&str, Timestamp) -> Value, Option<f64>);
    let cases: [Case; 5] = [
        (|query, now| exporter(query, now, "90"), Some(90.0)),
        (|query, now| exporter(query, now, "NaN"), None),
        (|query, now| exporter(query, now, "-3"), None),
        (|query, now| exporter(query, now, "+Inf"), None),
        (|query, now| exporter(query, now, "1e9"), None),
    ];
    for (says, of_b) in cases {
        let stand = Stand::new(Says::Series(says), Questions::default());
        stand.store.lock().set_watts_questions(question());
        sleep(Duration::from_secs(20)).await;
        assert_eq!(asked(&stand), [Some(180.5), of_b]);
        assert_eq!(stand.reasons(), [""; 0], "the load is as good as ever");
        // A server that says nothing more: the last figure is not believed for long.
        *stand.says.lock().unwrap() = Says::Text(503, String::new());
        sleep(Duration::from_secs(120)).await;
        assert_eq!(asked(&stand), [None, None]);
    }
    let twice = |query: &str, now: Timestamp| {
        let mut series = exporter(query, now, "90");
        if query.starts_with("bmc_watts") {
            let again = json!({"metric": {"host": "a", "sensor": "2"}, "value": [now.second(), "20"]});
            series.as_array_mut().unwrap().push(again);
        }
        series
    };
    let stand = Stand::new(Says::Series(twice), Questions::default());
    stand.store.lock().set_watts_questions(question());
    sleep(Duration::from_secs(20)).await;
    assert_eq!(asked(&stand), [None, Some(90.0)], "nobody knows which of two series is meant");
    // Nobody has a meter: nobody is asked.
    let stand = Stand::new(Says::Series(|query, now| exporter(query, now, "90")), Questions::default());
    sleep(Duration::from_secs(20)).await;
    assert_eq!(asked(&stand), [None, None]);
}

#[tokio::test(start_paused = true)]
async fn other_labels_are_named_with_the_flag_that_helps() {
    let says = |_: &str, now: Timestamp| json!([{"metric": {"instance": "10.0.0.1:10250", "job": "kubelet"}, "values": counter(now, 1.0)}]);
    let stand = Stand::new(Says::Series(says), Questions::default());
    sleep(Duration::from_secs(2)).await;
    assert_eq!(stand.reasons(), ["PrometheusMissingLabel", "PrometheusMissingLabel"]);
    let text = stand.problem();
    assert!(
        text.contains("\"node\"") && text.contains("instance, job") && text.contains("--prometheus-node-label"),
        "{text}"
    );
    let questions = Questions { node_label: "instance".to_owned(), ..Questions::default() };
    let stand = Stand::new(Says::Series(says), questions);
    sleep(Duration::from_secs(2)).await;
    assert!(stand.problem().contains("10.0.0.1:10250"), "{}", stand.problem());
    assert_eq!(stand.node_window(), WindowAverage::Never);
}

/// A Prometheus whose cAdvisor tells nothing of whole nodes, as kube-prometheus-stack's does by default. Of nodes
/// node-exporter tells, by their addresses, one counter for each CPU and mode.
fn stack(query: &str, now: Timestamp, sums: bool) -> Value {
    let metric = query.trim_start_matches("%28").split(['%', '[', '{']).next().unwrap_or_default();
    let exporter = |host: &str| json!({"instance": format!("{host}:9100"), "job": "node-exporter"});
    match metric {
        "kubevirt_vmi_cpu_usage_seconds_total" => healthy(query, now),
        "sum" if sums => json!([
            {"metric": exporter("192.0.2.1"), "values": counter(now, 3.0)},
            {"metric": exporter("192.0.2.2"), "values": counter(now, 0.5)},
        ]),
        "node_cpu_seconds_total" => {
            let of = |host: &str, cpu: &str, mode: &str, cores: f64| {
                let mut labels = exporter(host);
                (labels["cpu"], labels["mode"]) = (json!(cpu), json!(mode));
                json!({"metric": labels, "values": counter(now, cores)})
            };
            json!([
                of("192.0.2.1", "0", "user", 1.0),
                of("192.0.2.1", "1", "user", 1.5),
                of("192.0.2.1", "1", "system", 0.5),
                of("192.0.2.1", "0", "idle", 0.1),
                of("192.0.2.2", "0", "user", 0.5),
            ])
        }
        _ => json!([]),
    }
}

fn at_addresses(stand: &Stand) {
    let mut known = inventory(&["a", "b"], &[("web", "u1", "a")]);
    known.addresses =
        [("a", "192.0.2.1"), ("b", "192.0.2.2")].map(|(name, address)| (node(name), vec![address.to_owned()])).into();
    stand.store.lock().set_inventory(known, START);
}

#[tokio::test(start_paused = true)]
async fn node_exporter_tells_of_nodes_where_cadvisor_does_not() {
    type Answer = fn(&str, Timestamp) -> Value;
    let answers: [Answer; 2] = [|query, now| stack(query, now, true), |query, now| stack(query, now, false)];
    for says in answers {
        let stand = Stand::new(Says::Series(says), Questions::default());
        at_addresses(&stand);
        sleep(Duration::from_secs(20)).await;
        assert_eq!(stand.reasons(), [""; 0]);
        assert_eq!(full(stand.node_window()), 3.0);
        let store = stand.store.lock();
        let asked = &store.prometheus().unwrap().asked;
        let told: Vec<_> = asked.iter().map(|asked| (asked.about, asked.known)).collect();
        assert_eq!(told, [("vms", 1), ("nodes", 2)]);
        assert!(asked[1].query.contains("node_cpu_seconds_total"), "{asked:?}");
    }
    let stand = Stand::new(Says::Series(|query, now| stack(query, now, true)), Questions::default());
    sleep(Duration::from_secs(20)).await;
    let text = stand.problem();
    assert!(text.contains("has no label \"node\""), "no address is known: {text}");
    let none = Stand::new(Says::Series(|_, _| json!([])), Questions::default());
    sleep(Duration::from_secs(2)).await;
    let store = none.store.lock();
    let said: Vec<String> = store.prometheus().unwrap().problems.iter().map(ToString::to_string).collect();
    assert!(said[1].contains("node_cpu_seconds_total") && said[1].contains("cAdvisorMetricRelabelings"), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn two_series_of_one_node_are_an_error_that_names_both() {
    let questions =
        || Questions { node_cpu: Some(Query::read("node_cpu_seconds_total").unwrap()), ..Questions::default() };
    let stand = Stand::new(Says::Series(|query, now| stack(query, now, true)), questions());
    at_addresses(&stand);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(stand.reasons(), ["PrometheusAmbiguous"]);
    let text = stand.problem();
    assert!(text.contains("node a") && text.contains("cpu=\"0\"") && text.contains("cpu=\"1\""), "{text}");
    assert!(text.contains("--prometheus-node-cpu"), "{text}");
    assert_eq!(stand.node_window(), WindowAverage::Never, "neither of them counts");
    let other = node_window(&mut stand.store.lock(), "b", stand.now(), SECOND * 5);
    assert_eq!(full(other), 0.5, "the other node's is clear");
}

#[tokio::test(start_paused = true)]
async fn a_series_that_ended_is_replaced_and_a_second_one_of_a_vm_is_not_believed() {
    fn two(query: &str, now: Timestamp, gap: i64) -> Value {
        if !query.starts_with("kubevirt_vmi_cpu") {
            return healthy(query, now);
        }
        let labels = |pod: &str| json!({"node": "a", "namespace": "default", "name": "web", "pod": pod});
        let mut before = counter(now, 0.7);
        before
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .for_each(|sample| sample[0] = json!(sample[0].as_i64().unwrap() - gap));
        json!([
            {"metric": labels("virt-handler-y"), "values": counter(now, 1.5)},
            {"metric": labels("virt-handler-x"), "values": before},
        ])
    }
    let replaced = Stand::new(Says::Series(|query, now| two(query, now, 90)), Questions::default());
    sleep(Duration::from_secs(20)).await;
    assert_eq!(replaced.reasons(), [""; 0]);
    assert_eq!(full(vm_window(&mut replaced.store.lock(), "web", replaced.now(), SECOND * 5)), 1.5);
    let doubled = Stand::new(Says::Series(|query, now| two(query, now, 7)), Questions::default());
    sleep(Duration::from_secs(20)).await;
    assert_eq!(doubled.reasons(), ["PrometheusAmbiguous"]);
    assert!(doubled.problem().contains("VM default/web"), "{}", doubled.problem());
    assert_eq!(vm_window(&mut doubled.store.lock(), "web", doubled.now(), SECOND * 5), WindowAverage::Never);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_vms_use_more_than_it_does_is_not_known() {
    fn of_node(query: &str, now: Timestamp, cores: f64) -> Value {
        if query.starts_with("container_cpu") {
            return json!([
                {"metric": {"node": "a", "id": "/"}, "values": counter(now, cores)},
                {"metric": {"node": "b", "id": "/"}, "values": counter(now, 0.5)},
            ]);
        }
        healthy(query, now)
    }
    let stand = Stand::new(Says::Series(|query, now| of_node(query, now, 0.05)), Questions::default());
    sleep(Duration::from_secs(20)).await;
    assert_eq!(stand.reasons(), ["PrometheusContradiction"]);
    let text = stand.problem();
    assert!(text.contains("node a") && text.contains("1.5") && text.contains("kubevirt_vmi"), "{text}");
    assert_eq!(stand.node_window(), WindowAverage::Never);
    let other = node_window(&mut stand.store.lock(), "b", stand.now(), SECOND * 5);
    assert_eq!(full(other), 0.5, "no VM contradicts the other node's");
    // A little less is what scrapes at different moments may show.
    let stand = Stand::new(Says::Series(|query, now| of_node(query, now, 1.2)), Questions::default());
    sleep(Duration::from_secs(20)).await;
    assert_eq!(stand.reasons(), [""; 0]);
    full(stand.node_window());
}

#[tokio::test(start_paused = true)]
async fn a_full_query_is_taken_as_cores_or_as_a_counter() {
    fn says(query: &str, now: Timestamp) -> Value {
        if !query.starts_with("%28") {
            return healthy(query, now);
        }
        let step = query.split("%3A").last().unwrap_or_default().trim_end_matches("s%5D").parse().unwrap_or(15);
        let newest = now.second() / step * step;
        let rated = query.contains("rate%28");
        let value = |at: i64| if rated { 2.5 } else { at as f64 * 2.5 };
        let samples: Vec<_> =
            (0..6).rev().map(|back| newest - back * step).map(|at| json!([at, value(at).to_string()])).collect();
        json!([{"metric": {"node": "a"}, "values": samples}])
    }
    for query in [
        "sum by (node) (node_cpu_seconds_total{mode!=\"idle\"})",
        "sum by (node) (rate(node_cpu_seconds_total{mode!=\"idle\"}[1m]))",
    ] {
        let questions = Questions { node_cpu: Some(Query::read(query).unwrap()), ..Questions::default() };
        let stand = Stand::new(Says::Series(says), questions);
        sleep(Duration::from_secs(20)).await;
        assert_eq!(stand.reasons(), [""; 0], "{query}");
        assert_eq!(full(stand.node_window()), 2.5, "{query}");
        assert_eq!(stand.store.lock().prometheus().unwrap().scrape_interval, Some(SECOND * 15), "as the VMs' tell");
    }
}

#[tokio::test(start_paused = true)]
async fn nonsense_values_are_refused_with_their_reason() {
    type Answer = fn(&str, Timestamp) -> Value;
    let cases: [(Answer, &str); 4] = [
        (|_, now| values(now, ["NaN", "NaN", "NaN"]), "NotFinite"),
        (|_, now| values(now, ["1", "+Inf", "2"]), "NotFinite"),
        (|_, now| values(now, ["0", "1e9", "2e9"]), "Absurd"),
        (|_, now| values(now + SECOND * 3600, ["0", "1", "2"]), "ClockSkew"),
    ];
    for (says, reason) in cases {
        let stand = Stand::new(Says::Series(says), Questions::default());
        sleep(Duration::from_secs(2)).await;
        assert!(stand.reasons().contains(&"PrometheusUnbelievable"), "{reason}: {:?}", stand.reasons());
        assert!(matches!(stand.node_window(), WindowAverage::Never), "{reason}");
    }
}

fn values(now: Timestamp, values: [&str; 3]) -> Value {
    let samples: Vec<_> =
        (0..).zip(values).map(|(step, value)| json!([now.second() - 30 + step * 15, value])).collect();
    json!([{"metric": {"node": "a", "namespace": "default", "name": "web"}, "values": samples}])
}

#[tokio::test(start_paused = true)]
async fn a_counter_that_begins_anew_is_no_negative_load() {
    let says = |_: &str, now: Timestamp| values(now, ["1000", "1015", "15"]);
    let stand = Stand::new(Says::Series(says), Questions::default());
    sleep(Duration::from_secs(2)).await;
    assert_eq!(stand.reasons(), [""; 0]);
    let (_, figures) = stand.store.lock().node_figures(&node("a")).unwrap();
    assert_eq!(figures.cpu.value(), 1.0);
}

#[tokio::test(start_paused = true)]
async fn samples_that_are_not_scraped_any_more_are_stale() {
    let says = |query: &str, now: Timestamp| healthy(query, now - SECOND * 120);
    let stand = Stand::new(Says::Series(says), Questions::default());
    sleep(Duration::from_secs(2)).await;
    assert!(stand.reasons().contains(&"PrometheusStale"));
    assert!(matches!(stand.node_window(), WindowAverage::Stale { .. }));
}

#[tokio::test(start_paused = true)]
async fn where_an_agent_speaks_prometheus_is_passed_over_until_the_agent_is_gone() {
    let stand = Stand::new(Says::Series(healthy), Questions::default());
    let stream = stand.store.lock().open_stream(&node("a"));
    for sequence in 1..=60 {
        let now = stand.now();
        let mut heard = sample(sequence, now, 4.0, 1.0);
        heard.vms.clear();
        stand.store.lock().accept(stream, &node("a"), &heard, now);
        sleep(SECOND).await;
    }
    assert_eq!(full(stand.node_window()), 4.0, "the node's agent counts");
    assert_eq!(full(vm_window(&mut stand.store.lock(), "web", stand.now(), SECOND * 5)), 1.5, "it says nothing of VMs");
    sleep(Duration::from_secs(180)).await;
    assert_eq!(full(stand.node_window()), 3.0, "the agent is gone");
}
