//! How many finished migrations of a VM are kept, and their launchers with them.

use super::{KubeVirtStandIn, hands::Hands, moves, phases, writes::ignore_gone};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::DeleteParams};
use miyako_api::kubevirt::{VirtualMachineInstance, VirtualMachineInstanceMigration as Migration};

/// The five newest finished VMIMs of a VM are kept (`defaultFinalizedMigrationGarbageCollectionBuffer`).
const KEPT: usize = 5;

/// The finished VMIMs that go, oldest first, each with the finished launcher that goes with it: the source's of one
/// that succeeded, the target's of one that failed.
fn superfluous(migrations: &[Migration]) -> Vec<(&Migration, Option<&str>)> {
    let mut finished: Vec<&Migration> =
        migrations.iter().filter(|migration| phases::is_final(migration) && !phases::is_deleting(migration)).collect();
    finished.sort_by_key(|migration| {
        (migration.metadata.creation_timestamp.as_ref().map(|time| time.0), migration.name_any())
    });
    let excess = finished.len().saturating_sub(KEPT);
    finished
        .into_iter()
        .take(excess)
        .map(|migration| {
            let state = migration.status.as_ref().and_then(|status| status.migration_state.as_ref());
            let pod = state.and_then(|state| match (state.failed, state.completed) {
                (true, _) => state.target_pod.as_deref(),
                (false, true) => state.source_pod.as_deref(),
                (false, false) => None,
            });
            (migration, pod)
        })
        .collect()
}

impl<H: Hands> KubeVirtStandIn<H> {
    /// Deletes the finished migrations of a VM that are too many.
    pub(super) async fn collect_finished(&mut self, vmi: &VirtualMachineInstance) -> kube::Result<()> {
        let namespace = vmi.namespace().unwrap_or_default();
        let all: Vec<Migration> = self.migrations.tagged(&moves(&namespace, &vmi.name_any())).cloned().collect();
        let migrations: Api<Migration> = self.controller_api(&namespace);
        let pods: Api<Pod> = self.controller_api(&namespace);
        for (migration, pod) in superfluous(&all) {
            if let Some(pod) = pod {
                ignore_gone(pods.delete(pod, &DeleteParams::default()).await)?;
            }
            ignore_gone(migrations.delete(&migration.name_any(), &DeleteParams::default()).await)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn finished(number: u32, failed: bool) -> Migration {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
            "metadata": {"name": format!("m{number}"), "creationTimestamp": format!("2026-01-05T00:00:{number:02}Z")},
            "spec": {"vmiName": "vm"},
            "status": {
                "phase": if failed { "Failed" } else { "Succeeded" },
                "migrationState": {
                    "sourcePod": format!("s{number}"), "targetPod": format!("t{number}"),
                    "completed": true, "failed": failed,
                },
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_five_newest_stay_and_the_others_go_with_their_finished_launcher() {
        let all: Vec<Migration> = (0..7).rev().map(|number| finished(number, number == 1)).collect();
        let going: Vec<_> = superfluous(&all).into_iter().map(|(migration, pod)| (migration.name_any(), pod)).collect();
        assert_eq!(going, [("m0".to_owned(), Some("s0")), ("m1".to_owned(), Some("t1"))]);
        assert!(superfluous(&all[..5]).is_empty());
    }
}
