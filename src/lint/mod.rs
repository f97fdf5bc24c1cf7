//! `miyako lint`: judges files before they reach a cluster.
//!
//! Each object of ours gets the verdict the API server would give it ([`apiserver`]), then the one the operator would
//! ([`advice`]): what is allowed but can't be meant. Nothing is asked of a cluster.

mod advice;
pub mod apiserver;
mod finding;
pub mod input;
mod report;
mod suggest;

pub use finding::{Finding, Severity};
pub use report::{Output, Report};

use apiserver::{ApiServer, FieldError};
use clap::Args;
use input::{Input, Object};
use std::{
    io::{self, Read, Write},
    path::PathBuf,
};

/// Flags of `miyako lint`.
#[derive(Debug, Clone, Default, Args)]
pub struct LintArgs {
    /// Files, directories, or - for standard input. Nodes, Namespaces and VirtualMachineInstances among them let lint
    /// say what selectors match.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How to print the findings.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Count warnings as errors.
    #[arg(long)]
    pub strict: bool,
}

/// How it went, for a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No error (and with `--strict` no warning): exit code 0.
    Clean,
    /// Errors: exit code 1.
    Errors,
}

impl Verdict {
    /// The exit code. (2, bad usage, is clap's.)
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Errors => 1,
        }
    }
}

/// Judges files and prints what was found.
///
/// # Errors
/// When the output can't be written. Files that can't be read are findings.
pub fn run(args: &LintArgs, stdin: &mut dyn Read, out: &mut dyn Write) -> io::Result<Verdict> {
    let report = judge(&ApiServer::new(), &Input::read(&args.files, stdin));
    match report.print(args.output, out) {
        // Whoever reads has seen enough; the exit code still tells.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        printed => printed?,
    }
    Ok(report.verdict(args.strict))
}

/// The most findings about one object; a megabyte of junk may hold a million.
const MOST_PER_OBJECT: usize = 25;

/// Judges all objects of an input.
#[must_use]
pub fn judge(server: &ApiServer, input: &Input) -> Report {
    let mut findings: Vec<Finding> = input
        .troubles
        .iter()
        .map(|trouble| {
            let severity = if trouble.harmless { Severity::Warning } else { Severity::Error };
            Finding::of_file(severity, &trouble.place, &trouble.problem)
        })
        .collect();
    let mut accepted = Vec::new();
    let mut judged = 0;
    let mut ignored = Vec::new();
    for object in &input.objects {
        match owner(object, server) {
            Owner::Us => {}
            Owner::Nobody(finding) => {
                findings.push(*finding);
                continue;
            }
            Owner::Others => {
                match advice::is_context(object) {
                    true => accepted.push((object, object.value.clone())),
                    false => ignored.push(object.title()),
                }
                continue;
            }
        }
        judged += 1;
        match server.create(&object.value) {
            Ok(stored) => accepted.push((object, stored)),
            Err(errors) => findings.extend(refusals(object, &errors, server)),
        }
    }
    findings.extend(advice::advise(&accepted));
    findings.sort();
    Report { findings, judged, ignored }
}

/// Whose an object is.
enum Owner {
    /// It is of one of our kinds.
    Us,
    /// It is of another group, or of Kubernetes.
    Others,
    /// It says no kind, or one of our group that there is not.
    Nobody(Box<Finding>),
}

fn owner(object: &Object, server: &ApiServer) -> Owner {
    let known = server.kinds().collect::<Vec<_>>();
    let is_known = known.contains(&object.kind());
    let nobody = |field: &str, problem: String, fix: String| {
        Owner::Nobody(Box::new(Finding {
            severity: Severity::Error,
            place: object.place_of(field),
            object: object.title(),
            field: field.to_owned(),
            problem,
            fix: Some(fix),
        }))
    };
    if object.kind().is_empty() {
        return nobody("kind", "kind not set".to_owned(), format!("write kind: {}", known.join(" or ")));
    }
    if object.api_version().is_empty() {
        let fix = format!("write apiVersion: {}", server.api_version());
        return nobody("apiVersion", "apiVersion not set".to_owned(), fix);
    }
    let group = object.api_version().split('/').next().unwrap_or_default();
    if group != miyako_api::names::GROUP {
        return Owner::Others;
    }
    let [kind, version] = [object.kind(), object.api_version()].map(input::shortened);
    let problem = format!("no matches for kind {kind:?} in version {version:?}");
    if !is_known {
        let close = suggest::closest(object.kind(), known.iter().copied());
        let close = close.map_or_else(|| known.join(" or "), str::to_owned);
        return nobody("kind", problem, format!("write kind: {close}"));
    }
    if object.api_version() != server.api_version() {
        return nobody("apiVersion", problem, format!("write apiVersion: {}", server.api_version()));
    }
    Owner::Us
}

fn refusals(object: &Object, errors: &[FieldError], server: &ApiServer) -> Vec<Finding> {
    let schema = server.schema(object.kind());
    let mut findings: Vec<_> = errors
        .iter()
        .filter(|error| !error.is_about_rules_alone())
        .take(MOST_PER_OBJECT)
        .map(|error| Finding {
            severity: Severity::Error,
            place: object.place_of(&error.field),
            object: object.title(),
            field: error.field.clone(),
            problem: error.body.clone(),
            fix: schema.and_then(|schema| suggest::fix(error, &object.value, schema)),
        })
        .collect();
    if errors.len() > MOST_PER_OBJECT {
        findings.push(Finding {
            severity: Severity::Error,
            place: object.place.clone(),
            object: object.title(),
            field: "<nil>".to_owned(),
            problem: format!("and {} more errors", errors.len() - MOST_PER_OBJECT),
            fix: None,
        });
    }
    findings
}
