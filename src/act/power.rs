//! Orders to nodes. This release only ever orders a node awake; who carries that out is the agents' part.

use super::error::Attempt as _;
use super::{ActError, Actor};
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use miyako_api::names::{manager, ours};
use miyako_api::node_power::{DesiredPower, NodePower, NodePowerSpec};
use miyako_api::node_power_class::SuspendMethod;
use miyako_core::model::{NodeName, Span};
use std::collections::BTreeMap;

/// How long an order to wake stands before it is given anew.
const WAKE_ORDER_STANDS: Span = Span::from_secs(300);

impl Actor {
    /// Orders a node awake, unless it is ordered so already.
    ///
    /// # Errors
    /// See [`ActError::class`].
    pub async fn order_awake(&self, node: &NodeName, reason: &str) -> Result<(), ActError> {
        let api: Api<NodePower> = Api::all(self.writer()?);
        let what = || format!("order node {node} awake");
        let current = api.get_opt(node.as_str()).await.attempt(what)?;
        let now = self.clock.now();
        let spec = NodePowerSpec {
            desired: DesiredPower::Awake,
            generation: current.as_ref().map_or(0, |power| power.spec.generation) + 1,
            issued_at: crate::time::to_api(now),
            expires_at: crate::time::to_api(now + WAKE_ORDER_STANDS),
            reason: reason.to_owned(),
            wake_by: None,
            method: SuspendMethod::default(),
            wake_at: None,
            despite_failures: false,
        };
        match current {
            Some(power)
                if power.spec.desired == DesiredPower::Awake && crate::time::from_api(&power.spec.expires_at) > now => {
            }
            Some(power) => {
                let patch = serde_json::json!({
                    "metadata": { "resourceVersion": power.metadata.resource_version },
                    "spec": spec,
                });
                let params = PatchParams { field_manager: Some(manager::OPERATOR.into()), ..PatchParams::default() };
                api.patch(node.as_str(), &params, &Patch::Merge(&patch)).await.attempt(what)?;
            }
            None => {
                let power = NodePower {
                    metadata: ObjectMeta {
                        name: Some(node.to_string()),
                        labels: Some(BTreeMap::from([(ours::MANAGED_BY.into(), ours::MIYAKO.into())])),
                        ..ObjectMeta::default()
                    },
                    spec,
                    status: None,
                };
                let params = PostParams { field_manager: Some(manager::OPERATOR.into()), ..PostParams::default() };
                match api.create(&params, &power).await {
                    Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                    created => {
                        created.attempt(what)?;
                    }
                }
            }
        }
        Ok(())
    }
}
