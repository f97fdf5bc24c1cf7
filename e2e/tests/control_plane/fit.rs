//! Rule 1 against the real scheduler and the real admission: where the planner says that a pod fits, the scheduler binds
//! it, and the quotas let it in.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{
    Node as KubeNode, PersistentVolume, PersistentVolumeClaim, Pod as KubePod, ResourceQuota, ServiceAccount,
};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::wait::await_condition;
use miyako::observe::convert;
use miyako_core::fit::{Candidate, Misfit, Moment, Occupancy};
use miyako_core::model::{Name, Namespace, NodeName, NodeSelector, Snapshot};
use miyako_e2e::control_plane::objects;
use miyako_e2e::random_pods;
use miyako_e2e::scene::Scene;
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// `MIYAKO_SEED` tries other pods; a failure prints the seed.
const SEED: u64 = 7;
const NODES: usize = 15;
const RESIDENTS: usize = 30;
const CANDIDATES: usize = 300;
const VOLUMES: usize = 6;
const QUOTAS: usize = 6;
const PODS_PER_QUOTA: usize = 12;

/// How the two answers to one pod compare.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Comparison {
    /// The scheduler bound it to a node that we call fitting, or neither finds a node.
    Agree { bound: bool },
    /// We call a node fitting and the scheduler finds none: rule 1 is broken.
    FitsOnlyForUs,
    /// The scheduler bound it to a node that we refuse: a lost opportunity, no danger.
    BindsOnlyForScheduler,
}

pub(crate) async fn answers_as_the_scheduler_does(scene: Arc<Scene>) -> anyhow::Result<()> {
    let seed = std::env::var("MIYAKO_SEED").ok().map_or(Ok(SEED), |seed| seed.parse()).context("MIYAKO_SEED")?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let nodes = random_pods::nodes(&mut random, NODES);
    scene.add_nodes(&nodes).await?;
    let names: Vec<String> = (0..NODES).map(|index| format!("random-{index}")).collect();
    scene.wait_for_default_account().await?;
    let pods: Api<KubePod> = Api::namespaced(scene.admin(), scene.namespace());
    for index in 0..RESIDENTS {
        let node = &names[random.random_range(0..names.len())];
        create(&pods, &random_pods::resident(&mut random, &format!("resident-{index}"), node)).await?;
    }
    let places = provide_volumes(&scene, &mut random).await?;
    let claims: Vec<&String> = places.keys().collect();
    let snapshot = observe(&scene).await?;
    let occupancy = Occupancy::new(&snapshot);

    let mut tally: BTreeMap<Comparison, usize> = BTreeMap::new();
    let mut differences = Vec::new();
    for index in 0..CANDIDATES {
        let mut wanted = random_pods::candidate(&mut random, &format!("candidate-{index}"), &names);
        let claim = claims.choose(&mut random).filter(|_| index % 4 == 0);
        if let Some(claim) = claim {
            wanted = random_pods::with_claim(wanted, claim);
        }
        let created = create(&pods, &wanted).await?;
        let chosen = decision_of_scheduler(&pods, &created).await?;
        pods.delete(
            &format!("candidate-{index}"),
            &DeleteParams { grace_period_seconds: Some(0), ..Default::default() },
        )
        .await?;

        let mut converted = convert::pod::convert(&created).value.pod;
        if let Some(claim) = claim {
            Arc::make_mut(&mut converted.scheduling).volume_topology.clone_from(&places[*claim]);
        }
        let probe = occupancy.probe(Candidate::pod(&converted));
        let answers: BTreeMap<&NodeName, Result<(), Misfit>> =
            snapshot.nodes.keys().map(|node| (node, probe.fits(node, Moment::Now))).collect();
        let comparison = match &chosen {
            Some(node) if answers.get(node).is_some_and(Result::is_ok) => Comparison::Agree { bound: true },
            Some(_) => Comparison::BindsOnlyForScheduler,
            None if answers.values().any(Result::is_ok) => Comparison::FitsOnlyForUs,
            None => Comparison::Agree { bound: false },
        };
        if !matches!(comparison, Comparison::Agree { .. }) {
            differences.push(format!("{comparison:?}: {wanted}\n  the scheduler: {chosen:?}\n  we: {answers:?}"));
        }
        *tally.entry(comparison).or_default() += 1;
    }
    print!("{tally:?} ");
    let count = |comparison| tally.get(&comparison).copied().unwrap_or_default();
    ensure!(
        differences.is_empty(),
        "seed {seed}: {} of {CANDIDATES} answers differ\n{}",
        differences.len(),
        differences.join("\n")
    );
    // Otherwise the pods are too easy or too hard to prove anything.
    for bound in [true, false] {
        ensure!(count(Comparison::Agree { bound }) >= CANDIDATES / 5, "the pods are not mixed enough: {tally:?}");
    }
    Ok(())
}

/// Claims that are bound, by name, and where each can be used.
async fn provide_volumes(
    scene: &Scene,
    random: &mut ChaCha8Rng,
) -> anyhow::Result<BTreeMap<String, Vec<NodeSelector>>> {
    let volumes = random_pods::volumes(random, VOLUMES, scene.namespace());
    objects::apply(&scene.admin(), &volumes).await?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(scene.admin(), scene.namespace());
    let mut places = BTreeMap::new();
    for volume in volumes {
        let volume: PersistentVolume = serde_json::from_value(volume)?;
        let name = volume.metadata.name.clone().context("a volume without a name")?;
        let claim = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": {
                "accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": name,
                "resources": { "requests": { "storage": "1Gi" } },
            },
        }))?;
        claims.create(&PostParams::default(), &claim).await?;
        places.insert(name, convert::storage::volume(&volume).value.places);
    }
    for name in places.keys() {
        let is_bound = |claim: Option<&PersistentVolumeClaim>| {
            let phase = claim.and_then(|claim| claim.status.as_ref()?.phase.as_deref());
            phase == Some("Bound")
        };
        tokio::time::timeout(Duration::from_mins(1), await_condition(claims.clone(), name, is_bound))
            .await
            .with_context(|| format!("the claim {name} is not bound"))??;
    }
    Ok(places)
}

