//! Certificates for the virt-handlers of one lab. KubeVirt's virt-handlers show each other certificates of one
//! authority, at both ends of a connection, and so do these.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;

/// The name that every virt-handler's certificate carries, whatever its address.
pub(super) const SERVER_NAME: &str = "virt-handler";
const AUTHORITY_FILE: &str = "ca.crt";

/// Who signs a lab's certificates.
#[derive(Debug)]
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Result<Self, rcgen::Error> {
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.distinguished_name.push(DnType::CommonName, "lab");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        Ok(Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?))
    }

    /// Writes a virt-handler's certificate, key and authority into a folder.
    pub(super) fn equip(&self, folder: &Path) -> anyhow::Result<()> {
        let mut parameters = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
        parameters.distinguished_name.push(DnType::CommonName, SERVER_NAME);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.0)?;
        std::fs::write(folder.join("tls.crt"), certificate.pem())?;
        std::fs::write(folder.join("tls.key"), key.serialize_pem())?;
        std::fs::write(folder.join(AUTHORITY_FILE), self.0.pem())?;
        Ok(())
    }
}

/// Both roles of a virt-handler whose certificate, key and authority are in a folder.
pub(super) fn configurations(folder: &Path) -> anyhow::Result<(Arc<ServerConfig>, Arc<ClientConfig>)> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join(AUTHORITY_FILE))?)?;
    let roots = Arc::new(roots);
    let chain = vec![CertificateDer::from_pem_file(folder.join("tls.crt"))?];
    let key = PrivateKeyDer::from_pem_file(folder.join("tls.key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build()?;
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain.clone(), key.clone_key())?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    Ok((Arc::new(server), Arc::new(client)))
}
