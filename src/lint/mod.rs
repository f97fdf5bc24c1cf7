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
    report.print(args.output, out)?;
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
        if !is_ours(object, server, &mut findings) {
            match advice::is_context(object) {
                true => accepted.push((object, object.value.clone())),
                false => ignored.push(object.title()),
            }
            continue;
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

/// Whether an object is of one of our kinds. One of our group that is of no kind, or no version, of ours is found
/// wrong here.
fn is_ours(object: &Object, server: &ApiServer, findings: &mut Vec<Finding>) -> bool {
    let group = format!("{}/", miyako_api::names::GROUP);
    if object.api_version() == server.api_version() && server.kinds().any(|kind| kind == object.kind()) {
        return true;
    }
    let known = server.kinds().collect::<Vec<_>>();
    let title = object.title();
    if object.kind().is_empty() || object.api_version().is_empty() {
        let missing = if object.kind().is_empty() { "kind" } else { "apiVersion" };
        findings.push(Finding {
            severity: Severity::Error,
            place: object.place.clone(),
            object: title,
            field: missing.to_owned(),
            problem: format!("{missing} not set"),
            fix: Some(format!("write apiVersion: {} and kind: {}", server.api_version(), known.join(", "))),
        });
        return false;
    }
    if object.api_version().starts_with(&group) {
        let (field, fix) = match known.contains(&object.kind()) {
            true => ("apiVersion", format!("write apiVersion: {}", server.api_version())),
            false => {
                let close = suggest::closest(object.kind(), known.iter().copied());
                let close = close.map_or_else(|| format!("one of {}", known.join(", ")), str::to_owned);
                ("kind", format!("write kind: {close}"))
            }
        };
        findings.push(Finding {
            severity: Severity::Error,
            place: object.place_of(field),
            problem: format!(
                "no matches for kind {:?} in version {:?}",
                input::shortened(object.kind()),
                input::shortened(object.api_version())
            ),
            object: title,
            field: field.to_owned(),
            fix: Some(fix),
        });
    }
    false
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
