//! What documents and comments cite: tests, benchmarks, documents, and the numbers of the safety rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Every test and benchmark of the repository.
pub(super) struct Known {
    root: PathBuf,
    /// By name, the modules that it lies in: the names of its folders and its file.
    tests: BTreeMap<String, Vec<BTreeSet<String>>>,
    benches: BTreeSet<String>,
}

impl Known {
    pub(super) fn of(root: &Path, files: &[PathBuf]) -> Self {
        let mut known = Self { root: root.to_owned(), tests: BTreeMap::new(), benches: BTreeSet::new() };
        for path in files {
            let inside = path.strip_prefix(root).unwrap_or(path);
            let modules: BTreeSet<_> =
                inside.with_extension("").iter().map(|part| part.to_string_lossy().into()).collect();
            if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(path).unwrap();
                for name in functions_marked_as_tests(&text).chain(trials(&text)) {
                    known.tests.entry(name.to_owned()).or_default().push(modules.clone());
                }
                for (module, name) in scenarios(&text) {
                    known.tests.entry(name.to_owned()).or_default().push(BTreeSet::from([module.to_owned()]));
                }
            } else if path.ends_with("Cargo.toml") {
                let text = fs::read_to_string(path).unwrap();
                let benches = text.split("[[bench]]").skip(1).filter_map(|bench| bench.split('"').nth(1));
                known.benches.extend(benches.map(str::to_owned));
            }
        }
        assert!(known.tests.len() > 500 && known.benches.len() > 3, "{} tests", known.tests.len());
        known
    }

    /// Whether this is a test (`name`, or `module::name`), a benchmark, or a file.
    pub(super) fn holds(&self, cited: &str) -> bool {
        let mut parts = cited.rsplit("::");
        let name = parts.next().unwrap_or_default();
        let modules: Vec<_> = parts.collect();
        let places = self.tests.get(name).map_or(&[][..], Vec::as_slice);
        places.iter().any(|place| modules.iter().all(|module| *module == "…" || place.contains(*module)))
            || self.benches.contains(cited)
            || (cited.contains('/') && self.root.join(cited).exists())
    }
}

/// A name of at least four words, which a metric's is not.
pub(super) fn looks_like_a_test(text: &str) -> bool {
    const METRICS: [&str; 5] = ["miyako_", "kubevirt_", "container_", "node_cpu_", "machine_"];
    let name = text.rsplit("::").next().unwrap_or_default();
    name.matches('_').count() >= 3
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:…".contains(c))
        && !METRICS.iter().any(|metric| name.starts_with(metric))
        && !name.ends_with('_')
}

/// Names of functions below an attribute that ends in `test`.
fn functions_marked_as_tests(text: &str) -> impl Iterator<Item = &str> {
    let mut marked = false;
    text.lines().filter_map(move |line| {
        let line = line.trim_start();
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        }
        let (_, rest) = line.split_once("fn ").filter(|_| marked && !line.starts_with("//"))?;
        marked = false;
        rest.split(['(', '<']).next()
    })
}

/// Names of trials of `libtest-mimic`.
fn trials(text: &str) -> impl Iterator<Item = &str> {
    text.split("trial(\"").skip(1).filter_map(|rest| rest.split('"').next())
}

/// `module::name` within `scenarios![…]`.
fn scenarios(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let list = text.split_once("scenarios![").and_then(|(_, rest)| rest.split_once(']'));
    let words = list.map_or("", |(list, _)| list).split([',', ';']);
    words.filter_map(|word| word.trim().trim_start_matches("long:").trim().split_once("::"))
}

/// The comments of a file with their lines: all of it where the language is none that is known.
pub(super) fn comments<'a>(path: &Path, text: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let is_rust = path.extension().is_some_and(|ending| ending == "rs");
    // What programs write or were given is no comment.
    let is_data = path.extension().is_some_and(|ending| ["json", "lock"].iter().any(|data| ending == *data));
    let lines = text.lines().enumerate().filter(move |_| !is_data);
    lines.filter_map(move |(index, line)| {
        let comment = if is_rust { line.split_once("//").map(|(_, comment)| comment)? } else { line };
        Some((index + 1, comment))
    })
}

/// Words that name a Markdown file of ours.
pub(super) fn document_names(comment: &str) -> impl Iterator<Item = &str> {
    let words = comment.split(|c: char| !(c.is_ascii_alphanumeric() || "._-/".contains(c)));
    words.map(|word| word.trim_end_matches(['.', '/'])).filter(|word| word.len() > 3 && word.ends_with(".md"))
}

/// The safety rules by number: lines such as `Self::Placement => Some(1),`.
pub(super) fn rules(path: &Path) -> Vec<(u8, String)> {
    let Ok(text) = fs::read_to_string(path) else { return Vec::new() };
    let rule = |line: &str| {
        let (name, number) = line.trim().strip_prefix("Self::")?.split_once(" => Some(")?;
        Some((number.strip_suffix("),")?.parse().ok()?, name.to_owned()))
    };
    text.lines().filter_map(rule).collect()
}
