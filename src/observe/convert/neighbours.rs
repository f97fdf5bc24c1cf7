//! Programs of others: what turns nodes on, what waits for them, and what spreads the VMs that we pack.

use super::{Converted, Problems, objects, selector};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use miyako_api::neighbours::{BareMetalHost, MachineConfigPool};
use miyako_core::model::{Labels, Selector, Uid};

/// Metal3 leaves a host with one of these annotations alone. `paused` may carry a value of its owner's.
const LEFT_ALONE: [&str; 2] = ["baremetalhost.metal3.io/detached", "baremetalhost.metal3.io/paused"];

/// The kubernetes-sigs' descheduler: the name of its image, its program and its pods.
const DESCHEDULER: &str = "descheduler";

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

/// The program of a container, or the name of its image where the image decides what runs.
fn program(container: &Container) -> Option<&str> {
    let command = container.command.as_ref().and_then(|words| words.first()).map(String::as_str);
    let path = command.or(container.image.as_deref())?;
    let name = path.rsplit('/').next()?;
    // What follows is an image's tag or digest.
    name.split(['@', ':']).next()
}

fn only_pretends(container: &Container) -> bool {
    let words = || container.command.iter().chain(&container.args).flatten();
    words().any(|word| matches!(word.as_str(), "--dry-run" | "--dry-run=true"))
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
