//! The end of the wire that listens: agents' streams come in over TLS, each speaks for the node that its token is
//! bound to, and every sample is answered. Wakers call there too: they speak for the BMCs of all nodes.

mod authenticate;
mod connection;
mod delays;
mod serve;
mod stream;
mod token_review;

pub use authenticate::{Authenticate, AuthenticationError, Speaker};
pub use serve::{ServeError, serve, serve_connections};
pub use stream::LoadService;
pub use token_review::{AgentAccount, TokenReviewer};
