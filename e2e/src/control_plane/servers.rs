//! How each server of the control plane is started.

use super::access;
use super::certificates::{Authority, IdentityFiles};
use crate::child::Program;
use crate::tools::Tools;
use rcgen::KeyPair;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

/// A server of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    /// The store.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager: service accounts, garbage collection, DaemonSets, node lifecycle, …
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// kwok: every node's kubelet.
    Kwok,
}

impl Server {
    /// All of them, in the order in which they start.
    pub const ALL: [Self; 5] = [Self::Etcd, Self::ApiServer, Self::ControllerManager, Self::Scheduler, Self::Kwok];

    /// The program's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kwok => "kwok",
        }
    }
}

/// A node with this label is left alone by kwok: its kubelet is silent, as a sleeping node's.
pub const SILENT_KUBELET: &str = "e2e.miyako.dev/kubelet";

/// The audit log's policy: who asked for what, once per request, for programs with a service account.
const AUDIT_POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: ['system:serviceaccounts']
- level: None
";

/// Everything that the servers need to know of each other: ports, and files in the stand's folder.
#[derive(Debug)]
pub struct Layout {
    folder: PathBuf,
    etcd_client: u16,
    etcd_peer: u16,
    api_server: u16,
    controller_manager: u16,
    scheduler: u16,
    serving: IdentityFiles,
    front_proxy: IdentityFiles,
}

impl Layout {
    /// Chooses free ports and writes certificates, keys, kubeconfigs and policies into the stand's folder.
    ///
    /// # Errors
    /// When the files can't be written.
    pub fn prepare(folder: &Path, authority: &Authority) -> anyhow::Result<Self> {
        let [etcd_client, etcd_peer, api_server, controller_manager, scheduler] = free_ports()?;
        std::fs::write(folder.join("ca.crt"), authority.pem())?;
        let front_proxy_authority = Authority::new("front-proxy-ca")?;
        std::fs::write(folder.join("front-proxy-ca.crt"), front_proxy_authority.pem())?;
        let front_proxy =
            front_proxy_authority.client("front-proxy-client", &[])?.write(folder, "front-proxy-client")?;
        let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"];
        let serving = authority.server(&names)?.write(folder, "apiserver")?;

        let tokens = KeyPair::generate()?;
        std::fs::write(folder.join("service-account.key"), tokens.serialize_pem())?;
        std::fs::write(folder.join("service-account.pub"), tokens.public_key_pem())?;
        std::fs::write(folder.join("audit-policy.yaml"), AUDIT_POLICY)?;

        let layout = Self {
            folder: folder.to_owned(),
            etcd_client,
            etcd_peer,
            api_server,
            controller_manager,
            scheduler,
            serving,
            front_proxy,
        };
        for (user, groups) in [
            ("admin", &["system:masters"][..]),
            ("kwok", &["system:masters"]),
            ("system:kube-controller-manager", &[]),
            ("system:kube-scheduler", &[]),
        ] {
            let identity = authority.client(user, groups)?;
            let name = user.trim_start_matches("system:");
            let kubeconfig = access::kubeconfig_with_certificate(&layout.url(), &authority.pem(), &identity);
            access::write_kubeconfig(&kubeconfig, &layout.kubeconfig(name))?;
        }
        Ok(layout)
    }

