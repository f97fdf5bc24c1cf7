//! Programs of others: what turns nodes on, what waits for them, and what spreads the VMs that we pack.

use super::{Converted, Problems, objects, selector};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{Container, Node, PodSpec};
use miyako_api::neighbours::{BareMetalHost, MachineConfigPool};
use miyako_core::model::{Labels, Name, Selector, Uid};

/// Metal3 leaves a host with one of these annotations alone. `paused` may carry a value of its owner's.
const LEFT_ALONE: [&str; 2] = ["baremetalhost.metal3.io/detached", "baremetalhost.metal3.io/paused"];

/// The kubernetes-sigs' descheduler: the name of its image, its program and its pods.
const DESCHEDULER: &str = "descheduler";

/// The cluster autoscaler: the name of its image and program, and the end of its pods' names in its charts.
const AUTOSCALER: &str = "cluster-autoscaler";

/// Flags with which it removes no node that does not answer.
const KEEPS_UNREADY: [&str; 2] = ["scale-down-enabled=false", "scale-down-unready-enabled=false"];

/// A node with this annotation is never removed by the cluster autoscaler.
const SCALE_DOWN_DISABLED: &str = "cluster-autoscaler.kubernetes.io/scale-down-disabled";

/// Which NodePool of Karpenter's made a node, and what keeps Karpenter from removing it while it can choose.
const NODE_POOL: &str = "karpenter.sh/nodepool";
const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";

/// What a node says to programs of others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeSays {
    /// Who it is to whoever provides machines; Metal3 names its host there.
    pub provider_id: Option<String>,
    /// The cluster autoscaler may not remove it.
    pub scale_down_disabled: bool,
    /// The NodePool of Karpenter's that made it and may remove it.
    pub karpenter: Option<Name>,
}

/// What a node says to programs of others.
#[must_use]
pub fn node_says(node: &Node) -> NodeSays {
    let says = |key: &str| objects::annotation(&node.metadata, key).is_some_and(|value| value == "true");
    let provider_id = node.spec.as_ref().and_then(|spec| spec.provider_id.clone()).filter(|id| !id.is_empty());
    let pool = node.metadata.labels.as_ref().and_then(|labels| labels.get(NODE_POOL));
    NodeSays {
        provider_id,
        scale_down_disabled: says(SCALE_DOWN_DISABLED),
        karpenter: pool.filter(|_| !says(DO_NOT_DISRUPT)).map(|pool| Name::from(pool.as_str())),
    }
}

/// A machine that Metal3 turns on when it is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoweredHost {
    /// The host's uid: older releases of Metal3 name it in the node's `providerID`.
    pub uid: Uid,
}

/// Converts a host; none if Metal3 does not turn it on.
#[must_use]
pub fn powered(host: &BareMetalHost) -> Option<PoweredHost> {
    let left_alone = LEFT_ALONE.iter().any(|key| objects::annotation(&host.metadata, key).is_some());
    (host.spec.online && !left_alone).then(|| PoweredHost { uid: objects::uid(&host.metadata) })
}

/// The nodes whose configuration a pool is changing; none while it changes nothing.
#[must_use]
pub fn rollout(pool: &MachineConfigPool) -> Converted<Option<Selector>> {
    let mut problems = Problems::default();
    let conditions = pool.status.iter().flat_map(|status| &status.conditions);
    let updating = conditions.into_iter().any(|one| one.type_ == "Updating" && one.status == "True");
    let nodes = pool.spec.node_selector.as_ref().filter(|_| updating && !pool.spec.paused);
    let nodes = nodes.map(|nodes| selector::labels(Some(nodes), "spec.nodeSelector", &mut problems));
    Converted::new(nodes, problems)
}

