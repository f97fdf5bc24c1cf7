//! Whose BMC measures, from the API server.

use super::super::{MakeDriver, secret::Secrets};
use crate::wake::{self, Driver, protocol_name};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use miyako_api::{NodePowerClass, wake::meter};
use std::{collections::BTreeMap, sync::Arc};

/// The nodes that are measured by their BMCs.
#[derive(Default)]
pub(super) struct Directory {
    /// How each is read.
    pub(super) drivers: BTreeMap<String, Arc<dyn Driver>>,
    /// Why others can't be.
    pub(super) problems: BTreeMap<String, String>,
}

/// Reads classes, and, if any of them measures by BMCs, the nodes' labels and the Secrets. One request for each kind and
/// Secret, answered by the API server's own memory: the nodes' labels alone are small.
pub(super) async fn look_up(client: Client, make: Arc<dyn MakeDriver>) -> Result<Directory, String> {
    let recent = ListParams::default().match_any();
    let classes = Api::<NodePowerClass>::all(client.clone()).list(&recent).await;
    let classes = classes.map_err(|error| format!("cannot list NodePowerClasses: {error}"))?.items;
    if classes.iter().all(|class| class.spec.power.meter.driver().is_none()) {
        return Ok(Directory::default());
    }
    let nodes = Api::<Node>::all(client.clone()).list_metadata(&recent).await;
    let nodes = nodes.map_err(|error| format!("cannot list nodes: {error}"))?.items;
    let (mut directory, mut secrets) = (Directory::default(), Secrets::new(client));
    for node in nodes {
        let node = Node { metadata: node.metadata, ..Node::default() };
        let way = match meter(&node, &classes) {
            Ok(None) => continue,
            Ok(Some(way)) => way,
            Err(no_way) => {
                directory.problems.insert(node.name_any(), no_way.to_string());
                continue;
            }
        };
        let made = match secrets.get(way.spec.secret_ref.as_ref()).await {
            Ok(secret) => {
                make.make(&way.spec, wake::Node { name: &node.name_any(), labels: node.labels() }, secret.as_ref())
            }
            Err(problem) => Err(problem),
        };
        match made {
            Ok(driver) => drop(directory.drivers.insert(node.name_any(), Arc::from(driver))),
            Err(problem) => {
                let problem = format!("{} at {}: {problem}", protocol_name(way.spec.driver), way.address);
                directory.problems.insert(node.name_any(), problem);
            }
        }
    }
    Ok(directory)
}
