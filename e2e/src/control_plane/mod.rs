//! A real Kubernetes control plane on this machine, without containers and without root.
//!
//! ```text
//! etcd ◀── kube-apiserver ◀─┬─ kube-controller-manager   one folder: certificates, logs, data
//!                           ├─ kube-scheduler            free ports of the loopback interface
//!                           ├─ kwok (every kubelet)      Kubernetes' own programs, unchanged
//!                           └─ the scenario: KubeVirt's stand-in, the operator, people
//! ```

pub mod access;
pub mod audit;
pub mod certificates;
pub mod nodes;
pub mod objects;
pub mod servers;

use crate::child::{Child, survivors};
use crate::tools::Tools;
use crate::wait::{Look, until};
use access::TokenFor;
use anyhow::{Context as _, bail};
use certificates::Authority;
use kube::Client;
use servers::{Layout, Server};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a server may take to become ready on a busy machine.
const READY_WITHIN: Duration = Duration::from_mins(2);
/// How long the API server may take to end its requests before it is killed.
const GRACE: Duration = Duration::from_secs(15);

/// The running control plane. Dropping it kills every server.
pub struct Stand {
    folder: PathBuf,
    tools: Tools,
    authority: Authority,
    layout: Layout,
    admin: Client,
    servers: Mutex<BTreeMap<Server, Arc<Child>>>,
}

impl Stand {
    /// Starts the control plane in a new folder below `base` and waits until it answers. Folders of earlier runs that
    /// nothing uses any more are removed first.
    ///
    /// # Errors
    /// When a server does not start; the message ends with what it last said.
    pub async fn start(tools: Tools, base: &Path) -> anyhow::Result<Self> {
        let folder = new_folder(base)?;
        let authority = Authority::new("stand-ca")?;
        let layout = Layout::prepare(&folder, &authority)?;
        let admin = access::client(&layout.kubeconfig("admin")).await?;
        let stand = Self { folder, tools, authority, layout, admin, servers: Mutex::default() };
        for server in Server::ALL {
            stand.start_server(server).await?;
        }
        stand.wait_for_default_account().await?;
        Ok(stand)
    }

    /// A client that may do anything.
    #[must_use]
    pub fn client_as_admin(&self) -> Client {
        self.admin.clone()
    }

    /// A client with the rights of a ServiceAccount.
    ///
    /// # Errors
    /// When there is no such account.
    pub async fn client_for_service_account(&self, namespace: &str, account: &str) -> anyhow::Result<Client> {
        access::client(&self.kubeconfig_for_service_account(namespace, account).await?).await
    }

    /// The kubeconfig, with a fresh token, of a ServiceAccount.
    ///
    /// # Errors
    /// When there is no such account.
    pub async fn kubeconfig_for_service_account(&self, namespace: &str, account: &str) -> anyhow::Result<PathBuf> {
        let token = self.token(namespace, account, TokenFor::default()).await?;
        self.kubeconfig_for_token(&format!("{namespace}-{account}"), &token)
    }

