//! One call's worth of exchanges with a BMC over UDP.

use super::{
    handshake::{Failed, OPERATOR, Offer},
    meaning::refusal,
    packet::{Payload, Request, open_plain, open_sealed, plain, sealed},
    suite::{Keys, Suite},
};
use crate::wake::{Credentials, DriverError, http::Endpoint};
use rustls::crypto::{SecureRandom, ring};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

/// How long a datagram may be under way before it is sent again. Management processors are slow.
const AGAIN_AFTER: Duration = Duration::from_millis(1500);
/// How often a datagram is sent.
const SENDS: u32 = 4;
/// The largest datagram that is read.
const LARGEST: usize = 1024;

/// A session as operator.
pub(super) struct Session {
    link: Link,
    keys: Keys,
    /// Our session id.
    console: u32,
    /// The BMC's.
    bmc: u32,
    sequence: u32,
    number: u8,
}

/// A socket that hears only the BMC.
struct Link {
    socket: UdpSocket,
    address: String,
    random: &'static dyn SecureRandom,
    tag: u8,
}

impl Link {
    async fn new(endpoint: &Endpoint) -> Result<Self, DriverError> {
        let address = endpoint.authority();
        let unreachable =
            |error: io::Error| DriverError::Unreachable { address: address.clone(), why: error.to_string() };
        let mut found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await.map_err(unreachable)?;
        let target = found.next().ok_or_else(|| unreachable(io::Error::other("the name has no address")))?;
        let any: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).await.map_err(|error| DriverError::Local(error.to_string()))?;
        socket.connect(target).await.map_err(unreachable)?;
        Ok(Self { socket, address, random: ring::default_provider().secure_random, tag: 0 })
    }

    fn random<const N: usize>(&self) -> Result<[u8; N], DriverError> {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes).map_err(|_| DriverError::Local("no randomness".to_owned()))?;
        Ok(bytes)
    }

    /// Sends what `packet` makes, several times if need be, until `read` finds an answer in what comes back.
    async fn exchange<T>(
        &self,
        mut packet: impl FnMut() -> Result<Vec<u8>, DriverError>,
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<T, DriverError> {
        let unreachable = |why: String| DriverError::Unreachable { address: self.address.clone(), why };
        let broken = |error: io::Error| match error.kind() {
            io::ErrorKind::ConnectionRefused => unreachable("nothing listens on this UDP port".to_owned()),
            _ => unreachable(error.to_string()),
        };
        for _ in 0..SENDS {
            self.socket.send(&packet()?).await.map_err(broken)?;
            let until = Instant::now() + AGAIN_AFTER;
            let mut bytes = [0; LARGEST];
            while let Ok(received) = timeout_at(until, self.socket.recv(&mut bytes)).await {
                let length = received.map_err(broken)?;
                if let Some(answer) = read(&bytes[..length]) {
                    return Ok(answer);
                }
            }
        }
        Err(unreachable(format!("no answer to {SENDS} packets")))
    }

    async fn shake<T>(
        &mut self,
        (ask, tell): (Payload, Payload),
        content: impl Fn(u8) -> Vec<u8>,
        read: impl Fn(u8, &[u8]) -> Option<Result<T, Failed>>,
    ) -> Result<T, Failed> {
        self.tag = self.tag.wrapping_add(1);
        let tag = self.tag;
        let packet = plain(ask, &content(tag));
        self.exchange(|| Ok(packet.clone()), |bytes| read(tag, open_plain(bytes, tell)?)).await?
    }

    async fn open(&mut self, suite: Suite, credentials: &Credentials) -> Result<(Keys, [u8; 4], [u8; 4]), Failed> {
        let offer = Offer::new(suite, credentials, self.random()?, self.random()?)?;
        let opened = self
            .shake(
                (Payload::OpenRequest, Payload::OpenResponse),
                |tag| offer.open_request(tag),
                |tag, bytes| offer.opened(tag, bytes),
            )
            .await?;
        let proven = self
            .shake(
                (Payload::Rakp1, Payload::Rakp2),
                |tag| offer.rakp1(tag, &opened),
                |tag, bytes| offer.rakp2(tag, &opened, bytes),
            )
            .await?;
        let keys = self
            .shake(
                (Payload::Rakp3, Payload::Rakp4),
                |tag| offer.rakp3(tag, &opened, &proven),
                |tag, bytes| offer.rakp4(tag, &opened, &proven, bytes),
            )
            .await?;
        Ok((keys, offer.console, opened.bmc))
    }
}

impl Session {
    /// Logs in with the first of the suites that the BMC has, and becomes operator.
    pub(super) async fn open(
        endpoint: &Endpoint,
        credentials: &Credentials,
        suites: &[Suite],
    ) -> Result<Self, DriverError> {
        let mut link = Link::new(endpoint).await?;
        let mut refused = Vec::new();
        for suite in suites {
            match link.open(*suite, credentials).await {
                Ok((keys, console, bmc)) => {
                    let (console, bmc) = (u32::from_le_bytes(console), u32::from_le_bytes(bmc));
                    let mut session = Self { link, keys, console, bmc, sequence: 0, number: 0 };
                    session.command("set session privilege", 0x06, 0x3b, &[OPERATOR]).await?;
                    return Ok(session);
                }
                Err(Failed::Suite(why)) => refused.push(why),
                Err(Failed::Driver(error)) => return Err(error),
            }
        }
        Err(DriverError::NotSupported(refused.join("; ")))
    }

    /// Which suite the BMC took.
    pub(super) fn suite(&self) -> Suite {
        self.keys.suite
    }

    /// Carries a command out and returns the answer's data.
    pub(super) async fn command(
        &mut self,
        what: &str,
        net_fn: u8,
        command: u8,
        data: &[u8],
    ) -> Result<Vec<u8>, DriverError> {
        self.number = (self.number + 1) & 0x3f;
        let (number, request) = (self.number, Request { net_fn, command, data });
        let message = request.message(number);
        let (link, keys, console, bmc, sequence) = (&self.link, &self.keys, self.console, self.bmc, &mut self.sequence);
        let packet = || {
            *sequence = sequence.wrapping_add(1);
            Ok(sealed(keys, bmc, *sequence, &message, link.random()?))
        };
        let read = |bytes: &[u8]| {
            let message = open_sealed(keys, console, bytes)?;
            request.answer(number, &message).map(|(completion, data)| (completion, data.to_vec()))
        };
        match link.exchange(packet, read).await? {
            (0, data) => Ok(data),
            (completion, _) => Err(refusal(completion, what)),
        }
    }

    /// Ends the session; BMCs have few. Failing to is no failure of the call: it expires.
    pub(super) async fn close(mut self) {
        let id = self.bmc.to_le_bytes();
        if let Err(error) = self.command("close session", 0x06, 0x3c, &id).await {
            tracing::debug!(%error, "an IPMI session was left to expire");
        }
    }
}
