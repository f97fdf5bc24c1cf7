//! What the next TLS handshake shows.

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

/// Why a certificate can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum PresentedError {
    /// The PEM text holds no certificate.
    #[error("the certificate is not PEM: {0}")]
    Certificate(rustls::pki_types::pem::Error),
    /// The PEM text holds no certificate.
    #[error("there is no certificate in the PEM text")]
    NoCertificate,
    /// The PEM text holds no private key.
    #[error("the private key is not PEM: {0}")]
    Key(rustls::pki_types::pem::Error),
    /// Certificate and key do not fit, or their algorithm is not supported.
    #[error("certificate and key can't be used: {0}")]
    Tls(#[from] rustls::Error),
}

/// The certificate that is shown, replaceable at any time. Clones share it.
#[derive(Clone, Default)]
pub struct Presented(Arc<RwLock<Option<Arc<CertifiedKey>>>>);

impl Presented {
    /// Shows this certificate chain from the next handshake on.
    ///
    /// # Errors
    /// When it can't be used; what was shown before stays.
    pub fn show(&self, certificate_pem: &[u8], key_pem: &[u8]) -> Result<(), PresentedError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate_pem)
            .collect::<Result<_, _>>()
            .map_err(PresentedError::Certificate)?;
        if chain.is_empty() {
            return Err(PresentedError::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(PresentedError::Key)?;
        let certified = CertifiedKey::from_der(chain, key, &provider())?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certified));
        Ok(())
    }

    /// Whether there is anything to show: until then handshakes fail.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.current().is_some()
    }

    fn current(&self) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// TLS settings for HTTP/2 that show whatever certificate is current.
    ///
    /// # Errors
    /// When the cryptography lacks TLS 1.3 or 1.2.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, PresentedError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

fn provider() -> CryptoProvider {
    ring::default_provider()
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current()
    }
}

impl fmt::Debug for Presented {
    /// Says nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented").field("ready", &self.is_ready()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused_and_leaves_what_was_shown() {
        let presented = Presented::default();
        for (certificate, key) in
            [("", ""), ("x", "y"), ("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----", "")]
        {
            assert!(presented.show(certificate.as_bytes(), key.as_bytes()).is_err());
            assert!(!presented.is_ready());
        }
    }
}
