//! How a command prints its answer: as text for people, as JSON or YAML for programs.

pub use crate::lint::Output;

use serde::Serialize;
use std::fmt::Display;
use std::io::{self, Write};

/// Prints an answer. As a table it is what [`Display`] says; a reader that has seen enough and left is no error.
///
/// # Errors
/// When it can't be written.
pub fn print<T: Serialize + Display>(answer: &T, output: Output, out: &mut dyn Write) -> io::Result<()> {
    let text = match output {
        Output::Table => answer.to_string(),
        Output::Json => serde_json::to_string_pretty(answer)?,
        Output::Yaml => serde_yaml::to_string(answer).map_err(io::Error::other)?,
    };
    match writeln!(out, "{}", text.trim_end()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
