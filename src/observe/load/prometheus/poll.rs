//! Asking a Prometheus server, again and again.

use super::{
    PrometheusProblem, PrometheusReport, Questions, Server,
    answer::{self, Series},
    figures::{self, About},
};
use crate::clock::Clock;
use crate::observe::load::SharedLoadStore;
use http::Request;
use http_body_util::BodyExt as _;
use kube::{Client, Config, client::Body};
use miyako_core::model::Span;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long an answer may take, its last byte included.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest answer that is read: 20 000 VMs with six scrapes each come to some 10 MiB.
const LARGEST_ANSWER: usize = 64 << 20;

/// How far back to look while the scrape interval is not known: four scrapes of a minute.
const FIRST_RANGE: Span = Span::from_secs(300);

/// Scrapes to ask for in each round: enough for one lost round and two lost scrapes without a gap.
const SCRAPES: u32 = 5;

/// How long to wait after a round while the scrape interval is not known.
const FIRST_PAUSE: Span = Span::from_secs(5);

/// The bounds of the pause between rounds, otherwise a scrape interval.
const PAUSES: (Span, Span) = (Span::from_secs(1), Span::from_secs(30));

/// Why a server can't be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is none.
    #[error("{url:?} is no URL of a Prometheus server (write http://host:9090): {why}")]
    Url {
        /// What was given.
        url: String,
        /// Why it is none.
        why: String,
    },
    /// The CA or token can't be used.
    #[error("could not prepare the connection to Prometheus: {0}")]
    Prepare(#[from] kube::Error),
}

