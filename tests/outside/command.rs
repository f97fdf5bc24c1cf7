//! The command line in a simulated world: switches stop the operator and let it go on, plans are approved, and
//! explanations tell what happened, all by the API server alone.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::PostParams;
use miyako::clock::SimClock;
use miyako::command::explain::{ExplainError, explain};
use miyako::command::switches::{Switch, resume, turn_on};
use miyako::command::{approve, switches::SwitchError};
use miyako::explain::Explanation;
use miyako::sim::apiserver::{ApiError, Fault, RequestInfo, Verb};
use miyako::sim::simulation::{Scenario, Simulation};
use miyako_core::model::VmKey;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Where the simulation's operators are installed.
const NAMESPACE: &str = "default";

async fn run(world: &mut Simulation, seconds: u32) {
    for _ in 0..seconds {
        world.second().await.expect("the stand-ins see the cluster");
    }
}

/// Six idle VMs on one shared node; from second 60 to 180 one of them is busy.
async fn figure_6(mode: &str) -> Simulation {
    let mut scenario = Scenario::reactive_cloud_figure_6(1);
    for object in scenario.objects.iter_mut().filter(|object| object["kind"] == "ConsolidationPolicy") {
        object["spec"]["mode"] = json!(mode);
    }
    let mut world = Simulation::begin(scenario).await.expect("the scenario is possible");
    // As the chart makes it.
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "miyako-switches", "labels": {"app.kubernetes.io/name": "miyako"}},
    });
    let map: ConfigMap = serde_json::from_value(map).unwrap();
    maps(&world).create(&PostParams::default(), &map).await.unwrap();
    world.start_operator("operator-0").expect("metrics register");
    world
}

fn maps(world: &Simulation) -> Api<ConfigMap> {
    Api::namespaced(world.world.admin.clone(), NAMESPACE)
}

fn node_of(world: &Simulation, vm: &str) -> String {
    world.placement()[&VmKey::new("vms", vm)].clone()
}

async fn told(world: &Simulation, what: &str) -> Result<Explanation, ExplainError> {
    let words: Vec<String> = what.split_whitespace().map(str::to_owned).collect();
    let clock = Arc::new(SimClock::starting_at(world.now()));
    explain(&world.world.admin, NAMESPACE, clock, &words, Duration::from_secs(5)).await
}

