//! Agents' and wakers' tokens, judged by the API server.

use super::{Authenticate, AuthenticationError, Speaker};
use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{Api, Client, api::PostParams};
use miyako_api::wire::TOKEN_AUDIENCE;
use miyako_core::model::NodeName;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

/// In the TokenReview's answer: the node of the pod that the token is bound to.
const NODE_NAME_EXTRA: &str = "authentication.kubernetes.io/node-name";

/// In the same answer: that pod's name.
const POD_NAME_EXTRA: &str = "authentication.kubernetes.io/pod-name";

/// How long an answer is good for. An agent whose pod was deleted is known for this long at most.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// How long a refusal is remembered, so that an agent with a bad token does not become a load on the API server.
const REFUSAL_REMEMBERED_FOR: Duration = Duration::from_secs(10);

/// Answers that are remembered at once: more than there are nodes, and too few to matter in memory.
const REMEMBERED: usize = 4_096;

/// TokenReviews under way at once: after a restart a thousand agents come within a second.
const AT_ONCE: usize = 16;

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The ServiceAccount that agents or wakers run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl AgentAccount {
    fn user_name(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

type Answer = Result<Speaker, AuthenticationError>;

/// Asks the API server whose token it is, and remembers the answer for a minute.
pub struct TokenReviewer {
    api: Api<TokenReview>,
    account: AgentAccount,
    at_once: Semaphore,
    remembered: Mutex<BTreeMap<[u8; 32], (Instant, Answer)>>,
}

impl TokenReviewer {
    /// A reviewer that lets `account` speak and nobody else.
    #[must_use]
    pub fn new(client: Client, account: AgentAccount) -> Self {
        Self {
            api: Api::all(client),
            account,
            at_once: Semaphore::new(AT_ONCE),
            remembered: Mutex::new(BTreeMap::new()),
        }
    }

    async fn review(&self, token: &str) -> Answer {
        let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![TOKEN_AUDIENCE.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let _one_of_few = self.at_once.acquire().await;
        match timeout(PATIENCE, self.api.create(&PostParams::default(), &review)).await {
            Err(_) => Err(AuthenticationError::Unavailable(format!("no answer within {} s", PATIENCE.as_secs()))),
            Ok(Err(error)) => Err(AuthenticationError::Unavailable(error.to_string())),
            Ok(Ok(review)) => judge(review.status.unwrap_or_default(), &self.account),
        }
    }

    fn recall(&self, key: &[u8; 32]) -> Option<Answer> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(key).filter(|(until, _)| *until > Instant::now()).map(|(_, answer)| answer.clone())
    }

    fn remember(&self, key: [u8; 32], answer: &Answer) {
        let lifetime = match answer {
            Ok(_) => REMEMBERED_FOR,
            Err(AuthenticationError::Unavailable(_)) => return,
            Err(_) => REFUSAL_REMEMBERED_FOR,
        };
        let now = Instant::now();
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED {
            remembered.retain(|_, (until, _)| *until > now);
        }
        if remembered.len() < REMEMBERED {
            remembered.insert(key, (now + lifetime, answer.clone()));
        }
    }
}

impl Authenticate for TokenReviewer {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Answer> {
        async move {
            // Tokens themselves are never kept.
            let key = Sha256::digest(token.as_bytes()).into();
            if let Some(answer) = self.recall(&key) {
                return answer;
            }
            let answer = self.review(token).await;
            self.remember(key, &answer);
            answer
        }
        .boxed()
    }
}

/// Reads the node out of the API server's answer.
fn judge(status: TokenReviewStatus, account: &AgentAccount) -> Answer {
    if status.authenticated != Some(true) {
        let why = status.error.unwrap_or_else(|| "it is not valid".to_owned());
        return Err(AuthenticationError::Refused(why));
    }
    // A server that knows nothing of audiences leaves the field empty, and then the token may be for anything.
    if !status.audiences.unwrap_or_default().iter().any(|audience| audience == TOKEN_AUDIENCE) {
        return Err(AuthenticationError::Refused(format!("it is not for the audience {TOKEN_AUDIENCE}")));
    }
    let user = status.user.unwrap_or_default();
    let (got, expected) = (user.username.unwrap_or_default(), account.user_name());
    if got != expected {
        return Err(AuthenticationError::WrongAccount { got, expected });
    }
    let mut extra = user.extra.unwrap_or_default();
    let pod = extra.remove(POD_NAME_EXTRA).and_then(|pods| pods.into_iter().next()).filter(|pod| !pod.is_empty());
    match extra.remove(NODE_NAME_EXTRA).unwrap_or_default().as_slice() {
        [node] if !node.is_empty() => Ok(Speaker { node: NodeName::new(node), pod }),
        _ => Err(AuthenticationError::NoNode),
    }
}