/// Quotas against the real admission: what we say they let in is let in, and nothing else.
pub(crate) async fn quotas_answer_as_admission_does(scene: Arc<Scene>) -> anyhow::Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut tally = BTreeMap::from([(true, 0_usize), (false, 0)]);
    let mut differences = Vec::new();
    for index in 0..QUOTAS {
        let namespace = format!("{}-{index}", scene.namespace());
        scene.create_namespace(&namespace).await?;
        let pods: Api<KubePod> = Api::namespaced(scene.admin(), &namespace);
        let quotas: Api<ResourceQuota> = Api::namespaced(scene.admin(), &namespace);
        let quota: ResourceQuota = serde_json::from_value(random_pods::quota(&mut random, "quota"))?;
        quotas.create(&PostParams::default(), &quota).await?;
        // Until its use has been counted it lets nothing in.
        let counted = |quota: Option<&ResourceQuota>| {
            quota
                .and_then(|quota| quota.status.as_ref())
                .is_some_and(|status| status.used.is_some() || status.hard.is_some())
        };
        let empty = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref()).is_none_or(BTreeMap::is_empty);
        if !empty {
            tokio::time::timeout(Duration::from_mins(1), await_condition(quotas.clone(), "quota", counted)).await??;
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(scene.admin(), &namespace);
        let there = |account: Option<&ServiceAccount>| account.is_some();
        tokio::time::timeout(Duration::from_mins(1), await_condition(accounts, "default", there)).await??;
        for candidate in 0..PODS_PER_QUOTA {
            let mut wanted = random_pods::candidate(&mut random, &format!("candidate-{candidate}"), &[]);
            wanted["metadata"]["namespace"] = json!(namespace);
            // All containers declare what they ask for or none does: launchers' do, and we know only their sum.
            let requests = &wanted["spec"]["containers"][0]["resources"]["requests"];
            if requests.get("cpu").is_none() || requests.get("memory").is_none() {
                wanted["spec"].as_object_mut().map(|spec| spec.remove("initContainers"));
            }
            let quota = convert::namespace::quota(&quotas.get("quota").await?).value;
            let mut snapshot = Snapshot::default();
            let known = Namespace { quotas: quota.into_iter().collect(), ..Namespace::default() };
            snapshot.namespaces.insert(Name::from(namespace.as_str()), known);
            let pod: KubePod = serde_json::from_value(wanted.clone())?;
            let converted = convert::pod::convert(&pod).value.pod;
            let ours = Occupancy::new(&snapshot).probe(Candidate::pod(&converted)).quota();
            // What is let in stays, so that the quota fills.
            let theirs = pods.create(&PostParams::default(), &pod).await;
            if ours.is_ok() != theirs.is_ok() {
                differences.push(format!("{wanted}\n  admission: {:?}\n  we: {ours:?}", theirs.map(drop)));
            }
            *tally.entry(ours.is_ok()).or_default() += 1;
        }
    }
    print!("{tally:?} ");
    ensure!(differences.is_empty(), "{} answers differ\n{}", differences.len(), differences.join("\n"));
    ensure!(tally.values().all(|&count| count >= QUOTAS * PODS_PER_QUOTA / 5), "not mixed enough: {tally:?}");
    Ok(())
}

async fn create(pods: &Api<KubePod>, pod: &Value) -> anyhow::Result<KubePod> {
    let pod: KubePod = serde_json::from_value(pod.clone())?;
    Ok(pods.create(&PostParams::default(), &pod).await?)
}

/// The node that the scheduler chose, or none.
async fn decision_of_scheduler(pods: &Api<KubePod>, pod: &KubePod) -> anyhow::Result<Option<NodeName>> {
    let name = pod.metadata.name.as_deref().context("a pod without a name")?;
    let decided = |pod: Option<&KubePod>| pod.is_some_and(|pod| bound(pod).is_some() || is_unschedulable(pod));
    let decided = tokio::time::timeout(Duration::from_mins(1), await_condition(pods.clone(), name, decided))
        .await
        .with_context(|| format!("the scheduler does not decide about {name}"))??;
    Ok(decided.as_ref().and_then(bound))
}

fn bound(pod: &KubePod) -> Option<NodeName> {
    pod.spec.as_ref()?.node_name.as_ref().map(NodeName::new)
}

fn is_unschedulable(pod: &KubePod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|condition| condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some("Unschedulable"))
    })
}

/// Nodes and pods as the operator would see them.
async fn observe(scene: &Scene) -> anyhow::Result<Snapshot> {
    let everything = ListParams::default();
    let mut snapshot = Snapshot::default();
    for node in Api::<KubeNode>::all(scene.admin()).list(&everything).await? {
        let node = convert::node::convert(&node).value.node;
        snapshot.nodes.insert(node.name.clone(), node);
    }
    for pod in Api::<KubePod>::all(scene.admin()).list(&everything).await? {
        let pod = convert::pod::convert(&pod).value.pod;
        snapshot.pods.insert(pod.key.clone(), pod);
    }
    Ok(snapshot)
}