/// Whether the CronJob runs a descheduler now and then.
#[must_use]
pub fn schedules_descheduler(job: &CronJob) -> bool {
    let Some(spec) = job.spec.as_ref().filter(|spec| spec.suspend != Some(true)) else { return false };
    let template = spec.job_template.spec.as_ref().map(|job| &job.template);
    let none = Labels::new();
    let labels = template.and_then(|pod| pod.metadata.as_ref()?.labels.as_ref()).unwrap_or(&none);
    template.and_then(|pod| pod.spec.as_ref()).is_some_and(|pod| is_descheduler(labels, pod))
}

/// Whether a pod is a descheduler that evicts: by the labels of its chart and manifests, by its program or by its image.
#[must_use]
pub fn is_descheduler(labels: &Labels, pod: &PodSpec) -> bool {
    let labelled = ["app.kubernetes.io/name", "app", "k8s-app"]
        .into_iter()
        .any(|key| labels.get(key).is_some_and(|name| name == DESCHEDULER));
    let runs = pod.containers.iter().any(|container| program(container) == Some(DESCHEDULER));
    (labelled || runs) && !pod.containers.iter().any(only_pretends)
}

/// Whether a pod is a cluster autoscaler that removes nodes which do not answer.
#[must_use]
pub fn is_autoscaler(labels: &Labels, pod: &PodSpec) -> bool {
    let labelled = ["app.kubernetes.io/name", "app", "k8s-app"]
        .into_iter()
        .any(|key| labels.get(key).is_some_and(|name| name.ends_with(AUTOSCALER)));
    let runs = pod.containers.iter().any(|container| program(container) == Some(AUTOSCALER));
    (labelled || runs) && !pod.containers.iter().any(|container| has_flag(container, &KEEPS_UNREADY))
}

fn has_flag(container: &Container, flags: &[&str]) -> bool {
    let words = || container.command.iter().chain(&container.args).flatten();
    words().any(|word| flags.contains(&word.trim_start_matches('-')))
}

/// The program of a container, or the name of its image where the image decides what runs.
fn program(container: &Container) -> Option<&str> {
    let command = container.command.as_ref().and_then(|words| words.first()).map(String::as_str);
    let path = command.or(container.image.as_deref())?;
    let name = path.rsplit('/').next()?;
    // What follows is an image's tag or digest.
    name.split(['@', ':']).next()
}

