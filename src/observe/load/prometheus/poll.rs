//! Asking a Prometheus server, again and again.

use super::{
    Asked, CADVISOR, PrometheusProblem, PrometheusReport, Query, Questions, Server,
    answer::{self, Series},
    attribute::attribute,
    doubt,
    figures::{self, About, Learnt},
    per_cpu,
};
use crate::clock::Clock;
use crate::observe::load::{SharedLoadStore, store::Subject};
use http::Request;
use http_body_util::BodyExt as _;
use kube::{Client, Config, client::Body};
use miyako_core::model::{Bytes, Span, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long an answer may take, its last byte included.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest answer that is read: 20 000 VMs with six scrapes each come to some 10 MiB.
const LARGEST_ANSWER: usize = 64 << 20;

/// How far back to look while the scrape interval is not known: four scrapes of a minute.
const FIRST_RANGE: Span = Span::from_secs(300);

/// Between the steps of an expression while the scrape interval is not known.
const FIRST_STEP: Span = Span::from_secs(15);

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

fn is_ambiguous(problem: &PrometheusProblem) -> bool {
    matches!(problem, PrometheusProblem::Ambiguous { .. })
}

/// What was learnt about nodes or VMs in one round.
struct Told {
    query: Query,
    cpu: Learnt<Series>,
    memory: BTreeMap<Subject, Bytes>,
    arrived: Timestamp,
}

/// Asks a Prometheus server and fills the store with what it says.
pub struct Poller {
    client: Client,
    questions: Questions,
    store: SharedLoadStore,
    clock: Arc<dyn Clock>,
    interval: Option<Span>,
    /// Which of the usual sources told of nodes last.
    node_source: usize,
}

impl Poller {
    /// A poller that asks through `client` (see [`connect`]).
    #[must_use]
    pub fn new(client: Client, questions: Questions, store: SharedLoadStore, clock: Arc<dyn Clock>) -> Self {
        let interval = questions.scrape_interval;
        Self { client, questions, store, clock, interval, node_source: 0 }
    }

    /// Asks once per scrape, for ever.
    pub async fn poll(mut self) {
        let mut last = vec!["nothing was asked yet"];
        loop {
            let report = self.round().await;
            // What is wrong with watts is no reason to doubt the load: they are modelled then.
            let of_watts = self.watts_round().await;
            let all = || report.problems.iter().chain(&of_watts);
            let reasons: Vec<_> = all().map(PrometheusProblem::reason).collect();
            if reasons != last {
                for asked in &report.asked {
                    let Asked { about, query, series, known } = asked;
                    tracing::info!(about, query, series, known, "asked Prometheus");
                }
                for problem in all() {
                    tracing::warn!(reason = problem.reason(), %problem, "what Prometheus tells is incomplete");
                }
                last = reasons;
            }
            self.store.lock().set_prometheus(report);
            sleep(self.interval.unwrap_or(FIRST_PAUSE).clamp(PAUSES.0, PAUSES.1)).await;
        }
    }

    /// Asks once, and says what came.
    pub async fn once(mut self) -> PrometheusReport {
        self.round().await
    }

    /// One round of questions. VMs come first: their samples are as they were scraped, and tell how often that is.
    async fn round(&mut self) -> PrometheusReport {
        let mut report = PrometheusReport::default();
        let vms = self.ask_about_vms(&mut report).await;
        let refused = |problem: &PrometheusProblem| matches!(problem, PrometheusProblem::QueryRefused { .. });
        // A server that does not answer one question will not answer the next.
        let nodes = match &vms {
            Err(problem) if !refused(problem) => None,
            _ => Some(self.ask_about_nodes(&mut report).await),
        };
        let mut told =
            |answer: Result<Told, PrometheusProblem>| answer.map_err(|problem| report.problems.push(problem)).ok();
        let (nodes, vms) = (nodes.and_then(&mut told), told(vms));
        self.take_in(nodes, vms, &mut report);
        report.scrape_interval = self.interval;
        report
    }

    /// Checks sums against their parts, and takes in what is left.
    fn take_in(&self, mut nodes: Option<Told>, vms: Option<Told>, report: &mut PrometheusReport) {
        let Some(interval) = self.interval else { return };
        let inventory = self.store.lock().inventory();
        if let (Some(nodes), Some(vms)) = (&mut nodes, &vms) {
            let doubt = doubt::cast(&mut nodes.cpu, &vms.cpu, (&nodes.query, &vms.query), &inventory);
            report.problems.extend(doubt);
        }
        for Told { query, cpu, memory, arrived } in [nodes, vms].into_iter().flatten() {
            let (readings, mut problems) = figures::cpu_readings(&cpu, &memory, &query, interval, &inventory, arrived);
            report.problems.append(&mut problems);
            report.measured = self.store.lock().accept_scrapes(readings, arrived);
        }
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

    async fn ask_about_vms(&mut self, report: &mut PrometheusReport) -> Result<Told, PrometheusProblem> {
        let told = self.ask_for_cpu(About::Vms, &self.questions.vm_cpu.clone(), report).await?;
        if self.questions.scrape_interval.is_none() {
            self.interval = figures::scrape_interval(told.cpu.of.values()).or(self.interval);
        }
        Ok(told)
    }

    /// What is known of nodes: by the query that was given; without one by cAdvisor, else by node-exporter. The first that
    /// tells of a node is asked first the next time.
    async fn ask_about_nodes(&mut self, report: &mut PrometheusReport) -> Result<Told, PrometheusProblem> {
        if let Some(query) = self.questions.node_cpu.clone() {
            let told = self.ask_for_cpu(About::Nodes, &query, report).await?;
            if self.questions.scrape_interval.is_none() && self.interval.is_none() && query.is_as_scraped() {
                self.interval = figures::scrape_interval(told.cpu.of.values());
            }
            return Ok(told);
        }
        let sources = [CADVISOR, per_cpu::SUMMED, per_cpu::EACH];
        let mut said = Vec::new();
        for turn in 0..sources.len() {
            let number = (self.node_source + turn) % sources.len();
            let query = Query::read(sources[number]).map_err(|error| PrometheusProblem::QueryRefused {
                query: sources[number].to_owned(),
                error: error.to_string(),
            })?;
            let mut own = PrometheusReport::default();
            match self.ask_for_cpu(About::Nodes, &query, &mut own).await {
                // Two series of a node are to be told, and no reason to look elsewhere.
                Ok(told) if !told.cpu.of.is_empty() || own.problems.iter().any(is_ambiguous) => {
                    self.node_source = number;
                    if self.questions.scrape_interval.is_none() && self.interval.is_none() && query.is_as_scraped() {
                        self.interval = figures::scrape_interval(told.cpu.of.values());
                    }
                    report.asked.append(&mut own.asked);
                    report.problems.append(&mut own.problems);
                    return Ok(told);
                }
                Ok(_) => said.append(&mut own.problems),
                Err(problem @ PrometheusProblem::QueryRefused { .. }) => said.push(problem),
                Err(problem) => return Err(problem),
            }
            report.asked.append(&mut own.asked);
        }
        self.node_source = 0;
        // Something that is there under another label tells more than what is not there.
        let there = said.iter().position(|problem| {
            !matches!(problem, PrometheusProblem::NoSeries { .. } | PrometheusProblem::QueryRefused { .. })
        });
        Err(match there {
            Some(there) => said.swap_remove(there),
            None if said.iter().any(|problem| matches!(problem, PrometheusProblem::NoSeries { .. })) => {
                PrometheusProblem::NoNodeSeries
            }
            None if said.is_empty() => return Err(PrometheusProblem::NoNodeSeries),
            None => said.swap_remove(0),
        })
    }

    /// What a query for CPU tells of nodes or VMs.
    async fn ask_for_cpu(
        &self,
        about: About,
        query: &Query,
        report: &mut PrometheusReport,
    ) -> Result<Told, PrometheusProblem> {
        let range = self.interval.map_or(FIRST_RANGE, |interval| interval.saturating_mul(SCRAPES));
        let asked = query.over(range, self.interval.unwrap_or(FIRST_STEP));
        let mut series = self.ask(&asked).await?;
        let arrived = self.clock.now();
        let came = series.len();
        if query.to_string() == per_cpu::EACH {
            series = per_cpu::summed(series);
        }
        // Memory decides nothing, so it is no problem if this is not known.
        let memory_query = match about {
            About::Nodes => &self.questions.node_memory,
            About::Vms => &self.questions.vm_memory,
        };
        let memory = self.ask(memory_query).await.unwrap_or_default();
        let inventory = self.store.lock().inventory();
        let memory = figures::memory(attribute(memory, memory_query, about, &self.questions, &inventory));
        let mut cpu = attribute(series, &query.to_string(), about, &self.questions, &inventory);
        report.problems.append(&mut cpu.problems);
        report.asked.push(Asked { about: about.name(), query: asked, series: came, known: cpu.of.len() });
        Ok(Told { query: query.clone(), cpu, memory, arrived })
    }

    /// The series that the server has for a query, dated by our clock.
    async fn ask(&self, query: &str) -> Result<Vec<Series>, PrometheusProblem> {
        let answer = timeout(PATIENCE, self.fetch(query)).await.map_err(|_| PrometheusProblem::TooSlow(PATIENCE))??;
        let mut series = answer::read(query, answer.status, &answer.body)?;
        if let Some(its_now) = answer.date {
            answer::date_by(&mut series, its_now, self.clock.now());
        }
        Ok(series)
    }

    async fn fetch(&self, query: &str) -> Result<Fetched, PrometheusProblem> {
        let unreachable = |error: &dyn std::error::Error| PrometheusProblem::Unreachable(crate::error_chain(error));
        let form = form(query);
        let request = Request::get(format!("/api/v1/query?{form}"))
            .header(http::header::ACCEPT, "application/json")
            .body(Body::empty())
            .map_err(|error| unreachable(&error))?;
        let response = self.client.send(request).await.map_err(|error| unreachable(&error))?;
        let status = response.status().as_u16();
        let date = response.headers().get(http::header::DATE).and_then(|date| answer::http_date(date.to_str().ok()?));
        let mut content = response.into_body();
        let mut body = Vec::new();
        while let Some(frame) = content.frame().await {
            let frame = frame.map_err(|error| unreachable(&error))?;
            if let Some(data) = frame.data_ref() {
                if body.len() + data.len() > LARGEST_ANSWER {
                    return Err(PrometheusProblem::TooLarge(LARGEST_ANSWER >> 20));
                }
                body.extend_from_slice(data);
            }
        }
        Ok(Fetched { status, date, body })
    }
}

/// What came over HTTP.
struct Fetched {
    status: u16,
    /// What time it was for the server.
    date: Option<Timestamp>,
    body: Vec<u8>,
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
