//! Whose BMC measures, from the API server.

use super::super::{MakeDriver, secret::Secrets};
use crate::wake::{self, Driver, protocol_name};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, ResourceExt as _, api::ListParams, core::ObjectMeta};
use miyako_api::{NodePowerClass, answer, wake::meter};
use std::{collections::BTreeMap, sync::Arc};

/// Nodes per page: of each page only what is to be read is kept.
const PAGE: u32 = 500;

/// A list that took longer than the API server keeps a version is begun anew so many times.
const TRIES: usize = 3;

/// The nodes that are measured by their BMCs.
#[derive(Default)]
pub(super) struct Directory {
    /// How each is read.
    pub(super) drivers: BTreeMap<String, Arc<dyn Driver>>,
    /// Why others can't be.
    pub(super) problems: BTreeMap<String, String>,
}

/// Reads classes, and, if any of them measures by BMCs, the nodes' labels page by page and the Secrets.
pub(super) async fn look_up(client: Client, make: Arc<dyn MakeDriver>) -> Result<Directory, String> {
    let classes = Api::<NodePowerClass>::all(client.clone()).list(&ListParams::default().match_any()).await;
    let classes = classes.map_err(|error| format!("cannot list NodePowerClasses: {error}"))?.items;
    if classes.iter().all(|class| class.spec.power.meter.driver().is_none()) {
        return Ok(Directory::default());
    }
    let nodes = Api::<Node>::all(client.clone());
    // Passwords may change between two looks, and not while one goes on.
    let mut secrets = Secrets::new(client);
    let mut tries = 0;
    'anew: loop {
        tries += 1;
        let mut directory = Directory::default();
        // An answer to a request for whatever the API server has at hand has no pages.
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let found = match nodes.list_metadata(&page).await {
                Err(error) if answer::is_expired(&error) && tries < TRIES => continue 'anew,
                found => found.map_err(|error| format!("cannot list nodes: {error}"))?,
            };
            for node in found.items {
                directory.enter(node.metadata, &classes, &*make, &mut secrets).await;
            }
            match found.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(directory),
            }
        }
    }
}

impl Directory {
    /// Finds out how a node is read, or why it can't be.
    async fn enter(
        &mut self,
        node: ObjectMeta,
        classes: &[NodePowerClass],
        make: &dyn MakeDriver,
        secrets: &mut Secrets,
    ) {
        let node = Node { metadata: node, ..Node::default() };
        let way = match meter(&node, classes) {
            Ok(None) => return,
            Ok(Some(way)) => way,
            Err(no_way) => {
                self.problems.insert(node.name_any(), no_way.to_string());
                return;
            }
        };
        let made = match secrets.get(way.spec.secret_ref.as_ref()).await {
            Ok(secret) => {
                make.make(&way.spec, wake::Node { name: &node.name_any(), labels: node.labels() }, secret.as_ref())
            }
            Err(problem) => Err(problem),
        };
        match made {
            Ok(driver) => drop(self.drivers.insert(node.name_any(), Arc::from(driver))),
            Err(problem) => {
                let problem = format!("{} at {}: {problem}", protocol_name(way.spec.driver), way.address);
                self.problems.insert(node.name_any(), problem);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use kube::client::Body;
    use miyako_api::node_power_class::WakeDriver;
    use serde_json::{Value, json};
    use std::convert::Infallible;
    use std::sync::Mutex;
    use tower::service_fn;

    /// More than two pages.
    const NODES: usize = 1_234;

    /// Makes no driver: what is asked for is known by the problem.
    struct NoDrivers;

    impl MakeDriver for NoDrivers {
        fn make(
            &self,
            _: &WakeDriver,
            _: wake::Node<'_>,
            _: Option<&BTreeMap<String, Vec<u8>>>,
        ) -> Result<Box<dyn Driver>, String> {
            Err("none here".into())
        }
    }

    /// What an API server with these nodes answers, of which every second is measured; and how it was asked.
    fn server(expires: bool) -> (Client, Arc<Mutex<Vec<String>>>) {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&asked);
        let service = service_fn(move |request: Request<Body>| {
            let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or("").to_owned());
            let mut asked = kept.lock().unwrap();
            let is_nodes = path.ends_with("/nodes");
            if is_nodes {
                asked.push(query.clone());
            }
            let (code, answer) = match is_nodes {
                true if expires && asked.len() == 2 => (
                    410,
                    json!({"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410, "message": ""}),
                ),
                true => (200, nodes(&query)),
                false => (200, classes()),
            };
            let body = Full::new(Bytes::from(answer.to_string()));
            async move { Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap()) }
        });
        (Client::new(service, "default"), asked)
    }

    fn classes() -> Value {
        json!({"apiVersion": "miyako.dev/v1alpha1", "kind": "NodePowerClassList", "metadata": {}, "items": [{
            "apiVersion": "miyako.dev/v1alpha1", "kind": "NodePowerClass", "metadata": {"name": "metered"},
            "spec": {
                "role": "Dedicated", "nodeSelector": {"matchLabels": {"metered": "yes"}},
                "power": {"meter": {"redfish": {}}},
                "wake": [{"driver": "redfish", "address": "https://bmc-{node}.example.org"}],
            },
        }]})
    }

    fn nodes(query: &str) -> Value {
        let given = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        let from: usize = given("continue").and_then(|token| token.parse().ok()).unwrap_or(0);
        let limit = given("limit").and_then(|limit| limit.parse().ok()).unwrap_or(NODES);
        let to = NODES.min(from + limit);
        let node = |index: usize| {
            let metered = if index.is_multiple_of(2) { "yes" } else { "no" };
            json!({"metadata": {"name": format!("n{index:05}"), "labels": {"metered": metered}}})
        };
        let items: Vec<Value> = (from..to).map(node).collect();
        let token = if to < NODES { to.to_string() } else { String::new() };
        json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
            "metadata": {"resourceVersion": "1", "continue": token}, "items": items,
        })
    }

    #[tokio::test]
    async fn nodes_are_read_page_by_page_and_each_is_entered_once() {
        for expires in [false, true] {
            let (client, asked) = server(expires);
            let directory = look_up(client, Arc::new(NoDrivers)).await.unwrap();
            assert_eq!(directory.problems.len(), NODES / 2);
            assert!(directory.problems.contains_key("n01232") && directory.drivers.is_empty());
            let asked = asked.lock().unwrap();
            assert_eq!(asked.len(), if expires { 5 } else { 3 }, "{asked:?}");
            assert!(asked.iter().all(|query| query.contains("limit=500")), "{asked:?}");
        }
    }
}
