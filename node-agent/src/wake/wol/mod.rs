//! Wake-on-LAN: a fallback for nodes without a BMC. Nothing answers a magic packet, so the drivers after or before it in
//! the class, or the node itself, have to show that the node woke.
//!
//! The packet is sent as UDP to a broadcast address: the limited one (255.255.255.255) reaches the sender's own segment,
//! a directed one (192.0.2.255) another segment whose router forwards it. To a unicast address it only works while the
//! switch and the sender still know the sleeping card.

mod packet;

pub use packet::{SecureOn, SecureOnError, magic_packet};

use super::{Driver, DriverError, MacAddress, PowerState, Reading};
use futures::future::{BoxFuture, FutureExt as _};
use miyako_api::node_power_class::WakeProtocol;
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{net::UdpSocket, time::sleep};

/// How often a packet is sent per wake: UDP gets lost and a dozing switch port may drop the first.
pub const REPEATS: u32 = 4;
/// Between two of them.
pub const APART: Duration = Duration::from_millis(200);
/// Where packets go by default: the segment's broadcast, port 9 (discard).
pub const BROADCAST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::BROADCAST), 9);

/// Sends magic packets.
#[derive(Debug)]
pub struct Wol {
    mac: MacAddress,
    text: String,
    secure_on: Option<SecureOn>,
    targets: Vec<SocketAddr>,
}

impl Wol {
    /// A driver for one card. Packets go to each of the targets, or to [`BROADCAST`] if there are none.
    #[must_use]
    pub fn new(mac: MacAddress, secure_on: Option<SecureOn>, targets: Vec<SocketAddr>) -> Self {
        let targets = if targets.is_empty() { vec![BROADCAST] } else { targets };
        Self { mac, text: mac.to_string(), secure_on, targets }
    }

    async fn send(&self) -> Result<(), DriverError> {
        let packet = magic_packet(self.mac, self.secure_on.as_ref());
        let local = |error: std::io::Error| DriverError::Local(error.to_string());
        let mut sent = 0;
        let mut failed = None;
        for round in 0..REPEATS {
            if round > 0 {
                sleep(APART).await;
            }
            for target in &self.targets {
                let any: SocketAddr = if target.is_ipv4() {
                    (Ipv4Addr::UNSPECIFIED, 0).into()
                } else {
                    (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
                };
                let socket = UdpSocket::bind(any).await.map_err(local)?;
                socket.set_broadcast(true).map_err(local)?;
                match socket.send_to(&packet, target).await {
                    Ok(_) => sent += 1,
                    Err(error) => failed = Some(DriverError::Local(format!("to {target}: {error}"))),
                }
            }
        }
        match failed {
            Some(error) if sent == 0 => Err(error),
            _ => Ok(()),
        }
    }
}

impl Driver for Wol {
    fn protocol(&self) -> WakeProtocol {
        WakeProtocol::Wol
    }

    fn address(&self) -> &str {
        &self.text
    }

    fn can_read(&self) -> bool {
        false
    }

    fn read(&self) -> BoxFuture<'_, Result<Reading, DriverError>> {
        async { Ok(Reading::main_power(PowerState::Unknown, "nothing answers Wake-on-LAN")) }.boxed()
    }

    fn wake(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        self.send().boxed()
    }

    fn power_on(&self) -> BoxFuture<'_, Result<(), DriverError>> {
        self.send().boxed()
    }
}
