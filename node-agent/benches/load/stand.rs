//! What the agent talks to: an operator that takes every sample, and an API server that knows the launchers.

use crate::burners::Burnt;
use anyhow::Context as _;
use futures::{Stream, StreamExt as _};
use miyako_api::wire::{
    SERVER_NAME,
    load::{
        Ack, Control, NodeSample, Readings, Wanted, control,
        load_server::{Load, LoadServer},
    },
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Identity, Server, ServerTlsConfig},
};

/// What came in: the last sample's moment, and of each VM, by its uid, the sum.
#[derive(Default)]
struct Taken {
    sampled_unix_ms: Option<i64>,
    vms: usize,
    samples: u32,
    longest_gap_ms: i64,
    sums: BTreeMap<String, Burnt>,
}

#[derive(Clone, Default)]
struct Service(Arc<Mutex<Taken>>);

#[tonic::async_trait]
impl Load for Service {
    type ReportStream = Pin<Box<dyn Stream<Item = Result<Control, Status>> + Send>>;

    async fn report(&self, request: Request<Streaming<NodeSample>>) -> Result<Response<Self::ReportStream>, Status> {
        let service = self.clone();
        Ok(Response::new(Box::pin(request.into_inner().map(move |sample| {
            let sample = sample?;
            service.take(&sample);
            let ack = Ack { sequence: sample.sequence, refusals: Vec::new() };
            Ok(Control { message: Some(control::Message::Ack(ack)) })
        }))))
    }

    async fn tell(&self, _: Request<Readings>) -> Result<Response<Wanted>, Status> {
        Err(Status::unimplemented("for agents alone"))
    }
}

impl Service {
    fn take(&self, sample: &NodeSample) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = taken.sampled_unix_ms.replace(sample.sampled_unix_ms);
        let seconds = before.map_or(0.0, |before| (sample.sampled_unix_ms - before) as f64 / 1e3);
        taken.vms = sample.vms.len();
        taken.samples += 1;
        let gap = before.map_or(0, |before| sample.sampled_unix_ms - before);
        taken.longest_gap_ms = taken.longest_gap_ms.max(gap);
        for vm in &sample.vms {
            let usage = vm.usage.unwrap_or_default();
            let sum = taken.sums.entry(vm.uid.clone()).or_default();
            let bytes = |rate: Option<f64>| rate.unwrap_or(0.0) * seconds;
            sum.cpu_seconds += usage.cpu_cores * seconds;
            sum.bytes_written += bytes(usage.disk_write_bytes_per_second);
            sum.bytes_sent += bytes(usage.network_transmit_bytes_per_second);
        }
    }
}

/// An operator that takes every sample.
pub(crate) struct Operator {
    pub(crate) address: SocketAddr,
    pub(crate) ca_file: PathBuf,
    pub(crate) token_file: PathBuf,
    service: Service,
}

impl Operator {
    pub(crate) fn start(folder: &Path) -> anyhow::Result<Self> {
        let service = Service::default();
        let certificate = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()])?;
        let (ca_file, token_file) = (folder.join("ca.crt"), folder.join("token"));
        std::fs::write(&ca_file, certificate.cert.pem())?;
        std::fs::write(&token_file, "token")?;
        let identity = Identity::from_pem(certificate.cert.pem(), certificate.signing_key.serialize_pem());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let server = Server::builder().tls_config(ServerTlsConfig::new().identity(identity))?;
        let serving = LoadServer::new(service.clone());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let connections = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener)?);
                anyhow::Ok(server.serve_with_incoming(serving, connections).await?)
            })
        });
        Ok(Self { address, ca_file, token_file, service })
    }

    /// Waits until a sample tells of so many VMs.
    pub(crate) fn wait_for_vms(&self, vms: usize) -> anyhow::Result<()> {
        for _ in 0..600 {
            if self.service.0.lock().unwrap_or_else(PoisonError::into_inner).vms == vms {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(100));
        }
        anyhow::bail!("the agent did not report {vms} VMs within a minute")
    }

    /// Forgets the sums so far.
    pub(crate) fn forget(&self) {
        let mut taken = self.service.0.lock().unwrap_or_else(PoisonError::into_inner);
        (taken.samples, taken.longest_gap_ms) = (0, 0);
        taken.sums.clear();
    }

    /// How many samples came since then, and the longest time between two, in milliseconds.
    pub(crate) fn pace(&self) -> (u32, i64) {
        let taken = self.service.0.lock().unwrap_or_else(PoisonError::into_inner);
        (taken.samples, taken.longest_gap_ms)
    }

    /// What was reported of each VM since then.
    pub(crate) fn sums(&self) -> BTreeMap<String, Burnt> {
        self.service.0.lock().unwrap_or_else(PoisonError::into_inner).sums.clone()
    }
}

/// An API server that lists the launchers and lets a watch wait.
pub(crate) struct ApiServer {
    pub(crate) kubeconfig: PathBuf,
}

impl ApiServer {
    pub(crate) fn start(pods: &[String], folder: &Path) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let kubeconfig = folder.join("kubeconfig");
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "bench", "cluster": {"server": format!("http://{}", listener.local_addr()?)}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
            "current-context": "bench",
            "users": [{"name": "bench", "user": {}}],
        });
        std::fs::write(&kubeconfig, config.to_string())?;
        let pod = |uid: &String| {
            json!({"metadata": {
                "name": format!("virt-launcher-{uid}"),
                "namespace": "bench",
                "uid": uid,
                "resourceVersion": "1",
                // The VM's uid is its pod's here.
                "labels": {"kubevirt.io": "virt-launcher", "kubevirt.io/created-by": uid},
                "annotations": {"kubevirt.io/domain": uid},
            }})
        };
        let list = json!({
            "apiVersion": "meta.k8s.io/v1",
            "kind": "PartialObjectMetadataList",
            "metadata": {"resourceVersion": "1"},
            "items": pods.iter().map(pod).collect::<Vec<_>>(),
        })
        .to_string();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let list = list.clone();
                thread::spawn(move || answer(connection, &list));
            }
        });
        Ok(Self { kubeconfig })
    }
}

/// Answers requests on a connection. A watch gets nothing but the beginning of an answer.
fn answer(connection: TcpStream, list: &str) -> anyhow::Result<()> {
    let mut writing = connection.try_clone()?;
    let mut lines = BufReader::new(connection).lines();
    loop {
        let request = lines.next().context("closed")??;
        while !lines.next().context("closed")??.is_empty() {}
        if request.contains("watch=true") {
            writing.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
            )?;
        } else {
            let length = list.len();
            write!(
                writing,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{list}"
            )?;
        }
    }
}
