//! What can go wrong between a waker and a BMC, and what a person is to check.

use std::time::Duration;
use thiserror::Error;

/// Why a driver failed. No variant holds a secret, and texts of the other side are cut short before they get here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DriverError {
    /// No connection, or it broke.
    #[error("{address} can't be reached: {why}")]
    Unreachable {
        /// Where.
        address: String,
        /// What the network said.
        why: String,
    },
    /// No answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// User name or password refused.
    #[error("the user name or password was refused: {0}")]
    WrongCredentials(String),
    /// Refused for now because of too many wrong passwords.
    #[error("the account is locked: {0}")]
    AccountLocked(String),
    /// Not asked again so soon after a refused password.
    #[error(
        "not asked, because the password was refused {ago:?} ago and asking again would lock the account; next try in {again_in:?}"
    )]
    HeldOff {
        /// Since when.
        ago: Duration,
        /// Until when.
        again_in: Duration,
    },
    /// Logged in, but not allowed to.
    #[error("the account may not do this: {0}")]
    NotPermitted(String),
    /// TLS with a certificate other than the pinned one.
    #[error("the certificate's SHA-256 is {seen}, which is none of the pinned ones")]
    CertificateMismatch {
        /// The fingerprint of the certificate that the other side showed.
        seen: String,
    },
    /// TLS with a certificate that the given CAs did not sign for this name.
    #[error("the certificate (SHA-256 {seen}) is not trusted: {why}")]
    CertificateUntrusted {
        /// The fingerprint of the certificate that the other side showed.
        seen: String,
        /// Why.
        why: String,
    },
    /// TLS with a certificate whose key can't be used to check that the other side holds it.
    #[error("the certificate (SHA-256 {seen}) can't be used: {why}")]
    CertificateUnusable {
        /// The fingerprint of the certificate that the other side showed.
        seen: String,
        /// What is wrong with its key.
        why: String,
    },
    /// Several machines answer behind one address, and nobody says which is the node.
    #[error("which system the node is is not said: {0}")]
    WhichSystem(String),
    /// No session is free on the BMC, and it takes no other login.
    #[error("the BMC has no session left: {0}")]
    NoSession(String),
    /// No common version or cipher, or something that doesn't speak TLS.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// It answers, but power control isn't set up.
    #[error("not set up: {0}")]
    NotProvisioned(String),
    /// The other side has no such function.
    #[error("not supported: {0}")]
    NotSupported(String),
    /// The realm of the digest changed: another machine, or set up anew.
    #[error("the realm is {seen} and was {before}: another machine answers at this address, or AMT was set up anew")]
    OtherMachine {
        /// Now.
        seen: String,
        /// At the first contact.
        before: String,
    },
    /// Refused, and asking again won't help.
    #[error("refused: {0}")]
    Refused(String),
    /// Refused for now.
    #[error("busy: {0}")]
    Busy(String),
    /// The answer isn't what the protocol says.
    #[error("an answer that can't be understood: {0}")]
    Garbled(String),
    /// Should be off and isn't.
    #[error("not off but {0}")]
    NotOff(String),
    /// This side failed: no socket, no such interface.
    #[error("could not send: {0}")]
    Local(String),
}

/// What to do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same driver may succeed a little later.
    Soon,
    /// A person has to do something first, or it is another driver's turn.
    No,
}

