//! What a run showed, for people: a table, a file of figures, and a picture; a summary of all runs, and
//! what nodes drew in them.

mod canvas;
mod energy;
mod summary;
mod svg;
mod table;

pub use svg::picture;
pub use table::{comparison, migrations};

use super::results::Results;
use anyhow::Context as _;
use std::path::{Path, PathBuf};

/// Writes the figures as JSON and the picture as SVG into a folder. Returns the files.
///
/// # Errors
/// When they can't be written.
pub fn write(results: &Results, folder: &Path) -> anyhow::Result<[PathBuf; 2]> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let (json, svg) = (folder.join(results.name() + ".json"), folder.join(results.name() + ".svg"));
    std::fs::write(&json, serde_json::to_string(results)? + "\n").with_context(|| json.display().to_string())?;
    std::fs::write(&svg, picture(results)).with_context(|| svg.display().to_string())?;
    Ok([json, svg])
}

/// Reads every run in a folder, draws its picture anew, and writes a summary of all, and a page for each scenario whose
/// nodes draw watts. Returns the summary's file.
///
/// # Errors
/// When a file can't be read or written.
pub fn summarize(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut runs = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        // Other results may lie there too.
        if path.extension().is_some_and(|extension| extension == "json")
            && let Ok(run) = serde_json::from_str::<Results>(&std::fs::read_to_string(&path)?)
        {
            let svg = path.with_extension("svg");
            std::fs::write(&svg, picture(&run)).with_context(|| svg.display().to_string())?;
            runs.push(run);
        }
    }
    let simulated = std::fs::read_to_string(folder.join("energy-simple.md")).unwrap_or_default();
    for modes in energy::Modes::among(&runs) {
        for (ending, text) in [("svg", modes.picture()), ("md", modes.page(&simulated))] {
            let file = folder.join(format!("{}.{ending}", modes.name()));
            std::fs::write(&file, text).with_context(|| file.display().to_string())?;
        }
    }
    let file = folder.join("lab.md");
    std::fs::write(&file, summary::summary(&runs)).with_context(|| file.display().to_string())?;
    Ok(file)
}
