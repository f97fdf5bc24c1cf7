//! KubeVirt's heartbeat after a sleep.
//!
//! virt-handler patches its Node with `kubevirt.io/schedulable` and the time (`kubevirt.io/heartbeat`) once every 60 to
//! 132 s, by a timer on CLOCK_MONOTONIC, which stands still while the machine sleeps. virt-controller sets the label to
//! false once the annotation is five minutes old, and only virt-handler's next heartbeat sets it back (KubeVirt's
//! `pkg/virt-handler/heartbeat` and `pkg/virt-controller/watch/node`). So a node that slept longer than that takes no
//! VM for up to two minutes after it is back.
//!
//! Nothing makes virt-handler send a heartbeat early but a restart, and a restart is worse than the wait: it marks the
//! node unschedulable on its way out, takes seconds to register its device plugins anew, and looks like a rollout, in
//! which nothing may move (`SPECIFICATION.md`, rule 10). So the agent writes one heartbeat in its place, the same two
//! fields, and only when what virt-handler itself asks before it writes `true` holds: it runs and is ready, and its
//! device plugins are registered. If virt-handler should be dead nevertheless, the label lapses after five minutes,
//! just as if it had died right after a heartbeat of its own.

use k8s_openapi::api::core::v1::{Node, Pod};
use miyako_api::names::kubevirt;

/// The resource that virt-handler's device plugin offers on a node that can run VMs.
const KVM: &str = "devices.kubevirt.io/kvm";

/// Whether a heartbeat may be written in virt-handler's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may.
    Renew,
    /// No virt-handler has ever given one here.
    NoKubeVirt,
    /// It would be a lie now.
    NotYet(String),
}

/// Judges the node and its pods, as the API server has them.
pub(super) fn judge(node: &Node, pods: &[Pod]) -> Verdict {
    let annotations = node.metadata.annotations.as_ref();
    if !annotations.is_some_and(|annotations| annotations.contains_key(kubevirt::HEARTBEAT)) {
        return Verdict::NoKubeVirt;
    }
    let handlers: Vec<_> = pods.iter().filter(|pod| is_handler(pod)).collect();
    if handlers.is_empty() {
        return Verdict::NotYet("no virt-handler runs on this node".into());
    }
    if !handlers.iter().any(|pod| is_ready(pod)) {
        return Verdict::NotYet("virt-handler is not ready".into());
    }
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    match allocatable.and_then(|resources| resources.get(KVM)).map(|quantity| quantity.0.as_str()) {
        None | Some("0") => {
            Verdict::NotYet(format!("the node offers no {KVM}: virt-handler's device plugins are not registered"))
        }
        Some(_) => Verdict::Renew,
    }
}

fn is_handler(pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(kubevirt::APP)).is_some_and(|app| app == kubevirt::HANDLER)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(annotations: Value, kvm: Value) -> Node {
        let value = json!({ "metadata": { "annotations": annotations }, "status": { "allocatable": { KVM: kvm } } });
        serde_json::from_value(value).unwrap()
    }

    fn alive(kvm: Value) -> Node {
        node(json!({ kubevirt::HEARTBEAT: "2027-01-15T08:00:00Z" }), kvm)
    }

    fn pod(app: &str, ready: &str) -> Pod {
        let value = json!({
            "metadata": { "labels": { kubevirt::APP: app } },
            "status": { "conditions": [{ "type": "Ready", "status": ready }] },
        });
        serde_json::from_value(value).unwrap()
    }

    fn reason(verdict: Verdict) -> String {
        match verdict {
            Verdict::NotYet(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_agent_speaks_for_virt_handler_only_when_it_would_say_the_same() {
        let ready = [pod("virt-launcher", "True"), pod(kubevirt::HANDLER, "True")];
        assert_eq!(judge(&alive(json!("1k")), &ready), Verdict::Renew);
        assert_eq!(judge(&node(json!({}), json!("1k")), &ready), Verdict::NoKubeVirt);
        assert!(reason(judge(&alive(json!("0")), &ready)).contains("device plugins"));
        assert!(reason(judge(&alive(json!("1k")), &ready[..1])).contains("no virt-handler"));
        assert!(reason(judge(&alive(json!("1k")), &[pod(kubevirt::HANDLER, "False")])).contains("not ready"));
    }

    #[test]
    fn a_handler_that_is_being_deleted_is_not_ready() {
        let mut handler = pod(kubevirt::HANDLER, "True");
        handler.metadata.deletion_timestamp = super::super::record::to_api(0);
        assert!(reason(judge(&alive(json!("1k")), &[handler])).contains("not ready"));
    }
}
