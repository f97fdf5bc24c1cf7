//! Whose certificate is accepted: a pinned one, or one that a given CA signed. Nothing else; the system's CAs never.
//!
//! A pinned certificate is taken as it is: only its key is read, and shown to be the other side's by its signature in the
//! handshake.

use super::spki::{NotSigned, PublicKey};
use crate::wake::DriverError;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use sha2::{Digest as _, Sha256};
use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};
use thiserror::Error;

/// The SHA-256 of a certificate in DER, as browsers and `openssl x509 -fingerprint -sha256` show it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// The text is no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "a certificate's fingerprint is 64 hex digits, with or without colons: write what `openssl x509 -noout -fingerprint -sha256` prints after the ="
)]
pub struct FingerprintError;

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return Err(FingerprintError);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let digit = |at: usize| pair.get(at).and_then(|digit| char::from(*digit).to_digit(16));
            let value = digit(0).zip(digit(1)).map(|(high, low)| high * 16 + low).ok_or(FingerprintError)?;
            *byte = u8::try_from(value).map_err(|_| FingerprintError)?;
        }
        Ok(Self(bytes))
    }
}

/// A bound on the TLS version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2: some firmware fails with 1.3.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Whose certificate is accepted.
#[derive(Debug, Clone)]
pub struct Trust {
    pins: Vec<Fingerprint>,
    roots: Option<Arc<RootCertStore>>,
    newest: TlsVersion,
}

impl Default for Trust {
    /// Nobody's: a connection fails and says which fingerprint it saw.
    fn default() -> Self {
        Self::pinned(Vec::new())
    }
}

impl Trust {
    /// The certificates with these fingerprints, whatever names and dates they carry and whoever signed them.
    #[must_use]
    pub fn pinned(pins: Vec<Fingerprint>) -> Self {
        Self { pins, roots: None, newest: TlsVersion::Tls13 }
    }

    /// Also certificates that these CAs (PEM) signed for the host's name.
    ///
    /// # Errors
    ///
    /// No certificate in the text, or one that can't be read.
    pub fn and_ca(mut self, pem: &str) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| format!("the CA certificates are no PEM: {error}"))?;
            roots.add(certificate).map_err(|error| {
                format!("a CA certificate can't be used: {error}: pin the BMCs' own certificates instead (certificateSha256)")
            })?;
        }
        if roots.is_empty() {
            return Err("the CA certificates hold no BEGIN CERTIFICATE block".to_owned());
        }
        self.roots = Some(Arc::new(roots));
        Ok(self)
    }

    /// With no TLS version newer than this.
    #[must_use]
    pub fn up_to(mut self, newest: TlsVersion) -> Self {
        self.newest = newest;
        self
    }

    /// Whether anybody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pins.is_empty() && self.roots.is_none()
    }

    /// A configuration for one connection, and where it notes what it saw. `short_rsa`: the one kind of signature that
    /// short RSA keys can be checked by is asked for.
    pub(super) fn client_config(&self, short_rsa: bool) -> Result<(ClientConfig, Arc<Seen>), DriverError> {
        let failed = |error: &dyn fmt::Display| DriverError::Tls(error.to_string());
        let provider = Arc::new(ring::default_provider());
        let seen = Arc::new(Seen::default());
        let by_ca = match &self.roots {
            None => None,
            Some(roots) => Some(
                WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
                    .build()
                    .map_err(|error| failed(&error))?,
            ),
        };
        let versions: &[_] = match self.newest {
            TlsVersion::Tls13 if !short_rsa => &[&TLS13, &TLS12],
            _ => &[&TLS12],
        };
        let (pins, short_rsa) = (self.pins.clone(), short_rsa && !self.pins.is_empty());
        let verifier = Verifier { pins, by_ca, provider: provider.clone(), seen: seen.clone(), short_rsa };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| failed(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok((config, seen))
    }

    /// What a failed handshake means.
    pub(super) fn explain(&self, error: &Error, seen: &Seen) -> DriverError {
        let (certificate, unusable) = (seen.certificate.get(), seen.unusable.get());
        match (error, certificate) {
            (_, Some(certificate)) if unusable.is_some() => {
                let why = unusable.cloned().unwrap_or_default();
                DriverError::CertificateUnusable { seen: certificate.to_string(), why }
            }
            (Error::InvalidCertificate(why), Some(seen)) if !self.pins.contains(seen) => {
                let seen = seen.to_string();
                if self.is_empty() {
                    let why = "neither its fingerprint nor a CA is given".to_owned();
                    DriverError::CertificateUntrusted { seen, why }
                } else if self.roots.is_none() {
                    DriverError::CertificateMismatch { seen }
                } else {
                    DriverError::CertificateUntrusted { seen, why: why.to_string() }
                }
            }
            (Error::AlertReceived(AlertDescription::HandshakeFailure), _) => DriverError::Tls(format!(
                "{error}: the BMC has no cipher suite, or no kind of key in its certificate, in common with us"
            )),
            (Error::AlertReceived(AlertDescription::ProtocolVersion) | Error::PeerIncompatible(_), _) => {
                DriverError::Tls(format!("{error}: the BMC speaks another version of TLS than {}", self.versions()))
            }
            (Error::InvalidMessage(_), _) => DriverError::Tls(format!("{error}: this is no TLS port")),
            _ => DriverError::Tls(error.to_string()),
        }
    }

    fn versions(&self) -> &'static str {
        match self.newest {
            TlsVersion::Tls12 => "1.2",
            TlsVersion::Tls13 => "1.2 and 1.3",
        }
    }
}

