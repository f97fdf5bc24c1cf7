//! One call's worth of exchanges with a BMC over UDP.

use super::{
    handshake::{Failed, OPERATOR, Offer, TOO_LONG},
    meaning::refusal,
    packet::{Payload, Request, open_plain, open_sealed, plain, sealed},
    suite::{Keys, Suite},
};
use crate::wake::{Credentials, DriverError, Endpoint};
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
/// How often an offer of a suite is sent while there is another to offer: many BMCs are silent about what they dislike.
const OFFERS: u32 = 2;
/// How long a session that nobody waits for may take to end.
const CLOSES_WITHIN: Duration = Duration::from_secs(3);
/// What an error begins with when nothing came back.
const SILENCE: &str = "no answer";
/// The largest datagram that is read.
const LARGEST: usize = 1024;

/// A session as operator. It is closed when it is dropped, because BMCs have few: on an error, when a call is given up, and
/// when its time is over.
pub(super) struct Session {
    open: Option<Open>,
}

/// A session that stands.
struct Open {
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
        let host = endpoint.to_resolve();
        let mut found = tokio::net::lookup_host((host.as_str(), endpoint.port)).await.map_err(unreachable)?;
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

    /// Sends what `packet` makes, so many times if need be, until `read` finds an answer in what comes back.
    async fn exchange<T>(
        &self,
        sends: u32,
        mut packet: impl FnMut() -> Result<Vec<u8>, DriverError>,
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<T, DriverError> {
        let unreachable = |why: String| DriverError::Unreachable { address: self.address.clone(), why };
        let broken = |error: io::Error| match error.kind() {
            io::ErrorKind::ConnectionRefused => unreachable("nothing listens on this UDP port".to_owned()),
            _ => unreachable(error.to_string()),
        };
        for _ in 0..sends {
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
        Err(unreachable(format!("{SILENCE} to {sends} packets")))
    }

    async fn shake<T>(
        &mut self,
        sends: u32,
        (ask, tell): (Payload, Payload),
        content: impl Fn(u8) -> Vec<u8>,
        read: impl Fn(u8, &[u8]) -> Option<Result<T, Failed>>,
    ) -> Result<T, Failed> {
        self.tag = self.tag.wrapping_add(1);
        let tag = self.tag;
        let packet = plain(ask, &content(tag));
        self.exchange(sends, || Ok(packet.clone()), |bytes| read(tag, open_plain(bytes, tell)?)).await?
    }

    async fn open(
        &mut self,
        sends: u32,
        suite: Suite,
        credentials: &Credentials,
    ) -> Result<(Keys, [u8; 4], [u8; 4]), Failed> {
        let offer = Offer::new(suite, credentials, self.random()?, self.random()?)?;
        let opened = self
            .shake(
                sends,
                (Payload::OpenRequest, Payload::OpenResponse),
                |tag| offer.open_request(tag),
                |tag, bytes| offer.opened(tag, bytes),
            )
            .await?;
        let proven = self
            .shake(
                sends,
                (Payload::Rakp1, Payload::Rakp2),
                |tag| offer.rakp1(tag, &opened),
                |tag, bytes| offer.rakp2(tag, &opened, bytes),
            )
            .await?;
        let keys = self
            .shake(
                sends,
                (Payload::Rakp3, Payload::Rakp4),
                |tag| offer.rakp3(tag, &opened, &proven),
                |tag, bytes| offer.rakp4(tag, &opened, &proven, bytes),
            )
            .await?;
        Ok((keys, offer.console, opened.bmc))
    }
}

impl Session {
    /// Logs in with the first of the suites that works, and becomes operator. Whatever became of one suite, the next is
    /// tried: BMCs refuse a suite that they lack with statuses of many meanings, later than they should, or by silence.
    pub(super) async fn open(
        endpoint: &Endpoint,
        credentials: &Credentials,
        suites: &[Suite],
    ) -> Result<Self, DriverError> {
        let mut link = Link::new(endpoint).await?;
        let mut failures = Vec::new();
        for (index, suite) in suites.iter().enumerate() {
            let sends = if index + 1 < suites.len() { OFFERS } else { SENDS };
            match link.open(sends, *suite, credentials).await {
                Ok((keys, console, bmc)) => {
                    let (console, bmc) = (u32::from_le_bytes(console), u32::from_le_bytes(bmc));
                    let mut session = Self { open: Some(Open { link, keys, console, bmc, sequence: 0, number: 0 }) };
                    match session.command("set session privilege", 0x06, 0x3b, &[OPERATOR]).await {
                        Ok(_) => return Ok(session),
                        // The privilege that a channel allows depends on the suite (§22.19).
                        Err(error) => failures.push((*suite, Failed::Driver(error))),
                    }
                    session.close().await;
                    link = Link::new(endpoint).await?;
                }
                // No other suite makes somebody listen, or the name shorter.
                Err(Failed::Driver(error)) if is_about_no_suite(&error) => return Err(error),
                Err(failed) => failures.push((*suite, failed)),
            }
        }
        Err(verdict(failures))
    }

    fn standing(&mut self) -> Result<&mut Open, DriverError> {
        self.open.as_mut().ok_or_else(|| DriverError::Local("the session is closed".to_owned()))
    }

    /// Which suite the BMC took.
    pub(super) fn suite(&self) -> Option<Suite> {
        self.open.as_ref().map(|open| open.keys.suite)
    }

    /// Carries a command out and returns the answer's data.
    pub(super) async fn command(
        &mut self,
        what: &str,
        net_fn: u8,
        command: u8,
        data: &[u8],
    ) -> Result<Vec<u8>, DriverError> {
        self.standing()?.command(what, net_fn, command, data).await
    }

    /// Ends the session. Failing to is no failure of the call: it expires.
    pub(super) async fn close(mut self) {
        // Dropped in between, it is closed by `drop`.
        if let Ok(open) = self.standing() {
            open.close().await;
        }
        self.open = None;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let (Some(mut open), Ok(runtime)) = (self.open.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { tokio::time::timeout(CLOSES_WITHIN, open.close()).await });
        }
    }
}

impl Open {
    async fn command(&mut self, what: &str, net_fn: u8, command: u8, data: &[u8]) -> Result<Vec<u8>, DriverError> {
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
        match link.exchange(SENDS, packet, read).await? {
            (0, data) => Ok(data),
            (completion, _) => Err(refusal(completion, what)),
        }
    }

