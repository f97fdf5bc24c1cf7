//! How a session is made: an offer of algorithms, then RAKP, in which both sides prove that they know the password
//! (IPMI 2.0 §13.17 to §13.31). Pure: bytes in, bytes or an error out.

use super::suite::{Keys, Suite};
use crate::wake::{Credentials, DriverError};
use zeroize::Zeroizing;

/// The privilege that is asked for: operator, the least that may turn a machine on (appendix G).
pub(super) const OPERATOR: u8 = 3;
/// Look the user up by name alone, whatever privilege it has.
const BY_NAME: u8 = 0x10;
/// IPMI's bounds on names and passwords.
const LONGEST_NAME: usize = 16;
const LONGEST_PASSWORD: usize = 20;

/// What an error begins with when a name or password can't be sent.
pub(super) const TOO_LONG: &str = "IPMI allows user names of at most";

/// Why a handshake ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failed {
    /// The BMC has no such cipher suite; another may do.
    Suite(String),
    /// For good, or for now.
    Driver(DriverError),
}

impl From<DriverError> for Failed {
    fn from(error: DriverError) -> Self {
        Self::Driver(error)
    }
}

/// What this side knows from the start.
pub(super) struct Offer {
    pub(super) suite: Suite,
    /// Our session id.
    pub(super) console: [u8; 4],
    /// Our random number.
    pub(super) random: [u8; 16],
    name: Vec<u8>,
    password: Zeroizing<Vec<u8>>,
}

/// What the BMC's first answer adds.
pub(super) struct Opened {
    /// Its session id.
    pub(super) bmc: [u8; 4],
}

/// What its second answer adds.
pub(super) struct Proven {
    bmc_random: [u8; 16],
    guid: [u8; 16],
    session_key: Zeroizing<Vec<u8>>,
}

impl Offer {
    /// An offer of one suite.
    ///
    /// # Errors
    ///
    /// A name or password that is longer than IPMI allows.
    pub(super) fn new(
        suite: Suite,
        credentials: &Credentials,
        console: [u8; 4],
        random: [u8; 16],
    ) -> Result<Self, DriverError> {
        let name = credentials.username().as_bytes().to_vec();
        let password = Zeroizing::new(credentials.password().as_bytes().to_vec());
        if name.len() > LONGEST_NAME || password.len() > LONGEST_PASSWORD {
            return Err(DriverError::WrongCredentials(format!(
                "{TOO_LONG} {LONGEST_NAME} bytes and passwords of at most {LONGEST_PASSWORD}"
            )));
        }
        Ok(Self { suite, console, random, name, password })
    }

    /// The open session request.
    pub(super) fn open_request(&self, tag: u8) -> Vec<u8> {
        let mut bytes = vec![tag, 0, 0, 0];
        bytes.extend(self.console);
        for (kind, algorithm) in (0..).zip(self.suite.algorithms()) {
            bytes.extend([kind, 0, 0, 8, algorithm, 0, 0, 0]);
        }
        bytes
    }

    /// Reads the open session response; nothing if it isn't ours.
    pub(super) fn opened(&self, tag: u8, bytes: &[u8]) -> Option<Result<Opened, Failed>> {
        let rest = self.accepted(tag, bytes, "open session")?;
        Some(rest.and_then(|rest| {
            let garbled = || Failed::Driver(DriverError::Garbled("a short open session response".to_owned()));
            let (bmc, algorithms) = rest.split_first_chunk().ok_or_else(garbled)?;
            let chosen = [4, 12, 20].map(|at| algorithms.get(at).copied());
            if chosen != self.suite.algorithms().map(Some) {
                let number = self.suite.number();
                return Err(Failed::Suite(format!("the BMC answers cipher suite {number} with another")));
            }
            Ok(Opened { bmc: *bmc })
        }))
    }

    /// RAKP message 1: who we are, and our random number.
    pub(super) fn rakp1(&self, tag: u8, opened: &Opened) -> Vec<u8> {
        let mut bytes = vec![tag, 0, 0, 0];
        bytes.extend(opened.bmc);
        bytes.extend(self.random);
        bytes.extend([self.role(), 0, 0]);
        bytes.push(self.name_length());
        bytes.extend_from_slice(&self.name);
        bytes
    }

    /// Reads RAKP message 2, in which the BMC proves that it knows the password.
    pub(super) fn rakp2(&self, tag: u8, opened: &Opened, bytes: &[u8]) -> Option<Result<Proven, Failed>> {
        let rest = self.accepted(tag, bytes, "RAKP 2")?;
        Some(rest.and_then(|rest| {
            let garbled = || Failed::Driver(DriverError::Garbled("a short RAKP message 2".to_owned()));
            let (&bmc_random, rest) = rest.split_first_chunk::<16>().ok_or_else(garbled)?;
            let (&guid, code) = rest.split_first_chunk::<16>().ok_or_else(garbled)?;
            let code = code.get(..self.suite.code_length()).ok_or_else(garbled)?;
            let (role, length) = ([self.role()], [self.name_length()]);
            let proof: [&[u8]; 8] =
                [&self.console, &opened.bmc, &self.random, &bmc_random, &guid, &role, &length, &self.name];
            if !self.suite.verify(&self.password, &proof, code) {
                let text = "the BMC knows another password for this user (RAKP 2)".to_owned();
                return Err(Failed::Driver(DriverError::WrongCredentials(text)));
            }
            let parts: [&[u8]; 5] = [&self.random, &bmc_random, &role, &length, &self.name];
            // The BMC's own key is the user's where none is set (§13.31).
            let session_key = Zeroizing::new(self.suite.hmac(&self.password, &parts));
            Ok(Proven { bmc_random, guid, session_key })
        }))
    }