/// Compares a text with the one on file, but for times and plans' digests. `MIYAKO_WRITE_GOLDENS=1` writes the file.
fn golden(name: &str, explanation: &Explanation) {
    let text = explanation.to_string();
    let text = regex::Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ").unwrap().replace_all(&text, "TIME");
    let text = regex::Regex::new(r"plan pack-\w+").unwrap().replace_all(&text, "plan pack-DIGEST");
    let path = format!("{}/tests/explain/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("MIYAKO_WRITE_GOLDENS").is_some() {
        std::fs::write(&path, text.as_bytes()).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{path}; if it is better so, run with MIYAKO_WRITE_GOLDENS=1");
}

async fn stops_and_goes_on(switch: Switch) {
    let mut world = figure_6("Automatic").await;
    let admin = world.world.admin.clone();
    run(&mut world, 30).await;
    let first = turn_on(&admin, NAMESPACE, switch, "ana", "audit").await.unwrap();
    assert!(first.changed && first.before.is_empty());
    let again = turn_on(&admin, NAMESPACE, switch, "ana", "audit").await.unwrap();
    assert!(!again.changed, "turning it on twice writes once");
    run(&mut world, 70).await;
    assert!(world.migrations_asked_for().is_empty(), "{:?}", world.migrations_asked_for());
    let stays = told(&world, "vm vms/vm0").await.unwrap();
    assert!(stays.to_string().contains("ana: audit"), "{stays}");
    assert_eq!(stays.would_change.as_deref().map(|change| change.contains("miyako resume")), Some(true), "{stays}");

    let clock = SimClock::starting_at(world.now());
    let resumed = resume(&admin, NAMESPACE, &clock).await.unwrap();
    assert_eq!((resumed.changed, resumed.before.len(), resumed.now.len()), (true, 1, 0));
    let map = maps(&world).get("miyako-switches").await.unwrap();
    assert_eq!(map.metadata.labels.unwrap()["app.kubernetes.io/name"], "miyako", "the chart's labels stay");
    assert!(!resume(&admin, NAMESPACE, &clock).await.unwrap().changed);
    run(&mut world, 40).await;
    assert!(node_of(&world, "vm0").starts_with("dedicated"), "{:?}", world.placement());
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn pause_stops_moves_and_resume_lets_them_go_on() {
    stops_and_goes_on(Switch::Pause).await;
}

#[tokio::test(start_paused = true)]
async fn hold_stops_moves_and_resume_lets_them_go_on() {
    stops_and_goes_on(Switch::Hold).await;
}

#[tokio::test(start_paused = true)]
async fn switches_without_miyako_or_without_a_reason_are_refused() {
    let world = figure_6("Automatic").await;
    let admin = world.world.admin.clone();
    let elsewhere = turn_on(&admin, "vms", Switch::Pause, "ana", "audit").await;
    assert!(matches!(elsewhere, Err(SwitchError::Missing { .. })), "{elsewhere:?}");
    let silent = turn_on(&admin, NAMESPACE, Switch::Hold, "ana", "  ").await;
    assert!(matches!(silent, Err(SwitchError::Reason { .. })), "{silent:?}");
    assert!(maps(&world).get("miyako-switches").await.unwrap().data.is_none());
}

#[tokio::test(start_paused = true)]
async fn explanations_tell_what_moved_and_what_stays() {
    let mut world = figure_6("Automatic").await;
    run(&mut world, 110).await;
    assert!(node_of(&world, "vm0").starts_with("dedicated"), "{:?}", world.placement());
    golden("moved-vm", &told(&world, "vm vms/vm0").await.unwrap());
    golden("staying-vm", &told(&world, "vm5").await.unwrap());
    golden("shared-node", &told(&world, "node shared-0").await.unwrap());
    golden("policy", &told(&world, "pack").await.unwrap());
    golden("overview", &told(&world, "").await.unwrap());
    let nothing = told(&world, "vm vms/vm99").await;
    assert!(matches!(nothing, Err(ExplainError::Nothing(_))), "{nothing:?}");
}

#[tokio::test(start_paused = true)]
async fn a_name_of_two_things_is_ambiguous_and_an_unreadable_cluster_is_said_so() {
    let mut world = figure_6("Off").await;
    let spec = miyako::sim::kubevirt::create::VmSpec::new("vms", "pack", 1, miyako_core::model::Bytes::gib(1));
    world.world.add_vm(&spec, "dedicated-4").await.unwrap();
    run(&mut world, 2).await;
    let ambiguous = told(&world, "pack").await;
    let Err(ExplainError::Ambiguous { meanings, .. }) = ambiguous else { panic!("{ambiguous:?}") };
    assert_eq!(meanings, ["policy pack", "vm vms/pack"]);
    let crashed = world.world.server.client("bob");
    world.world.server.crash("bob");
    let clock = Arc::new(SimClock::starting_at(world.now()));
    let unread = explain(&crashed, NAMESPACE, clock, &[], Duration::from_secs(5)).await;
    let Err(ExplainError::Unread { missing }) = unread else { panic!("{unread:?}") };
    assert!(missing.contains("Node"), "{missing}");
}

#[tokio::test(start_paused = true)]
async fn an_approved_plan_is_carried_out_and_can_t_be_approved_again() {
    let mut world = figure_6("Recommend").await;
    let alice = world.world.server.client("alice");
    run(&mut world, 80).await;
    let plans = approve::waiting(&alice, Some("pack")).await.unwrap();
    assert_eq!(plans.len(), 1, "one wish, one plan");
    let waits = told(&world, "vm vms/vm0").await.unwrap();
    assert_eq!(waits.would_change.as_deref().map(|change| change.contains("miyako approve")), Some(true), "{waits}");
    assert!(approve::waiting(&alice, Some("other")).await.unwrap().is_empty());

    let approvals = approve::approve(&alice, "alice", plans.clone()).await;
    assert!(approvals.plans[0].approved, "{approvals}");
    assert!(approvals.to_string().contains("moves vms/vm0 from shared-0 to dedicated-"), "{approvals}");
    run(&mut world, 40).await;
    assert!(node_of(&world, "vm0").starts_with("dedicated"), "{:?}", world.placement());

    let plans: Api<miyako_api::ConsolidationPlan> = Api::all(alice.clone());
    let over = plans.get(&approvals.plans[0].plan).await.unwrap();
    let again = approve::approve(&alice, "bob", vec![over]).await;
    assert!(!again.plans[0].approved);
    assert!(again.to_string().contains("carried out already"), "{again}");
}

#[tokio::test(start_paused = true)]
async fn a_wake_kit_holds_every_way_and_no_secret() {
    use kube::api::{Patch, PatchParams};
    let mut scenario = Scenario::sleeping(1);
    scenario.add_node("shared-0", "shared", 1, miyako_core::model::Bytes::gib(20));
    scenario.add_node("dedicated-0", "dedicated", 1, miyako_core::model::Bytes::gib(20));
    scenario.trust_all_nodes();
    let world = Simulation::begin(scenario).await.expect("the scenario is possible");
    let admin = &world.world.admin;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "default", "name": "bmc"},
        "stringData": {"username": "admin", "password": "hunter2"},
    });
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(admin.clone(), "default");
    secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    let classes: Api<miyako_api::NodePowerClass> = Api::all(admin.clone());
    let ways = json!({"spec": {"wake": [
        {"driver": "amt", "address": "{node}.amt", "secretRef": {"namespace": "default", "name": "bmc"}},
        {"driver": "wol", "address": "02:00:00:00:00:01"},
    ]}});
    classes.patch("dedicated", &PatchParams::default(), &Patch::Merge(ways)).await.unwrap();
    let kit = miyako::command::wake_kit::read(admin).await.expect("the kit is written");
    let names: Vec<&str> = kit.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["dedicated-0", "shared-0"]);
    assert_eq!(kit.nodes[0].ways.iter().map(|way| way.driver).collect::<Vec<_>>(), ["amt", "wol"]);
    assert_eq!(kit.accounts.iter().map(|account| account.secret.as_str()).collect::<Vec<_>>(), ["default/bmc"]);
    let page = kit.to_string();
    assert!(page.contains("miyako-agent wake wake --driver amt --address dedicated-0.amt"), "{page}");
    assert!(page.contains("http://dedicated-0.amt:16992/wsman") && page.contains("RequestPowerStateChange"), "{page}");
    assert!(page.contains("wakeonlan -i 255.255.255.255 -p 9 02:00:00:00:00:01"), "{page}");
    let json = serde_json::to_string(&kit).unwrap();
    for text in [page, json] {
        assert!(text.contains("default/bmc") && !text.contains("hunter2"), "{text}");
    }
}

