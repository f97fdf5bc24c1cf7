//! Status of policies and classes: written when it changed, never on every pass.

use super::error::Attempt as _;
use super::{ActError, Actor};
use crate::time::to_api;
use k8s_openapi::ClusterResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use kube::api::{Api, Patch, PatchParams};
use miyako_api::consolidation_policy::{ConsolidationPolicy, ConsolidationPolicyStatus};
use miyako_api::names::manager;
use miyako_api::node_power_class::{NodePowerClass, NodePowerClassStatus};
use miyako_core::model::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// The new conditions with the times of the old ones where the status did not change, sorted by type.
#[must_use]
pub fn merge_conditions(before: &[Condition], mut after: Vec<Condition>, now: Timestamp) -> Vec<Condition> {
    for condition in &mut after {
        let same = before.iter().find(|old| old.type_ == condition.type_ && old.status == condition.status);
        condition.last_transition_time = same.map_or_else(|| to_api(now), |old| old.last_transition_time.clone());
    }
    after.sort_by(|a, b| a.type_.cmp(&b.type_));
    after
}

/// Whether two lists of conditions say the same, whenever they began to.
#[must_use]
pub fn same_but_for_times(before: &[Condition], after: &[Condition]) -> bool {
    let said = |condition: &Condition| {
        (
            condition.type_.clone(),
            condition.status.clone(),
            condition.reason.clone(),
            condition.message.clone(),
            condition.observed_generation,
        )
    };
    before.iter().map(said).eq(after.iter().map(said))
}

/// What an object must be for a write to it to be meant.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Precondition<'a> {
    /// An object of that name that came later is another one.
    pub(super) uid: Option<&'a str>,
    /// What was decided from an older version may not hold any more.
    pub(super) resource_version: Option<&'a str>,
}

impl Actor {
    /// Writes a policy's status.
    ///
    /// # Errors
    /// See [`ActError::class`].
    pub async fn write_policy_status(&self, name: &str, status: &ConsolidationPolicyStatus) -> Result<(), ActError> {
        self.apply_status::<ConsolidationPolicy>(name, Precondition::default(), status).await?;
        Ok(())
    }

    /// Writes a class's status.
    ///
    /// # Errors
    /// See [`ActError::class`].
    pub async fn write_class_status(&self, name: &str, status: &NodePowerClassStatus) -> Result<(), ActError> {
        self.apply_status::<NodePowerClass>(name, Precondition::default(), status).await?;
        Ok(())
    }

    /// Applies a status server-side: fields that we no longer say go away, and saying the same again changes nothing.
    /// An object that is not as the precondition says is not touched.
    pub(super) async fn apply_status<K>(
        &self,
        name: &str,
        only_if: Precondition<'_>,
        status: &impl Serialize,
    ) -> Result<K, ActError>
    where
        K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = Api::all(self.writer()?);
        let mut patch = serde_json::json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": { "name": name },
            "status": status,
        });
        // Left out where nothing is asked: kube-apiserver reads a null as the wish to clear the version, and refuses.
        let asked = [("uid", only_if.uid), ("resourceVersion", only_if.resource_version)];
        for (field, value) in asked.into_iter().filter_map(|(field, value)| Some((field, value?))) {
            patch["metadata"][field] = serde_json::json!(value);
        }
        api.patch_status(name, &PatchParams::apply(manager::STATUS).force(), &Patch::Apply(&patch))
            .await
            .attempt(|| format!("write the status of {} {name}", K::kind(&())))
    }
}
