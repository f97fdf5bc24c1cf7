//! Names that are digests of what they stand for, so that the same wish never makes a second object.

use crate::model::{MigrationName, Plan, PlanName, Policy, PolicyMode, Step, Uid, Vm};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// Names of ours are short enough for a label value and long enough not to meet (64 bits).
const DIGEST_BYTES: usize = 8;

fn digest<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize()[..DIGEST_BYTES].iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The name of the VMIM that moves a VM next. KubeVirt keeps finished VMIMs and their names, so the name changes with
/// the VM's last migration, whoever asked for it, and with every attempt of ours that came to nothing.
#[must_use]
pub fn migration_name(vm: &Vm, attempt: u32) -> MigrationName {
    let last = vm.last_migration.as_ref().map_or("", |last| last.uid.as_str());
    let name = format!("miyako-{}", digest([vm.uid.as_str(), last, &attempt.to_string()]));
    MigrationName::new(vm.key.namespace.as_str(), name)
}

/// The name of the ConsolidationPlan with these steps: the same wish of the same policy in the same mode has the same
/// name. A wish that comes again after its plan was over is the next round. To ask people and to act are two wishes: one
/// does not wait because the other came to nothing.
#[must_use]
pub fn plan_name(policy: &Policy, policy_uid: Option<&Uid>, plan: &Plan, round: u32) -> PlanName {
    let asks = policy.mode == PolicyMode::Recommend;
    let policy = &policy.name;
    let mut parts = vec![policy.to_string(), policy_uid.map(Uid::to_string).unwrap_or_default(), round.to_string()];
    parts.extend(asks.then(|| "asks".to_owned()));
    for step in &plan.steps {
        match step {
            Step::Migrate(step) => parts.extend([
                "migrate".into(),
                step.migration.to_string(),
                step.source.to_string(),
                step.target.to_string(),
                format!("{:?}", step.mode),
                step.reason.name().into(),
            ]),
            Step::Wake(step) => parts.extend(["wake".into(), step.node.to_string(), format!("{:?}", step.reason)]),
            Step::Suspend(step) => {
                parts.extend(["suspend".into(), step.node.to_string(), step.reason.name().into()]);
            }
            Step::Abort { migration, uid, .. } => {
                parts.extend(["abort".into(), migration.to_string(), uid.to_string()]);
            }
        }
    }
    // The whole is the value of a label: 63 characters at most.
    let prefix: String = policy.as_str().chars().take(46).collect();
    PlanName::new(format!("{}-{}", prefix.trim_end_matches(['-', '.']), digest(parts.iter().map(String::as_str))))
}
