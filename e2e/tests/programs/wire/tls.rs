//! Over TLS on the loopback interface, in real time.

#![allow(clippy::disallowed_methods, reason = "certificates are dated by the real clock")]

use crate::wire::scene::{account, cpu_of, refused, store, token_reviews};
use miyako::{
    certificate::{identity::Identity, presented::Presented},
    observe::load::{
        SharedLoadStore,
        agents::{LoadService, TokenReviewer, serve},
    },
};
use miyako_agent::{
    generator::{Carry, Generator, Scenario},
    stream::{Dial, DialError, Fleet, Replicas, TlsDialer},
};
use miyako_core::model::{Span, Timestamp};
use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{net::TcpListener, time::timeout};

fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(0))
}

/// An operator's endpoint that runs until the test ends.
async fn operator(presented: &Presented) -> (SocketAddr, SharedLoadStore) {
    let store = store(now());
    let reviewer = Arc::new(TokenReviewer::new(token_reviews(Arc::default()), account()));
    let service = LoadService::new(reviewer, store.clone(), Arc::new(now));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = presented.server_config().unwrap();
    tokio::spawn(serve(service, listener, tls, std::future::pending()));
    (address, store)
}

fn show(identity: &Identity, presented: &Presented) {
    let (certificate, key) = identity.server_pem();
    presented.show(certificate.as_bytes(), key.as_bytes()).unwrap();
}

fn dialer(directory: &Path, identity: &Identity, token: &str) -> TlsDialer {
    let dialer = TlsDialer { ca_file: directory.join("ca.crt"), token_file: directory.join("token") };
    std::fs::write(&dialer.ca_file, identity.authorities_pem()).unwrap();
    std::fs::write(&dialer.token_file, token).unwrap();
    dialer
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let poll = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), poll).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

#[tokio::test]
async fn samples_come_in_over_tls_from_several_nodes_and_liars_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let identity = Identity::fresh(now()).unwrap();
    let presented = Presented::default();
    show(&identity, &presented);
    let (address, store) = operator(&presented).await;
    let files = directory.path().to_owned();
    for node in ["node-1", "node-2"] {
        std::fs::write(files.join(node), format!("agent-on:{node}\n")).unwrap();
    }
    std::fs::write(files.join("ca.crt"), identity.authorities_pem()).unwrap();
    let ca_file = files.join("ca.crt");
    let carry: Carry = Box::new(move |node, newest, clock, seed| {
        let dialer = TlsDialer { ca_file: ca_file.clone(), token_file: node.token_file.clone() };
        Box::pin(Fleet::new(dialer, newest, clock, seed).follow(Replicas { targets: vec![address.to_string()] }))
    });
    let mut generator = Generator::new(carry, Arc::new(|| now().millis()), 1);
    let token = |node: &str| files.join(node).display().to_string();
    let scenario = format!(
        "{{nodes: [{{name: node-1, tokenFile: {}, cores: 16, systemCores: 1}}, {{name: node-2, tokenFile: {}, cores: 16, \
         faults: [{{fault: wrongNode, claim: node-1}}]}}], \
         vms: [{{namespace: default, name: web, uid: uid-1, node: node-1, cpu: [{{cores: 2}}]}}]}}",
        token("node-1"),
        token("node-2"),
    );
    generator.set_scenario(Scenario::parse(&scenario).unwrap());
    until("node-1's own figures are in", || cpu_of(&store, "node-1") == Some(3.0)).await;
    until("node-2's lie is refused", || refused(&store, "WrongNode") > 0).await;
    assert_eq!(cpu_of(&store, "node-2"), None);
}

#[tokio::test]
async fn an_agent_trusts_the_operators_authority_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let presented = Presented::default();
    let (address, _) = operator(&presented).await;
    let (ours, other) = (Identity::fresh(now()).unwrap(), Identity::fresh(now()).unwrap());
    let dialer = dialer(directory.path(), &ours, "agent-on:node-1");
    assert!(matches!(dialer.dial(&address).await, Err(DialError::Connect(_))), "nothing is shown yet");
    show(&other, &presented);
    assert!(matches!(dialer.dial(&address).await, Err(DialError::Connect(_))), "another authority's certificate");
    show(&ours, &presented);
    dialer.dial(&address).await.unwrap();
    // A renewal is seen by the next handshake.
    let later = now() - Span::from_secs(21 * 24 * 3600);
    let (_, renewed) = {
        let old = Identity::fresh(later).unwrap();
        let new = Identity::renewed(Some(&old), now()).unwrap().unwrap();
        (old, new)
    };
    show(&renewed, &presented);
    std::fs::write(&dialer.ca_file, renewed.authorities_pem()).unwrap();
    dialer.dial(&address).await.unwrap();
}

#[tokio::test]
async fn an_agent_without_a_usable_token_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let presented = Presented::default();
    let identity = Identity::fresh(now()).unwrap();
    show(&identity, &presented);
    let (address, _) = operator(&presented).await;
    let dialer = dialer(directory.path(), &identity, "\u{1F511}\n");
    assert!(matches!(dialer.dial(&address).await, Err(DialError::Token(_))));
    std::fs::remove_file(&dialer.token_file).unwrap();
    assert!(matches!(dialer.dial(&address).await, Err(DialError::File { .. })));
}
