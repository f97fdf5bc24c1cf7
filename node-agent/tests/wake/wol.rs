//! Magic packets as a network card's neighbour sees them.

use miyako_agent::wake::{Careful, Driver, REPEATS, Wol, magic_packet};
use std::time::Duration;
use tokio::{net::UdpSocket, time::timeout};

async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut packet = vec![0; 200];
    let (length, _) = timeout(Duration::from_secs(20), socket.recv_from(&mut packet)).await.unwrap().unwrap();
    packet.truncate(length);
    packet
}

#[tokio::test]
async fn packets_reach_unicast_and_broadcast_targets_several_times() {
    let unicast = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // Bound to all addresses, as a broadcast is delivered to no other socket.
    let broadcast = UdpSocket::bind("0.0.0.0:0").await.unwrap();
    let mac = "52:54:00:12:34:56".parse().unwrap();
    let password = "00-01-02-03-04-05".parse().unwrap();
    let targets = vec![
        unicast.local_addr().unwrap(),
        format!("127.255.255.255:{}", broadcast.local_addr().unwrap().port()).parse().unwrap(),
    ];
    let expected = magic_packet(mac, Some(&password));
    assert_eq!(expected.len(), 108);
    let driver = Careful::new(Wol::new(mac, Some(password), targets));
    assert!(!driver.can_read());
    driver.wake().await.unwrap();
    for _ in 0..REPEATS {
        assert_eq!(receive(&unicast).await, expected);
        assert_eq!(receive(&broadcast).await, expected);
    }
}

#[tokio::test]
async fn a_target_that_no_route_leads_to_is_an_error_that_names_it() {
    // Multicast without a route would need set-up; a port of zero is refused by every kernel.
    let driver = Wol::new("52:54:00:12:34:56".parse().unwrap(), None, vec!["127.0.0.1:0".parse().unwrap()]);
    let error = driver.wake().await.unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:0"), "{error}");
    assert!(error.check().contains("interface"));
}
