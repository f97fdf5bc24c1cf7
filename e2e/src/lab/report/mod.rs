//! What a run showed, for people: a table, a file of figures, and a picture.

mod svg;
mod table;

pub use svg::picture;
pub use table::{comparison, migrations};

use super::record::Results;
use anyhow::Context as _;
use std::path::{Path, PathBuf};

/// Writes the figures as JSON and the picture as SVG into a folder. Returns the files.
///
/// # Errors
/// When they can't be written.
pub fn write(results: &Results, folder: &Path) -> anyhow::Result<[PathBuf; 2]> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mode = serde_json::to_value(results.mode)?;
    let name = format!("{}-{}", results.scenario.name, mode.as_str().unwrap_or_default());
    let (json, svg) = (folder.join(format!("{name}.json")), folder.join(format!("{name}.svg")));
    std::fs::write(&json, serde_json::to_string(results)? + "\n").with_context(|| json.display().to_string())?;
    std::fs::write(&svg, picture(results)).with_context(|| svg.display().to_string())?;
    Ok([json, svg])
}