    /// RAKP message 3, in which we prove it.
    pub(super) fn rakp3(&self, tag: u8, opened: &Opened, proven: &Proven) -> Vec<u8> {
        let mut bytes = vec![tag, 0, 0, 0];
        bytes.extend(opened.bmc);
        let (role, length) = ([self.role()], [self.name_length()]);
        let parts: [&[u8]; 5] = [&proven.bmc_random, &self.console, &role, &length, &self.name];
        bytes.extend(self.suite.hmac(&self.password, &parts));
        bytes
    }

    /// Reads RAKP message 4, in which the BMC shows that it has the same session key.
    pub(super) fn rakp4(
        &self,
        tag: u8,
        opened: &Opened,
        proven: &Proven,
        bytes: &[u8],
    ) -> Option<Result<Keys, Failed>> {
        let rest = self.accepted(tag, bytes, "RAKP 4")?;
        Some(rest.and_then(|code| {
            let code = code.get(..self.suite.check_length()).unwrap_or_default();
            let parts: [&[u8]; 3] = [&self.random, &opened.bmc, &proven.guid];
            if self.suite.verify(&proven.session_key, &parts, code) {
                Ok(Keys::new(self.suite, &proven.session_key))
            } else {
                // Name and password were right, so it is the BMC's own key, which we don't know.
                let text = "the BMC makes another session key: it may have a key of its own (K_g), which must be empty";
                Err(Failed::Driver(DriverError::NotProvisioned(text.to_owned())))
            }
        }))
    }

    fn role(&self) -> u8 {
        BY_NAME | OPERATOR
    }

    fn name_length(&self) -> u8 {
        u8::try_from(self.name.len()).unwrap_or(u8::MAX)
    }

    /// What follows tag, status and our session id in an answer with this tag.
    fn accepted<'a>(&self, tag: u8, bytes: &'a [u8], what: &str) -> Option<Result<&'a [u8], Failed>> {
        let (&[found, status], rest) = bytes.split_first_chunk()?;
        if found != tag {
            return None;
        }
        // Some BMCs cut a refusal short right after its status.
        if status != 0 {
            return Some(Err(self.refusal(status, what)));
        }
        let rest = rest.get(2..)?;
        let (console, rest) = rest.split_first_chunk()?;
        (*console == self.console).then_some(Ok(rest))
    }

    /// What a status means (table 13-15).
    fn refusal(&self, status: u8, what: &str) -> Failed {
        let text = |meaning: &str| format!("{meaning} ({what} status {status:#04x})");
        Failed::Driver(match status {
            0x03..=0x07 | 0x10..=0x12 => {
                return Failed::Suite(text(&format!("the BMC has no cipher suite {}", self.suite.number())));
            }
            0x01 | 0x0b => DriverError::Busy(text("the BMC has no room for another session")),
            0x02 | 0x08 => DriverError::Busy(text("the BMC forgot the session")),
            0x09 | 0x0a => DriverError::NotPermitted(text("the user may not be operator over the network")),
            0x0c | 0x0d => DriverError::WrongCredentials(text("the BMC knows no such user")),
            0x0f => DriverError::WrongCredentials(text("the BMC refused the proof of the password")),
            _ => DriverError::Refused(text("the BMC refused")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offer(suite: Suite) -> Offer {
        Offer::new(suite, &Credentials::new("admin", "hunter2"), [1; 4], [2; 16]).unwrap()
    }

    #[test]
    fn statuses_say_what_to_do() {
        let offer = offer(Suite::Sha256);
        let refused = |status| offer.opened(0, &[0, status, 0, 0, 1, 1, 1, 1]).unwrap().err().unwrap();
        assert!(matches!(refused(0x11), Failed::Suite(_)));
        assert!(
            matches!(offer.opened(0, &[0, 4]), Some(Err(Failed::Suite(_)))),
            "as OpenIPMI's simulator cuts it short"
        );
        assert!(matches!(refused(0x01), Failed::Driver(DriverError::Busy(_))));
        assert!(matches!(refused(0x0d), Failed::Driver(DriverError::WrongCredentials(_))));
        assert!(matches!(refused(0x0a), Failed::Driver(DriverError::NotPermitted(_))));
        assert!(
            matches!(refused(0x12), Failed::Suite(_)),
            "an illegal parameter is an algorithm that it does not know"
        );
        assert!(offer.opened(1, &[0, 0, 0, 0]).is_none(), "another tag is another request's answer");
    }

    #[test]
    fn what_ipmi_cannot_carry_is_refused_before_it_is_sent() {
        for (name, password) in [("a".repeat(17), "b".repeat(3)), ("a".repeat(3), "b".repeat(21))] {
            assert!(Offer::new(Suite::Sha1, &Credentials::new(name, password), [0; 4], [0; 16]).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_an_error_or_ignored(bytes in prop::collection::vec(any::<u8>(), 0..90), tail in prop::collection::vec(any::<u8>(), 0..90)) {
            for suite in Suite::ALL {
                let (offer, opened) = (offer(suite), Opened { bmc: [3; 4] });
                let proven = Proven { bmc_random: [4; 16], guid: [5; 16], session_key: Zeroizing::new(vec![6; 20]) };
                let near = [&[0, 0, 0, 0, 1, 1, 1, 1][..], &tail].concat();
                for bytes in [&bytes, &near] {
                    let _ = offer.opened(0, bytes);
                    prop_assert!(!matches!(offer.rakp2(0, &opened, bytes), Some(Ok(_))));
                    prop_assert!(!matches!(offer.rakp4(0, &opened, &proven, bytes), Some(Ok(_))));
                }
            }
        }
    }
}