/// What a handshake showed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The certificate of the other side.
    certificate: OnceLock<Fingerprint>,
    /// Why its key can't be used, although it is pinned.
    unusable: OnceLock<String>,
    /// It would be usable in a handshake for short RSA keys.
    short_rsa: AtomicBool,
}

impl Seen {
    /// Whether another handshake, made for short RSA keys, may succeed.
    pub(super) fn wants_short_rsa(&self) -> bool {
        self.short_rsa.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Verifier {
    pins: Vec<Fingerprint>,
    by_ca: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    seen: Arc<Seen>,
    short_rsa: bool,
}

impl Verifier {
    /// Whether a pinned certificate's key made this signature; nothing if it is not pinned.
    fn by_pin(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Option<Result<HandshakeSignatureValid, Error>> {
        self.pins.contains(&Fingerprint::of(certificate)).then(|| {
            let signed = match PublicKey::of(certificate) {
                Some(key) => key.signed(signature.scheme, message, signature.signature()),
                None => Err(NotSigned::Unusable("it holds no key that can be read".to_owned())),
            };
            let why = match signed {
                Ok(()) => return Ok(HandshakeSignatureValid::assertion()),
                Err(NotSigned::Wrong) => return Err(Error::InvalidCertificate(CertificateError::BadSignature)),
                Err(NotSigned::ShortRsa) if !self.short_rsa => {
                    self.seen.short_rsa.store(true, Ordering::Relaxed);
                    "its RSA key is too short for TLS 1.3".to_owned()
                }
                Err(NotSigned::ShortRsa) => "its RSA key is too short for the signature that the BMC makes".to_owned(),
                Err(NotSigned::Unusable(why)) => why,
            };
            let _ = self.seen.unusable.set(why);
            Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(KeyUnusable)))))
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let fingerprint = Fingerprint::of(end_entity);
        let fingerprint = *self.seen.certificate.get_or_init(|| fingerprint);
        if self.pins.contains(&fingerprint) {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.by_ca {
            Some(ca) => ca.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            None => Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(NotPinned))))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let supported = &self.provider.signature_verification_algorithms;
        self.by_pin(message, certificate, signature)
            .unwrap_or_else(|| verify_tls12_signature(message, certificate, signature, supported))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let supported = &self.provider.signature_verification_algorithms;
        self.by_pin(message, certificate, signature)
            .unwrap_or_else(|| verify_tls13_signature(message, certificate, signature, supported))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        if self.short_rsa {
            return vec![SignatureScheme::RSA_PKCS1_SHA256, SignatureScheme::RSA_PKCS1_SHA512];
        }
        let mut schemes = self.provider.signature_verification_algorithms.supported_schemes();
        // Not one of ours: a BMC that has nothing else shows its certificate then, and the error can say what is wrong.
        schemes.push(SignatureScheme::ECDSA_NISTP521_SHA512);
        schemes
    }
}

#[derive(Debug, Error)]
#[error("the certificate's key can't be used")]
struct KeyUnusable;

#[derive(Debug, Error)]
#[error("the certificate is not pinned")]
struct NotPinned;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_with_and_without_colons() {
        let fingerprint = Fingerprint::of(b"certificate");
        let hex = fingerprint.to_string();
        let colons = hex.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).to_uppercase());
        assert_eq!(colons.collect::<Vec<_>>().join(":").parse::<Fingerprint>(), Ok(fingerprint));
        assert_eq!(hex.parse::<Fingerprint>(), Ok(fingerprint));
        for wrong in ["", "00", &hex.replace('0', "g").replace('1', "é"), &hex[1..]] {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(FingerprintError));
        }
    }

    #[test]
    fn a_ca_file_without_certificates_is_refused() {
        assert!(Trust::default().and_ca("hello").unwrap_err().contains("BEGIN CERTIFICATE"));
        assert!(Trust::default().is_empty());
    }
}
