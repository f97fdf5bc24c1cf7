//! Which holds concern which policy: in every mode, also while another gate comes first.

use super::draft::Draft;
use crate::model::{Concern, HoldKind, NodeName, PolicyName};
use std::collections::BTreeSet;

/// Notes for every policy what holds it, its VMs or its nodes.
pub(super) fn note(draft: &mut Draft<'_>) {
    for hold in &draft.snapshot.holds {
        let of_node = |node: &NodeName| Some(&draft.place(node)?.policy?.name);
        let concerned: BTreeSet<&PolicyName> = match &hold.concerns {
            Concern::Vm(vm) => {
                draft.snapshot.vms.get(vm).and_then(|vm| of_node(vm.node.as_ref()?)).into_iter().collect()
            }
            // Who is asked to wait for these is concerned wherever they are.
            Concern::Nodes(_) => draft.policies.policies.keys().collect(),
        };
        // Where KubeVirt's own migrations wait, everybody waits.
        let everybody = hold.holds_all && hold.kind == HoldKind::Evacuation;
        for (name, report) in &mut draft.report.policies {
            let name = &name;
            let waits_for = draft.policies.policies.get(*name).map_or(&[][..], |policy| &policy.waits_for);
            let is_asked = matches!(hold.kind, HoldKind::ClusterUpgrade | HoldKind::Backup);
            if (everybody || concerned.contains(*name)) && (!is_asked || waits_for.contains(&hold.kind)) {
                report.holds.push(hold.clone());
            }
        }
    }
    for report in draft.report.policies.values_mut() {
        report.holds.sort_by(|a, b| a.since.cmp(&b.since).then_with(|| a.key.cmp(&b.key)));
    }
}
