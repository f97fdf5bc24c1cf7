//! A CA and a server certificate of our own making, and when to renew them.

use jiff::{Timestamp as Moment, tz::TimeZone};
use miyako_api::wire::SERVER_NAME;
use miyako_core::model::{Span, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};

const DAY: Span = Span::from_secs(24 * 3600);

/// How long a CA is valid. Agents fetch it anew at each dial, so it need not be long.
const AUTHORITY_LIFETIME: Span = Span::from_secs(365 * 24 * 3600);

/// A new CA is made at half of the old one's life.
const AUTHORITY_RENEWAL: Span = Span::from_secs(182 * 24 * 3600);

/// How long a server certificate is valid.
const SERVER_LIFETIME: Span = Span::from_secs(30 * 24 * 3600);

/// It is renewed at two thirds of its life, as cert-manager does.
const SERVER_RENEWAL: Span = Span::from_secs(20 * 24 * 3600);

/// How long before its first use a CA is published, and how long after its last use it stays published.
const HEAD_START: Span = Span::from_secs(3600);

/// Certificates are dated back by this much, for agents whose clocks are behind.
const DATED_BACK: Span = DAY;

/// Why nothing could be issued.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Making a key or signing failed.
    #[error("could not issue a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// The clock shows a time that no certificate can carry.
    #[error("the clock shows a time that no certificate can carry: {0}")]
    Clock(#[from] jiff::Error),
}

/// A certificate with its key, as PEM, and its dates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Issued {
    certificate: String,
    key: String,
    made: Timestamp,
    expires: Timestamp,
}

impl Issued {
    /// Made longer ago than `age`.
    fn is_older_than(&self, age: Span, now: Timestamp) -> bool {
        now.since(self.made) >= age
    }

    /// Neither expired nor dated in a future that agents would refuse.
    fn is_valid(&self, now: Timestamp) -> bool {
        self.made - DATED_BACK <= now && now < self.expires
    }
}

/// Everything that the Secret holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The CAs that are to be trusted, the oldest first.
    authorities: Vec<Issued>,
    /// What the operator shows.
    server: Issued,
    /// When the CA was made that signed it.
    signed_by: Timestamp,
}

impl Identity {
    /// A new CA and a certificate signed by it.
    ///
    /// # Errors
    /// When keys can't be made.
    pub fn fresh(now: Timestamp) -> Result<Self, IdentityError> {
        let authority = issue_authority(now)?;
        let server = issue_server(&authority, now)?;
        Ok(Self { signed_by: authority.made, authorities: vec![authority], server })
    }

    /// What must take the place of `current` now; `None` while it is good.
    ///
    /// # Errors
    /// When keys can't be made.
    pub fn renewed(current: Option<&Self>, now: Timestamp) -> Result<Option<Self>, IdentityError> {
        let Some(current) = current else { return Self::fresh(now).map(Some) };
        let mut next = current.clone();
        next.authorities.retain(|authority| authority.is_valid(now));
        let Some(newest) = next.authorities.last() else { return Self::fresh(now).map(Some) };
        if newest.is_older_than(AUTHORITY_RENEWAL, now) {
            next.authorities.push(issue_authority(now)?);
        }
        let known_long_enough = |authority: &&Issued| authority.is_older_than(HEAD_START, now);
        let signer = next.authorities.iter().rev().find(known_long_enough).or(next.authorities.first());
        let Some(signer) = signer else { return Self::fresh(now).map(Some) };
        let outdated = signer.made != next.signed_by
            || !next.server.is_valid(now)
            || next.server.is_older_than(SERVER_RENEWAL, now);
        if outdated {
            next.signed_by = signer.made;
            next.server = issue_server(signer, now)?;
        } else if next.server.is_older_than(HEAD_START, now) {
            // Every replica shows the new certificate by now; nobody needs the CAs before its own.
            let signed_by = next.signed_by;
            next.authorities.retain(|authority| authority.made >= signed_by);
        }
        Ok((next != *current).then_some(next))
    }

    /// The CA certificates to trust, as PEM.
    #[must_use]
    pub fn authorities_pem(&self) -> String {
        self.authorities.iter().map(|authority| authority.certificate.as_str()).collect()
    }

