//! Before an uninstall: everything is held awake, and whoever uninstalls waits until every node is. Operator and wakers
//! still work then; afterwards nobody would wake a sleeper.

use super::hook::HookError;
use crate::command::power::{PowerError, not_awake};
use crate::command::switches::{Switch, SwitchError, turn_on};
use crate::observe::convert::switches::UNINSTALL;
use kube::Client;
use std::time::Duration;

/// Between looks.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Between words about those that are missing.
const SAY_AGAIN: u32 = 15;

/// Why nodes still sleep.
#[derive(Debug, thiserror::Error)]
pub enum WakeFirstError {
    /// Nothing could be held awake.
    #[error(transparent)]
    Switch(#[from] SwitchError),
    /// The Job of the chart's hook runs, and nobody uninstalls anything.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// Nodes could not be found out.
    #[error(transparent)]
    Power(#[from] PowerError),
}

/// Holds everything awake and waits until it is. Says how often it looked.
///
/// # Errors
/// See [`WakeFirstError`].
pub async fn run(client: &Client, namespace: &str) -> Result<u32, WakeFirstError> {
    match turn_on(client, namespace, Switch::Hold, "miyako", UNINSTALL).await {
        // An installation that was never complete: there is nobody to be held, and nodes that sleep are waited for.
        Err(SwitchError::Missing { .. }) => {
            tracing::warn!(namespace, "there is no ConfigMap miyako-switches: no operator is told to wake nodes");
        }
        switched => drop(switched?),
    }
    let mut look = 0;
    loop {
        look += 1;
        let sleepers = not_awake(client).await?;
        if sleepers.is_empty() {
            return Ok(look);
        }
        if look % SAY_AGAIN == 1 {
            tracing::info!(nodes = sleepers.join(", "), "waiting until these nodes are awake");
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