/// Without the rights to list everything no patience helps: it is said at once, and in one sentence.
#[tokio::test(start_paused = true)]
async fn an_explanation_without_rights_is_refused_at_once() {
    let world = figure_6("Off").await;
    world.world.server.set_faults(Some(Box::new(|request: &RequestInfo| {
        let refused =
            &*request.actor == "bob" && request.verb == Verb::List && request.resource.ends_with("kubevirt.io");
        let message = format!("{} is forbidden: User \"bob\" cannot list resource", request.resource);
        let answer = ApiError { code: 403, reason: "Forbidden", message, details: None, plain: false };
        refused.then_some(Fault::Refuse(answer))
    })));
    let bob = world.world.server.client("bob");
    let began = tokio::time::Instant::now();
    let clock = Arc::new(SimClock::starting_at(world.now()));
    let refused = explain(&bob, NAMESPACE, clock, &[], Duration::from_secs(30)).await;
    let Err(ExplainError::Forbidden { kinds }) = &refused else { panic!("{refused:?}") };
    assert_eq!(kinds, "MigrationPolicy, KubeVirt, VirtualMachine and 2 more kinds");
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("miyako-explain") && !text.contains('\n'), "{text}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// A log line has its text in the field `message`. A field of that name would be there a second time, and readers of JSON
/// take one of the two.
#[test]
fn no_log_line_has_a_field_called_message() {
    let macros = regex::Regex::new(r"\b(trace|debug|info|warn|error|event|span|(?:\w+_span))!\(").unwrap();
    let field = regex::Regex::new(r"[(,]\s*(?:message\s*=|[%?]?message\s*,)").unwrap();
    let mut looked_at = 0;
    let mut found = Vec::new();
    for package in ["src", "core/src", "api/src", "node-agent/src", "e2e/src", "e2e/lab/src"] {
        for file in rust_files(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(package)) {
            let text = std::fs::read_to_string(&file).unwrap();
            for call in macros.find_iter(&text) {
                looked_at += 1;
                let arguments = arguments(&text[call.end() - 1..]);
                if field.is_match(&without_strings(arguments)) {
                    found.push(format!("{}: {arguments}", file.display()));
                }
            }
        }
    }
    assert!(looked_at > 100, "only {looked_at} calls");
    assert_eq!(found, [""; 0]);
    // Both forms are recognised.
    assert!(field.is_match("(%node, message = change.message, \"power\")"));
    assert!(field.is_match("(message, \"power\")") && field.is_match("(%node, %message, \"power\")"));
}

fn rust_files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(rust_files(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
    found
}

/// From an opening bracket to the one that closes it.
fn arguments(text: &str) -> &str {
    let mut depth = 0;
    let mut quoted = false;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return &text[..=at];
                }
            }
            _ => {}
        }
    }
    text
}

/// The same without what stands in quotes.
fn without_strings(text: &str) -> String {
    regex::Regex::new(r#""(?:[^"\\]|\\.)*""#).unwrap().replace_all(text, "\"\"").into_owned()
}