    /// A kubeconfig that carries a token.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn kubeconfig_for_token(&self, name: &str, token: &str) -> anyhow::Result<PathBuf> {
        let kubeconfig = access::kubeconfig_with_token(&self.layout.url(), &self.authority.pem(), token);
        let path = self.layout.kubeconfig(name);
        access::write_kubeconfig(&kubeconfig, &path)?;
        Ok(path)
    }

    /// A client for a person: a user name and groups, by client certificate.
    ///
    /// # Errors
    /// When the certificate can't be made.
    pub async fn client_for_user(&self, user: &str, groups: &[&str]) -> anyhow::Result<Client> {
        access::client(&self.kubeconfig_for_user(user, groups)?).await
    }

    /// The kubeconfig of a person, for programs.
    ///
    /// # Errors
    /// When the certificate can't be made.
    pub fn kubeconfig_for_user(&self, user: &str, groups: &[&str]) -> anyhow::Result<PathBuf> {
        let identity = self.authority.client(user, groups)?;
        let kubeconfig = access::kubeconfig_with_certificate(&self.layout.url(), &self.authority.pem(), &identity);
        let path = self.layout.kubeconfig(&format!("user-{user}"));
        access::write_kubeconfig(&kubeconfig, &path)?;
        Ok(path)
    }

    /// A token of a ServiceAccount.
    ///
    /// # Errors
    /// When there is no such account, or no such pod to bind it to.
    pub async fn token(&self, namespace: &str, account: &str, how: TokenFor<'_>) -> anyhow::Result<String> {
        access::token(&self.admin, namespace, account, how).await
    }

    /// The admin's kubeconfig, for programs such as helm.
    #[must_use]
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig("admin")
    }

    /// Who signs the stand's certificates, such as those of webhooks.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The programs.
    #[must_use]
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The folder with logs and everything else.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What service accounts asked the API server for.
    ///
    /// # Errors
    /// When the audit log can't be read.
    pub fn audit(&self) -> anyhow::Result<audit::Log> {
        audit::Log::read(&self.layout.audit_log())
    }

    /// A running server, to be paused or looked at.
    ///
    /// # Errors
    /// When it is not running.
    pub fn server(&self, server: Server) -> anyhow::Result<Arc<Child>> {
        self.servers().get(&server).cloned().with_context(|| format!("{} is not running", server.name()))
    }

    /// Stops the API server and starts it again with the same data.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn restart_api_server(&self) -> anyhow::Result<()> {
        self.stop_server(Server::ApiServer).await?;
        self.start_server(Server::ApiServer).await
    }

    /// Stops one server.
    ///
    /// # Errors
    /// When it can't be stopped.
    pub async fn stop_server(&self, server: Server) -> anyhow::Result<()> {
        let child = self.servers().remove(&server);
        if let Some(child) = child {
            child.stop(GRACE).await?;
        }
        Ok(())
    }

    /// Starts one server and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub async fn start_server(&self, server: Server) -> anyhow::Result<()> {
        let child = Arc::new(self.layout.program(server, &self.tools).start(&self.folder)?);
        self.servers().insert(server, Arc::clone(&child));
        if server != Server::ApiServer {
            return Ok(());
        }
        let ready = until("kube-apiserver is ready", READY_WITHIN, || async {
            for server in [Server::Etcd, Server::ApiServer] {
                let child = self.server(server)?;
                if let Some(status) = child.ended()? {
                    return Ok(Look::Done(Err(format!("{} ended ({status})", child.name()))));
                }
            }
            let request = http::Request::get("/readyz").body(Vec::new())?;
            let answer = self.admin.request_text(request).await?;
            Ok(if answer == "ok" { Look::Done(Ok(())) } else { Look::NotYet(answer) })
        })
        .await;
        match ready {
            Ok(Ok(())) => Ok(()),
            Ok(Err(message)) => bail!("{message}; its last words:\n{}", self.last_words(20)),
            Err(error) => Err(error.context(self.last_words(20))),
        }
    }

    /// Stops everything in the reverse order of its start (the API server would hang without etcd), then looks for
    /// processes that are left.
    ///
    /// # Errors
    /// When anything that the stand or a scenario started still runs.
    pub async fn stop(self) -> anyhow::Result<()> {
        for server in Server::ALL.into_iter().rev() {
            let child = self.servers().remove(&server);
            if let Some(child) = child {
                // The data is thrown away: nobody needs a graceful end.
                child.kill()?;
            }
        }
        let left = survivors(&self.folder)?;
        if !left.is_empty() {
            bail!("processes outlive the stand: {left:?}");
        }
        Ok(())
    }

    /// The last lines of every server's log.
    #[must_use]
    pub fn last_words(&self, lines: usize) -> String {
        self.servers()
            .values()
            .map(|child| format!("--- {} (pid {})\n{}\n", child.name(), child.pid(), child.tail(lines)))
            .collect()
    }

    async fn wait_for_default_account(&self) -> anyhow::Result<()> {
        use k8s_openapi::api::core::v1::ServiceAccount;
        let accounts: kube::Api<ServiceAccount> = kube::Api::namespaced(self.admin.clone(), "default");
        until("kube-controller-manager works", READY_WITHIN, || async {
            Ok(Look::some(accounts.get_opt("default").await?.map(drop), "no default ServiceAccount yet"))
        })
        .await
        .map_err(|error| error.context(self.last_words(20)))
    }

    fn servers(&self) -> MutexGuard<'_, BTreeMap<Server, Arc<Child>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fresh folder below `base`; those of earlier runs are removed unless a process still uses them.
fn new_folder(base: &Path) -> anyhow::Result<PathBuf> {
    const PREFIX: &str = "stand-";
    std::fs::create_dir_all(base)?;
    let base = base.canonicalize()?;
    for entry in std::fs::read_dir(&base)? {
        let path = entry?.path();
        let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        let owner = std::fs::read_to_string(path.join("owner")).ok();
        let alive = owner.is_some_and(|pid| Path::new("/proc").join(pid.trim()).exists());
        if ours && !alive && survivors(&path)?.is_empty() {
            std::fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&base)?.keep();
    std::fs::write(folder.join("owner"), std::process::id().to_string())?;
    Ok(folder)
}
