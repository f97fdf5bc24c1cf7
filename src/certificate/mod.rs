//! The certificate that the operator shows to agents, and the CA that they trust.
//!
//! Where there is cert-manager, [`mounted`] reads what it mounts. Else the operator makes its own: [`identity`]
//! decides what must be renewed (a pure function of what there is and the time), [`kept`] keeps it in a Secret and
//! publishes the CA in a ConfigMap, which agents mount. Either way [`presented`] is what the next TLS handshake
//! shows, so a renewal needs no restart.
//!
//! A new CA is published an hour before anything is signed with it, and an old one stays trusted for an hour after:
//! kubelets bring a ConfigMap's change to the pods within minutes.

pub mod identity;
pub mod kept;
pub mod mounted;
pub mod presented;