/// An HTTP client for the server. kube's own does what is needed here too: TLS with a CA of one's own or the
/// system's, and a bearer token that is read again as it is renewed.
///
/// # Errors
/// When the URL is none or the CA can't be read.
pub fn connect(server: &Server) -> Result<Client, ConnectError> {
    let wrong = |why: &str| ConnectError::Url { url: server.url.clone(), why: why.to_owned() };
    let url: http::Uri = server.url.parse().map_err(|error: http::uri::InvalidUri| wrong(&error.to_string()))?;
    match url.scheme_str() {
        Some("http" | "https") => {}
        Some(other) => return Err(wrong(&format!("{other:?} is neither http nor https"))),
        None => return Err(wrong("it does not begin with http:// or https://")),
    }
    let mut config = Config::new(url);
    config.root_cert_file.clone_from(&server.ca_file);
    config.auth_info.token_file = server.token_file.as_ref().map(|file| file.display().to_string());
    config.connect_timeout = Some(PATIENCE);
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// Asks a Prometheus server and fills the store with what it says.
pub struct Poller {
    client: Client,
    questions: Questions,
    store: SharedLoadStore,
    clock: Arc<dyn Clock>,
    interval: Option<Span>,
}

impl Poller {
    /// A poller that asks through `client` (see [`connect`]).
    #[must_use]
    pub fn new(client: Client, questions: Questions, store: SharedLoadStore, clock: Arc<dyn Clock>) -> Self {
        let interval = questions.scrape_interval;
        Self { client, questions, store, clock, interval }
    }

    /// Asks once per scrape, for ever.
    pub async fn poll(mut self) {
        let mut last = Vec::new();
        loop {
            let report = self.round().await;
            // What is wrong with watts is no reason to doubt the load: they are modelled then.
            let of_watts = self.watts_round().await;
            let all = || report.problems.iter().chain(&of_watts);
            let reasons: Vec<_> = all().map(PrometheusProblem::reason).collect();
            if reasons != last {
                for problem in all() {
                    tracing::warn!(reason = problem.reason(), %problem, "what Prometheus tells is incomplete");
                }
                last = reasons;
            }
            self.store.lock().set_prometheus(report);
            sleep(self.interval.unwrap_or(FIRST_PAUSE).clamp(PAUSES.0, PAUSES.1)).await;
        }
    }

    /// One round of questions.
    async fn round(&mut self) -> PrometheusReport {
        let mut report = PrometheusReport::default();
        for about in [About::Nodes, About::Vms] {
            let (cpu_query, memory_query) = match about {
                About::Nodes => (self.questions.node_cpu.clone(), self.questions.node_memory.clone()),
                About::Vms => (self.questions.vm_cpu.clone(), self.questions.vm_memory.clone()),
            };
            if let Err(problem) = self.ask_about(about, &cpu_query, &memory_query, &mut report).await {
                let alone = matches!(problem, PrometheusProblem::QueryRefused { .. });
                report.problems.push(problem);
                // A server that does not answer one question will not answer the next.
                if !alone {
                    break;
                }
            }
        }
        report.scrape_interval = self.interval;
        report
    }

    /// Asks what nodes draw, for the classes that have a query for it.
    async fn watts_round(&self) -> Vec<PrometheusProblem> {
        let questions = self.store.lock().watts_questions();
        let mut problems = Vec::new();
        for question in questions {
            match self.ask(&question.query).await {
                Ok(series) => {
                    let inventory = self.store.lock().inventory();
                    let (answers, problem) = figures::watts(&series, &question, &inventory);
                    self.store.lock().accept_watts(answers, self.clock.now());
                    problems.extend(problem);
                }
                Err(problem) => problems.push(problem),
            }
        }
        problems
    }

    async fn ask_about(
        &mut self,
        about: About,
        cpu_query: &str,
        memory_query: &str,
        report: &mut PrometheusReport,
    ) -> Result<(), PrometheusProblem> {
        let range = self.interval.map_or(FIRST_RANGE, |interval| interval.saturating_mul(SCRAPES));
        let cpu = self.ask(&format!("{cpu_query}[{}s]", range.as_secs().max(2))).await?;
        let arrived = self.clock.now();
        // Memory decides nothing, so it is no problem if this is not known.
        let memory = self.ask(memory_query).await.unwrap_or_default();
        let inventory = self.store.lock().inventory();
        let memory = figures::memory(figures::attribute(memory, memory_query, about, &self.questions, &inventory));
        let mut cpu = figures::attribute(cpu, cpu_query, about, &self.questions, &inventory);
        report.problems.append(&mut cpu.problems);
        if self.questions.scrape_interval.is_none() {
            self.interval = figures::scrape_interval(cpu.of.values()).or(self.interval);
        }
        let Some(interval) = self.interval else { return Ok(()) };
        let (readings, mut problems) = figures::cpu_readings(&cpu, &memory, cpu_query, interval, &inventory, arrived);
        report.problems.append(&mut problems);
        report.measured = self.store.lock().accept_scrapes(readings, arrived);
        Ok(())
    }

    /// The series that the server has for a query.
    async fn ask(&self, query: &str) -> Result<Vec<Series>, PrometheusProblem> {
        let (status, body) =
            timeout(PATIENCE, self.fetch(query)).await.map_err(|_| PrometheusProblem::TooSlow(PATIENCE))??;
        answer::read(query, status, &body)
    }

    async fn fetch(&self, query: &str) -> Result<(u16, Vec<u8>), PrometheusProblem> {
        let unreachable = |error: &dyn std::error::Error| PrometheusProblem::Unreachable(crate::error_chain(error));
        let form = form(query);
        let request = Request::get(format!("/api/v1/query?{form}"))
            .header(http::header::ACCEPT, "application/json")
            .body(Body::empty())
            .map_err(|error| unreachable(&error))?;
        let response = self.client.send(request).await.map_err(|error| unreachable(&error))?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| unreachable(&error))?;
            if let Some(data) = frame.data_ref() {
                if bytes.len() + data.len() > LARGEST_ANSWER {
                    return Err(PrometheusProblem::TooLarge(LARGEST_ANSWER >> 20));
                }
                bytes.extend_from_slice(data);
            }
        }
        Ok((status, bytes))
    }
}

/// `query=…` with everything escaped that could end it.
fn form(query: &str) -> String {
    let mut form = "query=".to_owned();
    for byte in query.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            form.push(char::from(byte));
        } else {
            form.push_str(&format!("%{byte:02X}"));
        }
    }
    form
}