fn only_pretends(container: &Container) -> bool {
    has_flag(container, &["dry-run", "dry-run=true"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn host(spec: Value, annotations: Value) -> Option<PoweredHost> {
        let host = json!({"metadata": {"name": "h", "uid": "u", "annotations": annotations}, "spec": spec});
        powered(&from_value(host).expect("a BareMetalHost"))
    }

    #[test]
    fn metal3_turns_on_what_is_to_be_online_and_not_detached() {
        let (on, off) = (json!({"online": true}), json!({"online": false}));
        assert_eq!(host(on.clone(), json!({})), Some(PoweredHost { uid: Uid::new("u") }));
        assert_eq!(host(off, json!({})), None);
        for key in LEFT_ALONE {
            assert_eq!(host(on.clone(), json!({key: ""})), None, "{key}");
        }
    }

    #[test]
    fn a_pool_matters_while_it_rolls_out() {
        let pool = |spec: Value, updating: &str| {
            let pool = json!({
                "metadata": {"name": "worker"}, "spec": spec,
                "status": {"conditions": [{"type": "Updated", "status": "True"}, {"type": "Updating", "status": updating}]},
            });
            rollout(&from_value(pool).expect("a MachineConfigPool")).value
        };
        let workers = json!({"nodeSelector": {"matchLabels": {"role": "worker"}}});
        assert_eq!(pool(workers.clone(), "True"), Some(Selector::label("role", "worker")));
        assert_eq!(pool(workers.clone(), "False"), None);
        let mut paused = workers;
        paused["paused"] = true.into();
        assert_eq!(pool(paused, "True"), None);
        assert_eq!(pool(json!({}), "True"), None, "a pool without a selector has no nodes");
    }

    #[test]
    fn a_descheduler_is_known_by_labels_program_or_image_unless_it_only_pretends() {
        let pod = |labels: Value, container: Value| {
            let pod: PodSpec = from_value(json!({"containers": [container]})).expect("a PodSpec");
            is_descheduler(&from_value(labels).expect("labels"), &pod)
        };
        let image = |image: &str| json!({"name": "c", "image": image});
        for known in [
            "registry.k8s.io/descheduler/descheduler:v0.35.0",
            "quay.io/mirror/descheduler@sha256:00",
            "registry:5000/descheduler",
        ] {
            assert!(pod(json!({}), image(known)), "{known}");
        }
        assert!(pod(json!({"k8s-app": "descheduler"}), image("mirror/renamed:1")));
        let command =
            json!({"name": "c", "image": "mirror/renamed:1", "command": ["/bin/descheduler"], "args": ["-v=3"]});
        assert!(pod(json!({}), command));
        for stranger in ["example/descheduler-exporter:1", "descheduler.example/web:1", "web:descheduler"] {
            assert!(!pod(json!({}), image(stranger)), "{stranger}");
        }
        let pretending = json!({"name": "c", "image": "x/descheduler:1", "args": ["--dry-run"]});
        assert!(!pod(json!({"app": "descheduler"}), pretending));
    }

    #[test]
    fn an_autoscaler_is_known_unless_it_leaves_nodes_alone_that_do_not_answer() {
        let pod = |labels: Value, container: Value| {
            let pod: PodSpec = from_value(json!({"containers": [container]})).expect("a PodSpec");
            is_autoscaler(&from_value(labels).expect("labels"), &pod)
        };
        let image = "registry.k8s.io/autoscaling/cluster-autoscaler:v1.35.0";
        let with =
            |flags: Value| json!({"name": "c", "image": image, "command": ["./cluster-autoscaler"], "args": flags});
        assert!(pod(json!({}), with(json!(["--v=4", "--scale-down-enabled=true"]))));
        assert!(pod(
            json!({"app.kubernetes.io/name": "clusterapi-cluster-autoscaler"}),
            json!({"name": "c", "image": "x"})
        ));
        for flag in ["--scale-down-enabled=false", "-scale-down-unready-enabled=false"] {
            assert!(!pod(json!({}), with(json!([flag]))), "{flag}");
        }
        assert!(!pod(json!({"app": "cluster-autoscaler-exporter"}), json!({"name": "c", "image": "x"})));
    }

    #[test]
    fn a_node_says_who_made_it_and_who_may_not_remove_it() {
        let says = |annotations: Value| {
            let node = json!({"metadata": {"labels": {NODE_POOL: "general"}, "annotations": annotations}});
            node_says(&from_value(node).expect("a Node"))
        };
        let general = NodeSays { karpenter: Some(Name::from("general")), ..NodeSays::default() };
        assert_eq!(says(json!({})), general);
        assert_eq!(says(json!({DO_NOT_DISRUPT: "false"})), general, "only the word counts");
        let kept = says(json!({DO_NOT_DISRUPT: "true", SCALE_DOWN_DISABLED: "true"}));
        assert_eq!(kept, NodeSays { scale_down_disabled: true, ..NodeSays::default() });
        assert_eq!(node_says(&Node::default()), NodeSays::default());
    }

    #[test]
    fn a_cron_job_is_one_unless_it_is_suspended() {
        let job = |suspend: bool| -> CronJob {
            let container = json!({"name": "c", "image": "registry.k8s.io/descheduler/descheduler:v0.35.0"});
            from_value(json!({"spec": {
                "schedule": "*/2 * * * *", "suspend": suspend,
                "jobTemplate": {"spec": {"template": {"spec": {"containers": [container]}}}},
            }}))
            .expect("a CronJob")
        };
        assert!(schedules_descheduler(&job(false)));
        assert!(!schedules_descheduler(&job(true)));
        assert!(!schedules_descheduler(&CronJob::default()));
    }
}
