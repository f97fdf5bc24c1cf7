//! What lint found, printed for people or programs.

use super::{Finding, Severity, Verdict, input::shortened};
use clap::ValueEnum;
use serde::Serialize;
use std::io::{self, Write};

/// How to print the findings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// One JSON object.
    Json,
    /// The same as YAML.
    Yaml,
}

/// What lint found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The findings, by place.
    pub findings: Vec<Finding>,
    /// How many objects of ours there were.
    pub judged: usize,
    /// The objects that are not ours and of no use here.
    pub ignored: Vec<String>,
}

/// The most ignored objects that are named.
const NAMED: usize = 5;

impl Report {
    /// The verdict; strictly, a warning is an error.
    #[must_use]
    pub fn verdict(&self, strict: bool) -> Verdict {
        let fails = |finding: &Finding| strict || finding.severity == Severity::Error;
        if self.findings.iter().any(fails) { Verdict::Errors } else { Verdict::Clean }
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Prints the report.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn print(&self, output: Output, out: &mut dyn Write) -> io::Result<()> {
        match output {
            Output::Table => self.print_table(out),
            Output::Json => {
                serde_json::to_writer_pretty(&mut *out, self)?;
                writeln!(out)
            }
            Output::Yaml => {
                let text = serde_yaml::to_string(self).map_err(io::Error::other)?;
                out.write_all(text.as_bytes())
            }
        }
    }

    fn print_table(&self, out: &mut dyn Write) -> io::Result<()> {
        for finding in &self.findings {
            let Finding { place, severity, object, field, problem, fix } = finding;
            write!(out, "{}:{}: {}:", place.file, place.line, severity.name())?;
            if !object.is_empty() {
                write!(out, " {object}")?;
            }
            if !field.is_empty() && field != "<nil>" {
                write!(out, " {}", shortened(field))?;
            }
            let colon = if object.is_empty() { "" } else { ":" };
            writeln!(out, "{colon} {problem}")?;
            if let Some(fix) = fix {
                writeln!(out, "    {fix}")?;
            }
        }
        self.print_summary(out)
    }

    fn print_summary(&self, out: &mut dyn Write) -> io::Result<()> {
        let objects = counted(self.judged, "object");
        let errors = counted(self.count(Severity::Error), "error");
        let warnings = counted(self.count(Severity::Warning), "warning");
        writeln!(out, "{objects} judged: {errors}, {warnings}")?;
        if !self.ignored.is_empty() {
            let mut named = self.ignored.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            if self.ignored.len() > NAMED {
                named += &format!(" and {} more", self.ignored.len() - NAMED);
            }
            writeln!(out, "{} not Miyako's, not judged: {named}", counted(self.ignored.len(), "object"))?;
        }
        Ok(())
    }
}

fn counted(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}