    /// The server certificate and its key, as PEM.
    #[must_use]
    pub fn server_pem(&self) -> (&str, &str) {
        (&self.server.certificate, &self.server.key)
    }
}

fn dates(params: &mut CertificateParams, made: Timestamp, expires: Timestamp) -> Result<(), IdentityError> {
    let day = |moment: Timestamp| {
        let date = Moment::from_millisecond(moment.millis())?.to_zoned(TimeZone::UTC).date();
        let number = |part: i8| u8::try_from(part).unwrap_or(1);
        Ok::<_, IdentityError>(rcgen::date_time_ymd(date.year().into(), number(date.month()), number(date.day())))
    };
    params.not_before = day(made - DATED_BACK)?;
    params.not_after = day(expires)?;
    Ok(())
}

/// A CA's own data. They follow from the moment it was made, so that a stored CA can sign again.
fn authority_params(made: Timestamp, expires: Timestamp) -> Result<CertificateParams, IdentityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("miyako.dev wire CA {}", made.millis()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    dates(&mut params, made, expires)?;
    Ok(params)
}

fn issue_authority(now: Timestamp) -> Result<Issued, IdentityError> {
    let expires = now + AUTHORITY_LIFETIME;
    let key = KeyPair::generate()?;
    let certificate = authority_params(now, expires)?.self_signed(&key)?;
    Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem(), made: now, expires })
}

fn issue_server(authority: &Issued, now: Timestamp) -> Result<Issued, IdentityError> {
    let expires = (now + SERVER_LIFETIME).min(authority.expires);
    let issuer = Issuer::new(authority_params(authority.made, authority.expires)?, KeyPair::from_pem(&authority.key)?);
    let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, SERVER_NAME);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    dates(&mut params, now, expires)?;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem(), made: now, expires })
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_800_000_000);
    const HOUR: Span = Span::from_secs(3600);

    #[test]
    fn nothing_changes_while_everything_is_good() {
        let identity = Identity::renewed(None, START).unwrap().unwrap();
        assert_eq!(Identity::renewed(Some(&identity), START + DAY).unwrap(), None);
    }

    #[test]
    fn a_server_certificate_is_renewed_by_the_same_authority() {
        let before = Identity::fresh(START).unwrap();
        let after = Identity::renewed(Some(&before), START + DAY * 20).unwrap().unwrap();
        assert_eq!(after.authorities_pem(), before.authorities_pem());
        assert_ne!(after.server_pem(), before.server_pem());
    }

    #[test]
    fn over_years_whatever_is_shown_was_published_before_and_stays_trusted_after() {
        let mut now = START;
        let mut identity = Identity::fresh(now).unwrap();
        let mut authorities_made = 1;
        let mut published = vec![(now, identity.clone())];
        while now < START + AUTHORITY_LIFETIME * 3 {
            now = now + HOUR;
            if let Some(next) = Identity::renewed(Some(&identity), now).unwrap() {
                authorities_made += usize::from(next.authorities.last() != identity.authorities.last());
                identity = next;
                published.push((now, identity.clone()));
            }
            // An agent that saw the ConfigMap of up to half an hour ago trusts what is shown now, and the other way.
            let (_, half_an_hour_ago) =
                published.iter().rev().find(|(at, _)| *at <= now - HOUR / 2).unwrap_or(&published[0]);
            let trusts = |agent: &Identity, shown: &Identity| {
                agent.authorities.iter().any(|authority| authority.made == shown.signed_by && authority.is_valid(now))
            };
            assert!(trusts(half_an_hour_ago, &identity));
            assert!(trusts(&identity, half_an_hour_ago));
            assert!(identity.server.is_valid(now));
            assert!(identity.authorities.len() <= 2);
        }
        assert_eq!(authorities_made, 7);
    }

    #[test]
    fn what_was_made_under_a_wrong_clock_is_replaced() {
        let from_the_future = Identity::fresh(START + DAY * 400).unwrap();
        let identity = Identity::renewed(Some(&from_the_future), START).unwrap().unwrap();
        assert!(identity.server.is_valid(START));
        assert_eq!(identity.authorities.len(), 1);
    }
}
