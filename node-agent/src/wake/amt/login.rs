//! HTTP Digest (RFC 7616) as AMT speaks it: what to do after a 401. Pure.
//!
//! AMT forgets nonces now and then, so a 401 to an old nonce means nothing yet. A 401 to a nonce that is seconds old means
//! a wrong password or a locked account, and every further try makes it worse.

use crate::wake::Credentials;
use http_auth::{DigestClient, PasswordParams, parser::ChallengeParser};

/// How the refused request was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signed {
    /// Not at all.
    No,
    /// With a nonce of an earlier exchange.
    OldNonce,
    /// With the nonce of the 401 just before.
    NewNonce,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After401 {
    /// Sign with the new nonce and send again.
    Again,
    /// Stop: wrong password or locked account.
    Stop,
}

/// The most requests of one exchange, so that a server that calls every nonce stale does not keep us.
const MOST_REQUESTS: u32 = 4;

/// Decides after the `requests`-th request of an exchange was answered by a 401.
pub(super) fn after_401(signed: Signed, stale: bool, requests: u32) -> After401 {
    match signed {
        _ if requests >= MOST_REQUESTS => After401::Stop,
        Signed::No | Signed::OldNonce => After401::Again,
        Signed::NewNonce if stale => After401::Again,
        Signed::NewNonce => After401::Stop,
    }
}

/// A nonce, and how often it was used.
pub(super) struct Digest {
    client: DigestClient,
    /// AMT names no algorithm, and then none is named to it (RFC 2617 §3.2.2: "the same value as the challenge").
    names_algorithm: bool,
}

impl Digest {
    /// The Digest challenge among the `WWW-Authenticate` headers.
    pub(super) fn challenged<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        headers.flat_map(|header| ChallengeParser::new(header).map_while(Result::ok)).find_map(|challenge| {
            let names_algorithm = challenge.params.iter().any(|(name, _)| name.eq_ignore_ascii_case("algorithm"));
            let digest = challenge.scheme.eq_ignore_ascii_case("digest");
            let client = digest.then(|| DigestClient::try_from(&challenge).ok()).flatten()?;
            Some(Self { client, names_algorithm })
        })
    }

    /// AMT's own name for itself.
    pub(super) fn realm(&self) -> &str {
        self.client.realm()
    }

    /// Whether the refused request would have been right with a younger nonce.
    pub(super) fn stale(&self) -> bool {
        self.client.stale()
    }

    /// The `Authorization` of the next POST to `/wsman`.
    pub(super) fn sign(&mut self, credentials: &Credentials) -> Result<String, String> {
        let signed = self.client.respond(&PasswordParams {
            username: credentials.username(),
            password: credentials.password(),
            uri: "/wsman",
            method: "POST",
            // Without a body the client does not choose auth-int.
            body: None,
        })?;
        Ok(if self.names_algorithm { signed } else { signed.replacen(", algorithm=MD5, ", ", ", 1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn recorded_challenges_are_understood() {
        let recorded = r#"Digest realm="Digest:A3829B3827DE4D33D4449B366831FD01", nonce="p3cAAAB4ZZZZZZZZ",stale="false",qop="auth""#;
        let mut digest = Digest::challenged([recorded].into_iter()).unwrap();
        assert_eq!((digest.realm(), digest.stale()), ("Digest:A3829B3827DE4D33D4449B366831FD01", false));
        let credentials = Credentials::new("admin", "P@ssw0rd");
        let (first, second) = (digest.sign(&credentials).unwrap(), digest.sign(&credentials).unwrap());
        assert!(first.contains("nc=00000001, ") && second.contains("nc=00000002, "), "{first}");
        assert!(!first.contains("algorithm"), "{first}");
        let newer = r#"Negotiate, Digest realm="Digest:A",nonce="n",stale="true",qop="auth,auth-int""#;
        let mut digest = Digest::challenged([newer].into_iter()).unwrap();
        assert!(digest.stale() && digest.sign(&credentials).unwrap().contains("qop=auth,"));
        assert!(Digest::challenged(["Negotiate", "Basic realm=\"x\""].into_iter()).is_none());
    }

    #[test]
    fn a_fresh_nonce_that_is_refused_ends_it() {
        assert_eq!(after_401(Signed::No, false, 1), After401::Again);
        assert_eq!(after_401(Signed::OldNonce, false, 1), After401::Again);
        assert_eq!(after_401(Signed::NewNonce, false, 2), After401::Stop);
        assert_eq!(after_401(Signed::NewNonce, true, 2), After401::Again);
        assert_eq!(after_401(Signed::NewNonce, true, 4), After401::Stop);
    }

    proptest! {
        #[test]
        fn any_header_is_a_challenge_or_none(header in "\\PC*", near in "Digest (realm|nonce|qop|stale|,|=|\"|[a-z :]){0,30}") {
            if let Some(mut digest) = Digest::challenged([header.as_str(), near.as_str()].into_iter()) {
                let _ = digest.sign(&Credentials::new("a", "b"));
            }
        }
    }
}
