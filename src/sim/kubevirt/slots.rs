//! Who gets one of the slots for migrations, and when those that wait are looked at again.

use super::{KubeVirtStandIn, OPEN, hands::Hands, names::phase, phases, policy};
use jiff::Timestamp;
use kube::ResourceExt;
use miyako_api::{
    kubevirt::{VirtualMachineInstance, VirtualMachineInstanceMigration as Migration},
    names::kubevirt::{EVACUATION_MIGRATION, WORKLOAD_UPDATE_MIGRATION},
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, time::Duration};

/// The first back-off of an evacuation that failed; it doubles with each failure.
const BACK_OFF: Duration = Duration::from_secs(20);
/// Recorded: of three freed slots that an evacuation and a user's migration waited for, the user's got one.
const OVERTAKING_FAILS_ONCE_IN: u32 = 3;

impl<H: Hands> KubeVirtStandIn<H> {
    /// The cluster's and the source node's limit of migrations leave room for one more.
    pub(super) fn has_free_slot(&self, source: Option<&str>) -> bool {
        let limits = policy::cluster_configuration(self.installation.all().next());
        let taken: Vec<&Migration> = self
            .migrations
            .tagged(OPEN)
            .filter(|other| !phases::is_final(other))
            .filter(|other| !matches!(phases::phase_of(other), "" | phase::PENDING) || self.target_pod(other).is_some())
            .collect();
        let outbound = taken
            .iter()
            .filter(|other| {
                let vmi = self.vmis.get(&other.namespace().unwrap_or_default(), &other.spec.vmi_name);
                let status = vmi.and_then(|vmi| vmi.status.as_ref());
                let state = status.and_then(|status| status.migration_state.as_ref());
                let on = |node: Option<&String>| node.is_some() && node.map(String::as_str) == source;
                on(status.and_then(|status| status.node_name.as_ref()))
                    || on(state.and_then(|state| state.source_node.as_ref()))
            })
            .count();
        let below = |count: usize, limit: Option<u32>| limit.is_none_or(|limit| count < limit as usize);
        below(taken.len(), limits.parallel_migrations_per_cluster)
            && below(outbound, limits.parallel_outbound_migrations_per_node)
    }

    /// Until when an evacuation or upgrade waits because those before it failed.
    pub(super) fn backed_off_until(&self, migration: &Migration, vmi: &VirtualMachineInstance) -> Option<Timestamp> {
        let annotations = migration.annotations();
        if !annotations.contains_key(EVACUATION_MIGRATION) && !annotations.contains_key(WORKLOAD_UPDATE_MIGRATION) {
            return None;
        }
        let tag = super::moves(&vmi.namespace().unwrap_or_default(), &vmi.name_any());
        let mut earlier: Vec<&Migration> =
            self.migrations.tagged(&tag).filter(|other| other.metadata.uid != migration.metadata.uid).collect();
        earlier.sort_by_key(|other| std::cmp::Reverse(other.metadata.creation_timestamp.as_ref().map(|time| time.0)));
        let failed = earlier.iter().take_while(|other| phases::phase_of(other) == phase::FAILED).count();
        let transitions = &earlier.first()?.status.as_ref()?.phase_transition_timestamps;
        let last = transitions.iter().find(|entered| entered.phase == phase::FAILED)?.phase_transition_timestamp.0;
        let doublings = u32::try_from(failed.checked_sub(1)?).unwrap_or(u32::MAX).min(16);
        last.checked_add(BACK_OFF * 2_u32.pow(doublings)).ok()
    }

    /// A slot is free: those that wait are looked at at once. KubeVirt's queue knows priorities, but who is in it at
    /// that moment is a race: an evacuation overtakes most of the time, and among equals nobody is first.
    pub(super) fn let_next_in(&mut self, freed_by: &Migration, now: Timestamp) {
        let limit = policy::cluster_configuration(self.installation.all().next()).parallel_migrations_per_cluster;
        let freed_by = freed_by.metadata.uid.clone().unwrap_or_default();
        let draw = |uid: &str| {
            let digest: [u8; 32] = Sha256::digest(format!("{}/{freed_by}/{uid}", self.timing.chance)).into();
            u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
        };
        let by_priority = draw("") % OVERTAKING_FAILS_ONCE_IN != 0;
        let mut pending: Vec<(u32, u32, String)> = self
            .migrations
            .tagged(OPEN)
            .filter(|other| phases::phase_of(other) == phase::PENDING)
            .filter_map(|other| {
                let uid = other.uid()?;
                let priority = if by_priority { phases::priority(other) } else { 0 };
                Some((u32::MAX - priority, draw(&uid), uid))
            })
            .collect();
        pending.sort();
        for (turn, (_, _, uid)) in pending.into_iter().take(limit.unwrap_or(5) as usize).enumerate() {
            let memo = self.memos.entry(uid).or_default();
            (memo.not_before, memo.turn) = (Some(now), Some(turn));
        }
    }

    /// A quota changed: what it refused is tried again at once.
    pub(super) fn look_again_after_quotas(&mut self, now: Timestamp) {
        let changed = self.quotas.take_changed();
        if changed.is_empty() {
            return;
        }
        let namespaces: BTreeSet<&String> = changed.iter().map(|(namespace, _)| namespace).collect();
        let refused = self.migrations.tagged(OPEN).filter(|migration| {
            migration.metadata.namespace.as_ref().is_some_and(|namespace| namespaces.contains(namespace))
        });
        for uid in refused.filter_map(|migration| migration.metadata.uid.as_deref()) {
            if let Some(memo) = self.memos.get_mut(uid).filter(|memo| memo.quota_refused) {
                memo.not_before = Some(now);
            }
        }
    }
}
