//! `miyako crds`: the CustomResourceDefinitions, from the types of the `api` package, and their reference for people.

pub mod reference;

use clap::{Args, ValueEnum};
use miyako_api::names;
use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

/// Flags of `miyako crds`.
#[derive(Debug, Clone, Default, Args)]
pub struct CrdsArgs {
    /// Write one file per CustomResourceDefinition into this directory instead of printing them all. May be given
    /// several times.
    #[arg(long = "output-dir", value_name = "DIR", conflicts_with = "format")]
    pub output_dirs: Vec<PathBuf>,
    /// What to print: definitions for the API server, or their reference for people.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// What `miyako crds` prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Definitions, as YAML documents.
    #[default]
    Yaml,
    /// The reference of all fields, as one Markdown page.
    Markdown,
}

/// Why the definitions could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CrdsError {
    /// A file or directory.
    #[error("cannot write {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Standard output.
    #[error("cannot print the definitions")]
    Print(#[source] io::Error),
    /// A definition that is no YAML: a mistake of ours.
    #[error("cannot express {name} in YAML")]
    Yaml {
        /// The definition.
        name: String,
        /// Why.
        #[source]
        source: serde_yaml::Error,
    },
}

/// One definition as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrdFile {
    /// The file's name.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// Prints all definitions as one stream of YAML documents, or writes one file each.
///
/// # Errors
/// When the output can't be written.
pub fn run(args: &CrdsArgs, out: &mut dyn Write) -> Result<(), CrdsError> {
    if args.format == Format::Markdown {
        return out.write_all(reference::markdown(&miyako_api::crds()).as_bytes()).map_err(CrdsError::Print);
    }
    let files = files()?;
    if args.output_dirs.is_empty() {
        return files.iter().try_for_each(|file| write!(out, "---\n{}", file.text)).map_err(CrdsError::Print);
    }
    args.output_dirs.iter().try_for_each(|directory| {
        fs::create_dir_all(directory).map_err(|source| CrdsError::File { path: directory.clone(), source })?;
        files.iter().try_for_each(|file| write(directory, file))
    })
}

fn write(directory: &Path, file: &CrdFile) -> Result<(), CrdsError> {
    let path = directory.join(&file.name);
    fs::write(&path, &file.text).map_err(|source| CrdsError::File { path, source })
}

/// The definitions as files, named as `<group>_<plural>.yaml`, which is how Kubernetes projects name them.
///
/// # Errors
/// When a definition can't be expressed in YAML.
pub fn files() -> Result<Vec<CrdFile>, CrdsError> {
    miyako_api::crds()
        .iter()
        .map(|crd| {
            let plural = &crd.spec.names.plural;
            let yaml = |source| CrdsError::Yaml { name: plural.clone(), source };
            let mut value = serde_yaml::to_value(crd).map_err(yaml)?;
            whole_numbers(&mut value);
            let text = quote_old_booleans(&serde_yaml::to_string(&value).map_err(yaml)?);
            Ok(CrdFile {
                name: format!("{}_{plural}.yaml", names::GROUP),
                text: format!(
                    "# Made by `miyako crds` from the types of the api package. Change those, not this.\n{text}"
                ),
            })
        })
        .collect()
}

/// Bounds are floats in the Rust type and come out as `100.0`; the API server gives them back as `100`.
fn whole_numbers(value: &mut serde_yaml::Value) {
    use serde_yaml::Value;
    match value {
        Value::Number(number) => {
            if let Some(whole) = number.as_f64().filter(|_| number.is_f64()).and_then(whole) {
                *number = whole.into();
            }
        }
        Value::Sequence(items) => items.iter_mut().for_each(whole_numbers),
        Value::Mapping(entries) => entries.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

fn whole(number: f64) -> Option<i64> {
    format!("{number}").parse().ok()
}

/// Words that YAML 1.1, which kubectl and Helm read, takes for booleans.
pub(crate) const OLD_BOOLEANS: [&str; 16] =
    ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF"];

/// Quotes the words that YAML 1.2, in which the definitions are written, does not take for booleans but kubectl does:
/// the mode `Off` would be installed as `false`.
fn quote_old_booleans(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for line in text.lines() {
        let value = line.rsplit_once([' ']).map_or(line, |(_, value)| value);
        let start = line.len() - value.len();
        let is_value = line[..start].ends_with("- ") || line[..start].ends_with(": ");
        if is_value && OLD_BOOLEANS.contains(&value) {
            quoted += &format!("{}'{value}'\n", &line[..start]);
        } else {
            quoted += line;
            quoted.push('\n');
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

    /// Where the definitions are committed: for people, and in the chart. Archives of a chart leave links out (Flux makes
    /// such), so the chart has files of its own.
    const COMMITTED: [&str; 2] = ["crds", "charts/miyako-crds/generated"];

    /// The types are the one source of the schemas. After a change of theirs: `make crds`.
    #[test]
    fn committed_files_are_what_the_types_say() -> anyhow::Result<()> {
        let mut expected: Vec<_> = files()?.into_iter().map(|file| (file.name, file.text)).collect();
        expected.sort();
        for directory in COMMITTED {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
            assert!(!fs::symlink_metadata(&path)?.is_symlink(), "{directory} is a link, which archives leave out");
            let mut found = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                assert!(entry.file_type()?.is_file(), "{} is no file of its own", entry.path().display());
                found.push((entry.file_name().to_string_lossy().into_owned(), fs::read_to_string(entry.path())?));
            }
            found.sort();
            let names = |files: &[(String, String)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
            assert_eq!(names(&found), names(&expected), "in {directory}");
            for ((name, found), (_, expected)) in found.iter().zip(&expected) {
                assert!(found == expected, "{directory}/{name} differs: run `make crds`");
            }
        }
        Ok(())
    }

    #[test]
    fn printed_and_written_definitions_are_the_same() -> anyhow::Result<()> {
        let mut printed = Vec::new();
        run(&CrdsArgs::default(), &mut printed)?;
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("crds");
        run(&CrdsArgs { output_dirs: vec![path.clone()], ..CrdsArgs::default() }, &mut io::sink())?;
        let mut written = String::new();
        for file in files()? {
            written += &format!("---\n{}", fs::read_to_string(path.join(file.name))?);
        }
        assert_eq!(String::from_utf8(printed)?, written);
        Ok(())
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let args = CrdsArgs { output_dirs: vec![PathBuf::from("/dev/null/crds")], ..CrdsArgs::default() };
        let error = run(&args, &mut io::sink()).expect_err("no directory below a file");
        assert_eq!(error.to_string(), "cannot write /dev/null/crds");
    }

    #[test]
    fn what_is_written_reads_as_what_the_types_say() -> anyhow::Result<()> {
        for (file, crd) in files()?.iter().zip(miyako_api::crds()) {
            let read: CustomResourceDefinition = serde_yaml::from_str(&file.text)?;
            assert_eq!(read, crd, "{}", file.name);
        }
        Ok(())
    }

    #[test]
    fn words_that_kubectl_takes_for_booleans_are_quoted() -> anyhow::Result<()> {
        let text: String = files()?.into_iter().map(|file| file.text).collect();
        assert!(text.contains("- 'Off'\n"));
        assert!(!text.contains("- Off\n"));
        Ok(())
    }

    #[test]
    fn numbers_are_written_as_the_api_server_gives_them_back() -> anyhow::Result<()> {
        for file in files()? {
            assert!(!file.text.contains(".0\n"), "{}", file.name);
        }
        Ok(())
    }
}
