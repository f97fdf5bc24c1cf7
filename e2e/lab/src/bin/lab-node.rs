//! The programs of a lab node, by the name this one is called by: `virt-handler` or `virt-launcher`.

use anyhow::Context as _;
use clap::Parser;
use miyako_lab::node::proxy;
use std::path::Path;

/// Carries migrations between nodes, as KubeVirt's virt-handler does.
#[derive(Parser)]
#[command(name = "virt-handler")]
struct VirtHandler {
    #[command(flatten)]
    settings: proxy::Settings,
}

/// Holds a launcher's namespaces, as KubeVirt's virt-launcher does. QEMU is started beside it.
#[derive(Parser)]
#[command(name = "virt-launcher")]
struct VirtLauncher {
    /// The VM's name.
    #[arg(long)]
    name: String,
    /// The VMI's uid.
    #[arg(long)]
    uid: String,
    /// The VM's namespace.
    #[arg(long)]
    namespace: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let called = std::env::args_os().next().context("called without a name")?;
    match Path::new(&called).file_name().and_then(|name| name.to_str()) {
        Some("virt-handler") => proxy::run(VirtHandler::parse().settings).await,
        Some("virt-launcher") => {
            let VirtLauncher { name, uid, namespace } = VirtLauncher::parse();
            tracing::info!(namespace, name, uid, "the launcher is up");
            std::future::pending().await
        }
        _ => anyhow::bail!("to be called as virt-handler or virt-launcher, not as {}", Path::new(&called).display()),
    }
}