impl DriverError {
    /// Whether asking again may help.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unreachable { .. }
            | Self::TimedOut(_)
            | Self::Busy(_)
            | Self::NoSession(_)
            | Self::Garbled(_)
            | Self::NotOff(_)
            | Self::Local(_) => Retry::Soon,
            Self::WrongCredentials(_)
            | Self::AccountLocked(_)
            | Self::HeldOff { .. }
            | Self::NotPermitted(_)
            | Self::CertificateMismatch { .. }
            | Self::CertificateUntrusted { .. }
            | Self::CertificateUnusable { .. }
            | Self::Tls(_)
            | Self::WhichSystem(_)
            | Self::NotProvisioned(_)
            | Self::NotSupported(_)
            | Self::OtherMachine { .. }
            | Self::Refused(_) => Retry::No,
        }
    }

    /// A PascalCase word for conditions and metric labels.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "Unreachable",
            Self::TimedOut(_) => "TimedOut",
            Self::WrongCredentials(_) => "WrongCredentials",
            Self::AccountLocked(_) => "AccountLocked",
            Self::HeldOff { .. } => "HeldOff",
            Self::NotPermitted(_) => "NotPermitted",
            Self::CertificateMismatch { .. } => "CertificateMismatch",
            Self::CertificateUntrusted { .. } => "CertificateUntrusted",
            Self::CertificateUnusable { .. } => "CertificateUnusable",
            Self::WhichSystem(_) => "WhichSystem",
            Self::NoSession(_) => "NoSession",
            Self::Tls(_) => "TlsFailed",
            Self::NotProvisioned(_) => "NotProvisioned",
            Self::NotSupported(_) => "NotSupported",
            Self::OtherMachine { .. } => "OtherMachine",
            Self::Refused(_) => "Refused",
            Self::Busy(_) => "Busy",
            Self::Garbled(_) => "Garbled",
            Self::NotOff(_) => "NotOff",
            Self::Local(_) => "Local",
        }
    }

    /// What a person is to check, as an order.
    #[must_use]
    pub fn check(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::TimedOut(_) => {
                "check address, port and firewall, that the BMC has power in sleep (ErP and deep sleep off in the BIOS), \
                 and that the waker runs on another machine than the one it wakes"
            }
            Self::WrongCredentials(_) | Self::HeldOff { .. } => {
                "check username and password in the Secret; too many wrong tries lock the account for some minutes"
            }
            Self::AccountLocked(_) => {
                "wait until the BMC unlocks the account, and check the password in the Secret before the next try"
            }
            Self::NotPermitted(_) => "give the BMC's user the right to control power (operator or administrator)",
            Self::CertificateMismatch { .. } => {
                "if the BMC's certificate was renewed, write its new fingerprint into the class; if not, something else answers there"
            }
            Self::CertificateUntrusted { .. } => {
                "write the fingerprint of the certificate into the class (certificateSha256), or the CA that signed it (caCertificates)"
            }
            Self::CertificateUnusable { .. } => {
                "give the BMC a certificate of its own with a key of RSA 2048 or more bits, P-256 or P-384, and write its fingerprint into the class"
            }
            Self::WhichSystem(_) => {
                "write the node's system into its address, by its id, serial number or name: https://HOST/redfish/v1/Systems/ID"
            }
            Self::NoSession(_) => {
                "close sessions in the BMC's own list, or allow Basic authentication; sessions that nobody uses end by themselves, often after 30 minutes"
            }
            Self::Tls(_) => {
                "check that the port speaks TLS 1.2 or 1.3 with ECDHE, and that the BMC's certificate has a key of RSA 2048 or more bits, P-256 or P-384; firmware that offers only older TLS needs an update"
            }
            Self::NotProvisioned(_) => "set up remote power control in the BMC's own menu",
            Self::NotSupported(_) => "take another driver for this node",
            Self::OtherMachine { .. } => {
                "check the address; if AMT was set up anew, restart the waker so that it learns the new realm"
            }
            Self::Refused(_) => "check the BMC's own log, and that no remote console or media session is open",
            Self::Busy(_) => "wait; if it stays busy, close remote console sessions or restart the BMC",
            Self::Garbled(_) => "check that the address is a BMC's and speaks this protocol; update its firmware",
            Self::NotOff(_) => "look at the machine's console: its shutdown may hang",
            Self::Local(_) => "check the waker's own network: host network, interface and broadcast address",
        }
    }
}

/// At most `most` characters of a text from outside, on one line and printable.
#[must_use]
pub fn excerpt(text: &str, most: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut cut: String = words.chars().filter(|c| !c.is_control()).take(most).collect();
    if words.chars().count() > most {
        cut.push('…');
    }
    cut
}
