//! Whether a namespace's ResourceQuotas let one more pod in.

use super::Misfit;
use crate::model::{Quota, Resources, Scheduling};
use std::collections::BTreeMap;

/// What planned pods will add to a namespace's quotas, in thousandths of each resource's unit.
#[derive(Debug, Clone, Default)]
pub(super) struct PlannedUse(BTreeMap<String, u128>);

/// What one pod adds to a resource that a quota names.
enum Charge {
    /// So many thousandths.
    Amount(u128),
    /// The pod does not declare what the quota counts, so admission would refuse it.
    Undeclared,
    /// No pod adds to it (`services`, `requests.storage`, …).
    Nothing,
}

fn declared(amount: u128) -> Charge {
    if amount == 0 { Charge::Undeclared } else { Charge::Amount(amount) }
}

/// `cpu` and `memory` must be declared where a quota counts them; other resources count only if they are asked for.
fn charge_of(resources: &Resources, name: &str) -> Charge {
    match name {
        "cpu" => declared(u128::from(resources.cpu.0)),
        "memory" => declared(u128::from(resources.memory.0) * 1000),
        "ephemeral-storage" => Charge::Amount(u128::from(resources.ephemeral_storage.0) * 1000),
        name => match resources.extended.get(name) {
            Some(&amount) => Charge::Amount(u128::from(amount) * 1000),
            None => Charge::Nothing,
        },
    }
}

fn charge(pod: &Scheduling, resource: &str) -> Charge {
    if resource == "pods" || resource == "count/pods" {
        Charge::Amount(1000)
    } else if let Some(name) = resource.strip_prefix("limits.") {
        charge_of(&pod.limits, name)
    } else {
        charge_of(&pod.requests, resource.strip_prefix("requests.").unwrap_or(resource))
    }
}

fn in_units(thousandths: u128) -> String {
    match thousandths % 1000 {
        0 => (thousandths / 1000).to_string(),
        rest => format!("{}.{rest:03}", thousandths / 1000),
    }
}

/// The quotas of the namespace, with what was planned on top of what is used.
pub(super) fn allows(quotas: &[Quota], planned: Option<&PlannedUse>, pod: &Scheduling) -> Result<(), Misfit> {
    for quota in quotas {
        for (resource, &hard) in &quota.hard {
            let used = quota.used.get(resource).copied().unwrap_or(0);
            let coming = planned.and_then(|planned| planned.0.get(resource)).copied().unwrap_or(0);
            let left = hard.saturating_sub(used).saturating_sub(coming);
            match charge(pod, resource) {
                Charge::Amount(requested) if requested > 0 && requested > left => {
                    return Err(Misfit::Quota {
                        quota: quota.name.clone(),
                        resource: resource.clone(),
                        requested: in_units(requested),
                        left: in_units(left),
                    });
                }
                Charge::Undeclared => {
                    return Err(Misfit::QuotaNeeds { quota: quota.name.clone(), resource: resource.clone() });
                }
                Charge::Amount(_) | Charge::Nothing => {}
            }
        }
    }
    Ok(())
}

impl PlannedUse {
    /// Notes one more pod.
    pub(super) fn add(&mut self, quotas: &[Quota], pod: &Scheduling) {
        self.each(quotas, pod, |sum, amount| sum.saturating_add(amount));
    }

    /// Takes a pod back that was noted.
    pub(super) fn remove(&mut self, quotas: &[Quota], pod: &Scheduling) {
        self.each(quotas, pod, |sum, amount| sum.saturating_sub(amount));
    }

    fn each(&mut self, quotas: &[Quota], pod: &Scheduling, change: impl Fn(u128, u128) -> u128) {
        let mut resources: Vec<&String> = quotas.iter().flat_map(|quota| quota.hard.keys()).collect();
        resources.sort_unstable();
        resources.dedup();
        for resource in resources {
            if let Charge::Amount(amount) = charge(pod, resource) {
                let sum = self.0.entry(resource.clone()).or_default();
                *sum = change(*sum, amount);
            }
        }
    }
}
