//! What a pod asks for, added up as the scheduler does (`PodRequests` of k8s.io/component-helpers/resource).

use super::{Problems, quantity};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodSpec, PodStatus};
use miyako_core::model::Resources;

/// The pod's requests: containers and sidecars together, or the largest init container with the sidecars that run
/// beside it if that is more; pod-level requests go before both; overhead comes on top.
pub(super) fn of(spec: &PodSpec, status: Option<&PodStatus>, problems: &mut Problems) -> Resources {
    let mut running = Resources::default();
    for (index, container) in spec.containers.iter().enumerate() {
        let status = find(status.and_then(|status| status.container_statuses.as_deref()), container);
        running.add(&one(container, status, &format!("spec.containers[{index}]"), problems));
    }
    let mut sidecars = Resources::default();
    let mut starting = Resources::default();
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        let status = find(status.and_then(|status| status.init_container_statuses.as_deref()), container);
        let asks = one(container, status, &format!("spec.initContainers[{index}]"), problems);
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&asks);
            sidecars.add(&asks);
            starting = quantity::larger(starting, &sidecars);
        } else {
            let mut together = sidecars.clone();
            together.add(&asks);
            starting = quantity::larger(starting, &together);
        }
    }
    let mut all = quantity::larger(running, &starting);
    if let Some(list) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        let pod_level = quantity::resources(Some(list), "spec.resources.requests", problems);
        if list.contains_key("cpu") {
            all.cpu = pod_level.cpu;
        }
        if list.contains_key("memory") {
            all.memory = pod_level.memory;
        }
        all.extended.extend(pod_level.extended);
    }
    all.add(&quantity::resources(spec.overhead.as_ref(), "spec.overhead", problems));
    all.extended.retain(|_, amount| *amount > 0);
    all.pods = 1;
    all
}

/// The limits that a quota would count, summed like requests; nothing of a resource that some container leaves open.
pub(super) fn limits(spec: &PodSpec, problems: &mut Problems) -> Resources {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let limited: Vec<_> = containers
        .enumerate()
        .map(|(index, container)| {
            let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
            let sidecar = container.restart_policy.as_deref() == Some("Always");
            let init = index >= spec.containers.len() && !sidecar;
            (
                init,
                quantity::resources(limits, &format!("spec.containers[{}].resources.limits", container.name), problems),
            )
        })
        .collect();
    let mut running = Resources::default();
    for (_, limits) in limited.iter().filter(|(init, _)| !init) {
        running.add(limits);
    }
    let mut all = limited.iter().filter(|(init, _)| *init).fold(running, |all, (_, init)| quantity::larger(all, init));
    if limited.iter().any(|(_, limits)| limits.cpu.0 == 0) {
        all.cpu = Default::default();
    }
    if limited.iter().any(|(_, limits)| limits.memory.0 == 0) {
        all.memory = Default::default();
    }
    all
}

fn find<'a>(statuses: Option<&'a [ContainerStatus]>, container: &Container) -> Option<&'a ContainerStatus> {
    statuses?.iter().find(|status| status.name == container.name)
}

/// While a resize is under way the larger of what is wished, granted and in force counts.
fn one(container: &Container, status: Option<&ContainerStatus>, field: &str, problems: &mut Problems) -> Resources {
    let wished = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let mut requests = quantity::resources(wished, &format!("{field}.resources.requests"), problems);
    if let Some(status) = status {
        let in_force = status.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        for (list, name) in
            [(in_force, "resources.requests"), (status.allocated_resources.as_ref(), "allocatedResources")]
        {
            let field = format!("status.containerStatuses[{}].{name}", status.name);
            requests = quantity::larger(requests, &quantity::resources(list, &field, problems));
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;
    use miyako_core::model::{Bytes, MilliCpu};
    use serde_json::{Value, from_value, json};

    fn requests(spec: Value, status: Value) -> Resources {
        let mut problems = Problems::default();
        let resources = of(&from_value(spec).unwrap(), Some(&from_value(status).unwrap()), &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        resources
    }

    fn container(name: &str, cpu: &str, memory: &str) -> Value {
        json!({"name": name, "resources": {"requests": {"cpu": cpu, "memory": memory}}})
    }

    #[test]
    fn sidecars_add_up_and_init_containers_only_count_where_they_ask_for_more() {
        let mut sidecar = container("log", "50m", "64Mi");
        sidecar["restartPolicy"] = json!("Always");
        let spec = json!({
            "initContainers": [container("early", "20m", "900Mi"), sidecar, container("late", "300m", "10Mi")],
            "containers": [container("a", "100m", "200Mi"), container("b", "100m", "200Mi")],
            "overhead": {"memory": "10Mi"},
        });
        let resources = requests(spec, json!({}));
        assert_eq!(resources.cpu, MilliCpu(350), "late and the sidecar that already runs beside it");
        assert_eq!(resources.memory, Bytes::mib(910), "early alone, with the overhead");
        assert_eq!(resources.pods, 1);
    }

    #[test]
    fn a_resize_counts_with_the_larger_amount_and_pod_level_requests_go_first() {
        let spec = json!({"containers": [container("a", "100m", "200Mi")]});
        let status = json!({"containerStatuses": [{"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "allocatedResources": {"memory": "300Mi"}}]});
        assert_eq!(requests(spec, status).memory, Bytes::mib(300));
        let spec = json!({"containers": [container("a", "100m", "200Mi")], "resources": {"requests": {"cpu": "2"}}});
        let resources = requests(spec, json!({}));
        assert_eq!((resources.cpu, resources.memory), (MilliCpu(2000), Bytes::mib(200)));
    }
}