    async fn close(&mut self) {
        let id = self.bmc.to_le_bytes();
        if let Err(error) = self.command("close session", 0x06, 0x3c, &id).await {
            tracing::debug!(%error, "an IPMI session was left to expire");
        }
    }
}

/// Whether an error of an offer says nothing of the suite that was offered.
fn is_about_no_suite(error: &DriverError) -> bool {
    match error {
        DriverError::Unreachable { why, .. } => !why.starts_with(SILENCE),
        DriverError::Local(_) => true,
        DriverError::WrongCredentials(why) => why.starts_with(TOO_LONG),
        _ => false,
    }
}

/// What all suites' failures mean together: the one that tells a person most, with what became of the others.
fn verdict(failures: Vec<(Suite, Failed)>) -> DriverError {
    let mut refused = Vec::new();
    let mut telling: Option<(u8, DriverError)> = None;
    for (suite, failed) in failures {
        match failed {
            Failed::Suite(why) => refused.push(why),
            Failed::Driver(error) => {
                tracing::debug!(suite = suite.number(), %error, "no session with this cipher suite");
                let rank = rank(&error);
                if telling.as_ref().is_none_or(|(best, _)| rank <= *best) {
                    telling = Some((rank, error));
                }
            }
        }
    }
    telling.map_or_else(|| DriverError::NotSupported(refused.join("; ")), |(_, error)| error)
}

/// How much an error tells; the smaller, the more. A password that one suite proves wrong is not tried again and again
/// because another suite was merely busy.
fn rank(error: &DriverError) -> u8 {
    match error {
        DriverError::WrongCredentials(_) | DriverError::AccountLocked(_) => 0,
        DriverError::NotProvisioned(_) => 1,
        DriverError::NotPermitted(_) => 2,
        DriverError::Busy(_) => 3,
        DriverError::Refused(_) => 4,
        DriverError::Garbled(_) => 5,
        _ => 6,
    }
}