    /// The API server's address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_server)
    }

    /// The kubeconfig of `admin` or of one of the servers.
    #[must_use]
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{user}.kubeconfig"))
    }

    /// The API server's audit log: one JSON object per line and request of a service account.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    /// The program of a server, ready to start.
    #[must_use]
    pub fn program(&self, server: Server, tools: &Tools) -> Program {
        let program = Program::new(server.name(), tools.path(server.name()));
        match server {
            Server::Etcd => self.etcd(program),
            Server::ApiServer => self.api_server(program),
            Server::ControllerManager => self.controller_manager(program),
            Server::Scheduler => self.scheduler(program),
            Server::Kwok => self.kwok(program, tools),
        }
    }

    fn etcd(&self, program: Program) -> Program {
        let client = format!("http://127.0.0.1:{}", self.etcd_client);
        let peer = format!("http://127.0.0.1:{}", self.etcd_peer);
        program
            .flag("name", "stand")
            .flag("data-dir", self.folder.join("etcd"))
            .flag("listen-client-urls", &client)
            .flag("advertise-client-urls", &client)
            .flag("listen-peer-urls", &peer)
            .flag("initial-advertise-peer-urls", &peer)
            .flag("initial-cluster", format!("stand={peer}"))
            // The data need not outlive a power cut.
            .arg("--unsafe-no-fsync")
            .flag("log-level", "warn")
    }

    fn api_server(&self, program: Program) -> Program {
        program
            .flag("etcd-servers", format!("http://127.0.0.1:{}", self.etcd_client))
            .flag("bind-address", "127.0.0.1")
            .flag("advertise-address", "127.0.0.1")
            // No pod can reach the loopback interface, so nobody needs the `kubernetes` Service's endpoints.
            .flag("endpoint-reconciler-type", "none")
            .flag("secure-port", self.api_server.to_string())
            .flag("tls-cert-file", &self.serving.certificate)
            .flag("tls-private-key-file", &self.serving.key)
            .flag("client-ca-file", self.folder.join("ca.crt"))
            .flag("authorization-mode", "Node,RBAC")
            .flag("enable-admission-plugins", "NodeRestriction")
            .flag("allow-privileged", "true")
            .flag("service-cluster-ip-range", "10.96.0.0/16")
            .flag("service-account-issuer", "https://kubernetes.default.svc")
            .flag("service-account-key-file", self.folder.join("service-account.pub"))
            .flag("service-account-signing-key-file", self.folder.join("service-account.key"))
            .flag("requestheader-client-ca-file", self.folder.join("front-proxy-ca.crt"))
            .flag("requestheader-allowed-names", "front-proxy-client")
            .flag("requestheader-username-headers", "X-Remote-User")
            .flag("requestheader-group-headers", "X-Remote-Group")
            .flag("requestheader-extra-headers-prefix", "X-Remote-Extra-")
            .flag("proxy-client-cert-file", &self.front_proxy.certificate)
            .flag("proxy-client-key-file", &self.front_proxy.key)
            .arg("--enable-aggregator-routing")
            .flag("audit-policy-file", self.folder.join("audit-policy.yaml"))
            .flag("audit-log-path", self.audit_log())
    }

    fn controller_manager(&self, program: Program) -> Program {
        let kubeconfig = self.kubeconfig("kube-controller-manager");
        program
            .flag("kubeconfig", &kubeconfig)
            .flag("authentication-kubeconfig", &kubeconfig)
            .flag("authorization-kubeconfig", &kubeconfig)
            .flag("bind-address", "127.0.0.1")
            .flag("secure-port", self.controller_manager.to_string())
            .flag("cert-dir", self.folder.join("controller-manager"))
            .flag("leader-elect", "false")
            .flag("use-service-account-credentials", "true")
            .flag("root-ca-file", self.folder.join("ca.crt"))
            .flag("service-account-private-key-file", self.folder.join("service-account.key"))
    }

    fn scheduler(&self, program: Program) -> Program {
        let kubeconfig = self.kubeconfig("kube-scheduler");
        program
            .flag("kubeconfig", &kubeconfig)
            .flag("authentication-kubeconfig", &kubeconfig)
            .flag("authorization-kubeconfig", &kubeconfig)
            .flag("bind-address", "127.0.0.1")
            .flag("secure-port", self.scheduler.to_string())
            .flag("cert-dir", self.folder.join("scheduler"))
            .flag("leader-elect", "false")
    }

    fn kwok(&self, program: Program, tools: &Tools) -> Program {
        program
            .flag("kubeconfig", self.kubeconfig("kwok"))
            .flag("config", tools.path("stages.yaml"))
            // A node that gets the label leaves kwok's watch, as if it were deleted there: no more leases.
            .flag("manage-nodes-with-label-selector", format!("!{SILENT_KUBELET}"))
            .flag("node-lease-duration-seconds", "40")
            .flag("node-ip", Ipv4Addr::LOCALHOST.to_string())
    }
}

/// Ports that nobody listens on. All are held until all are chosen, so they differ.
///
/// # Errors
/// When there are none.
pub fn free_ports<const N: usize>() -> std::io::Result<[u16; N]> {
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}
