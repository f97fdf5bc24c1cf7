//! The key of a certificate, and what it signed: as much of X.509 as a pinned certificate needs. Its fingerprint vouches for
//! all that it says, so its version, names, dates and extensions are not looked at: BMCs have certificates of version 1,
//! with negative serial numbers, from 1970.

use rustls::{SignatureScheme, crypto::ring::default_provider, pki_types::SignatureVerificationAlgorithm};

/// The algorithm and the bits of a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PublicKey<'a> {
    /// What stands in the AlgorithmIdentifier.
    algorithm: &'a [u8],
    key: &'a [u8],
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotSigned {
    /// The key did not make it: somebody else showed the certificate.
    Wrong,
    /// An RSA key of less than 2048 bits with a padding that is only known for longer ones; PKCS#1 would do.
    ShortRsa,
    /// Nothing here can check signatures of this key.
    Unusable(String),
}

/// `rsaEncryption`, `id-ecPublicKey` and `secp521r1`, with their tags and lengths.
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P521: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];

/// The bits that RSA keys must have at least for PSS, and at least and most for PKCS#1.
const RSA_PSS_BITS: usize = 2048;
const RSA_LEAST_BITS: usize = 1024;
const RSA_MOST_BITS: usize = 8192;

/// One DER value with this tag, and what follows it. Lengths of up to three bytes: no certificate in TLS is longer.
fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length))?
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

impl<'a> PublicKey<'a> {
    /// The key of a certificate in DER (RFC 5280 §4.1).
    pub(super) fn of(certificate: &'a [u8]) -> Option<Self> {
        let (certificate, _) = value(certificate, SEQUENCE)?;
        let (fields, _) = value(certificate, SEQUENCE)?;
        // Version 1 leaves the version out.
        let rest = value(fields, VERSION).map_or(fields, |(_, rest)| rest);
        let (_, rest) = value(rest, INTEGER)?;
        // Signature algorithm, issuer, validity, subject.
        let rest = (0..4).try_fold(rest, |rest, _| Some(value(rest, SEQUENCE)?.1))?;
        let (info, _) = value(rest, SEQUENCE)?;
        let (algorithm, rest) = value(info, SEQUENCE)?;
        let (bits, _) = value(rest, BIT_STRING)?;
        let (0, key) = bits.split_first().map(|(unused, key)| (*unused, key))? else { return None };
        Some(Self { algorithm, key })
    }

    /// The length of an RSA key's modulus.
    fn rsa_bits(&self) -> Option<usize> {
        self.algorithm.starts_with(RSA).then_some(())?;
        let (numbers, _) = value(self.key, SEQUENCE)?;
        let (modulus, _) = value(numbers, INTEGER)?;
        let first = modulus.iter().position(|byte| *byte != 0)?;
        let leading = modulus.get(first)?.leading_zeros();
        Some((modulus.len() - first) * 8 - usize::try_from(leading).ok()?)
    }

    /// Whether this key made the signature of a TLS handshake.
    pub(super) fn signed(&self, scheme: SignatureScheme, message: &[u8], signature: &[u8]) -> Result<(), NotSigned> {
        if let Some(bits) = self.rsa_bits() {
            if !(RSA_LEAST_BITS..=RSA_MOST_BITS).contains(&bits) {
                return Err(NotSigned::Unusable(format!("its RSA key has {bits} bits")));
            }
            if bits < RSA_PSS_BITS {
                let algorithm = short_rsa(scheme).ok_or(NotSigned::ShortRsa)?;
                let key = ring::signature::UnparsedPublicKey::new(algorithm, self.key);
                return key.verify(message, signature).map_err(|_| NotSigned::Wrong);
            }
        }
        let supported = default_provider().signature_verification_algorithms;
        let of_scheme = supported.mapping.iter().filter(|(known, _)| *known == scheme).flat_map(|(_, all)| *all);
        let algorithm = of_scheme.copied().find(|algorithm| self.is_for(*algorithm)).ok_or_else(|| self.unusable())?;
        algorithm.verify_signature(self.key, message, signature).map_err(|_| NotSigned::Wrong)
    }

    fn is_for(&self, algorithm: &dyn SignatureVerificationAlgorithm) -> bool {
        let wanted = algorithm.public_key_alg_id();
        let wanted: &[u8] = wanted.as_ref();
        // Some leave out the NULL that belongs to an RSA key.
        wanted == self.algorithm || wanted.starts_with(RSA) && self.algorithm == RSA
    }

    fn unusable(&self) -> NotSigned {
        NotSigned::Unusable(match self.algorithm.strip_prefix(EC) {
            Some(curve) if curve == P521 => "its key is on the curve P-521".to_owned(),
            Some(_) => "its key is on another curve than P-256 and P-384".to_owned(),
            None => "its key is of a kind that is not known here".to_owned(),
        })
    }
}

/// How signatures of short RSA keys are checked.
fn short_rsa(scheme: SignatureScheme) -> Option<&'static ring::signature::RsaParameters> {
    match scheme {
        SignatureScheme::RSA_PKCS1_SHA256 => Some(&ring::signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY),
        SignatureScheme::RSA_PKCS1_SHA512 => Some(&ring::signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};

    fn certificate() -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        CertificateParams::new(vec!["bmc".into()]).unwrap().self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_key_of_a_certificate_is_found_whatever_its_version() {
        let der = certificate();
        let key = PublicKey::of(&der).unwrap();
        assert!(key.algorithm.starts_with(EC) && key.key.len() == 65 && key.key[0] == 4);
        // The same without the version, which is [0] { INTEGER 2 }: all lengths around it are of two bytes.
        let at = der.windows(5).position(|bytes| bytes == [0xa0, 3, 2, 1, 2]).unwrap();
        let mut first = der.clone();
        first.drain(at..at + 5);
        for length in [2, 6] {
            let bytes = u16::from_be_bytes([first[length], first[length + 1]]) - 5;
            first[length..length + 2].copy_from_slice(&bytes.to_be_bytes());
        }
        if der[1] == 0x82 && der[5] == 0x82 {
            assert_eq!(PublicKey::of(&first), Some(key));
        }
        assert_eq!(key.signed(SignatureScheme::ECDSA_NISTP256_SHA256, b"m", b"s"), Err(NotSigned::Wrong));
        assert!(matches!(key.signed(SignatureScheme::ED25519, b"m", b"s"), Err(NotSigned::Unusable(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_key_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), to in any::<u8>(), scheme in any::<u16>()) {
            let mut near = certificate();
            let index = at.index(near.len());
            near[index] = to;
            for bytes in [&bytes, &near, &near[..index].to_vec()] {
                if let Some(key) = PublicKey::of(bytes) {
                    prop_assert!(key.signed(SignatureScheme::from(scheme), b"m", b"s").is_err());
                    prop_assert!(key.signed(SignatureScheme::RSA_PKCS1_SHA256, b"m", b"s").is_err());
                }
            }
        }
    }
}
