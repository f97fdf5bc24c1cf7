//! The documents: every relative link and anchor leads somewhere, every path that they or comments name exists, every test
//! that they cite is there, and `SPECIFICATION.md` says of each rule and each promise what holds it.

mod cited;
mod markdown;

use markdown::{Document, Span};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files of the repository as they lie there, without what builds leave.
fn files() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.file_name().unwrap().to_string_lossy().into_owned();
            let hidden = name.starts_with('.') && ![".ci", ".github"].contains(&&*name);
            if entry.is_dir() && !hidden && !["target", "node_modules"].contains(&&*name) {
                walk(&entry, found);
            } else if entry.is_file() {
                found.push(entry);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.sort();
    found
}

fn documents() -> Vec<Document> {
    let found: Vec<_> = files().iter().filter(|path| has_ending(path, "md")).map(|path| Document::read(path)).collect();
    assert!(found.len() > 20, "only {} documents", found.len());
    found
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found == ending)
}

/// Where a problem is, as `path:line`.
fn place(path: &Path, line: usize) -> String {
    format!("{}:{line}", path.strip_prefix(root()).unwrap_or(path).display())
}

#[test]
fn every_relative_link_and_anchor_leads_somewhere() {
    let mut looked_at = 0;
    let mut broken = Vec::new();
    for document in documents() {
        for link in document.links() {
            looked_at += 1;
            if let Some(why) = why_broken(&document, &link.text) {
                broken.push(format!("{}: ({}) {why}", place(&document.path, link.line), link.text));
            }
        }
    }
    assert!(looked_at > 100, "only {looked_at} links");
    assert_eq!(broken, [""; 0]);
}

/// Why a link leads nowhere; none of one that leads somewhere, or out of the repository.
fn why_broken(document: &Document, link: &str) -> Option<String> {
    let scheme = link.split_once(':').is_some_and(|(scheme, _)| scheme.chars().all(|c| c.is_ascii_alphanumeric()));
    if scheme {
        return None;
    }
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let target = if file.is_empty() { document.path.clone() } else { document.path.parent()?.join(file) };
    if !target.exists() {
        return Some("does not exist".to_owned());
    }
    let anchor = anchor.filter(|_| has_ending(&target, "md"))?;
    let headings = Document::read(&target).anchors();
    (!headings.contains(anchor)).then(|| format!("has no such heading; it has {headings:?}"))
}

/// Whether a path leads somewhere from the file's own folder or one above it, up to the repository's root.
fn exists_from(file: &Path, path: &str) -> bool {
    file.ancestors().skip(1).take_while(|folder| folder.starts_with(root())).any(|folder| folder.join(path).exists())
}

/// Folders of the repository with which a path in a document begins.
const FOLDERS: [&str; 12] = [
    ".ci/",
    ".github/",
    "api/",
    "benches/",
    "charts/",
    "core/",
    "crds/",
    "docs/",
    "e2e/",
    "node-agent/",
    "src/",
    "tests/",
];

#[test]
fn every_path_that_a_document_names_exists() {
    let mut missing = Vec::new();
    for document in documents() {
        for span in document.code() {
            let path = span.text.trim_end_matches('/');
            let is_path = FOLDERS.iter().any(|folder| span.text.starts_with(folder));
            let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "./_-".contains(c));
            if is_path && plain && !exists_from(&document.path, path) {
                missing.push(format!("{}: `{}`", place(&document.path, span.line), span.text));
            }
        }
    }
    assert_eq!(missing, [""; 0]);
}

#[test]
fn every_document_that_a_comment_names_exists() {
    let mut looked_at = 0;
    let mut missing = Vec::new();
    for path in files() {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if has_ending(&path, "md") || has_ending(&path, "svg") {
            continue;
        }
        for (line, comment) in cited::comments(&path, &text) {
            for name in cited::document_names(comment) {
                looked_at += 1;
                if !exists_from(&path, name) {
                    missing.push(format!("{}: {name}", place(&path, line)));
                }
            }
        }
    }
    assert!(looked_at > 20, "only {looked_at} names");
    assert_eq!(missing, [""; 0]);
}

#[test]
fn every_test_that_a_document_cites_exists() {
    let known = cited::Known::of(&root(), &files());
    let mut looked_at = 0;
    let mut missing = Vec::new();
    for document in documents() {
        for span in document.code().iter().filter(|span| cited::looks_like_a_test(&span.text)) {
            looked_at += 1;
            if !known.holds(&span.text) {
                missing.push(format!("{}: `{}`", place(&document.path, span.line), span.text));
            }
        }
    }
    assert!(looked_at > 100, "only {looked_at} names");
    assert_eq!(missing, [""; 0]);
}

/// In each table of `SPECIFICATION.md` the last column names what holds the row.
#[test]
fn the_specification_says_of_each_promise_what_holds_it() {
    let known = cited::Known::of(&root(), &files());
    let specification = Document::read(&root().join("SPECIFICATION.md"));
    let rows = specification.rows();
    assert!(rows.len() > 40, "only {} rows", rows.len());
    let mut wrong = Vec::new();
    for (line, cells) in rows {
        let held = cells.last().cloned().unwrap_or_default();
        let names: Vec<Span> = markdown::code_spans(&held, line);
        let unknown: Vec<_> = names.iter().filter(|name| !known.holds(&name.text)).map(|name| &*name.text).collect();
        if !unknown.is_empty() || (names.is_empty() && !held.contains("not held yet")) {
            wrong.push(format!("{}: {held} {unknown:?}", place(&specification.path, line)));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// The numbers and names that violations print are those of the specification.
#[test]
fn the_specification_has_every_safety_rule_by_its_number() {
    let text = fs::read_to_string(root().join("SPECIFICATION.md")).unwrap();
    let rules: BTreeSet<(u8, String)> = files()
        .iter()
        .filter(|path| path.starts_with(root().join("core/src")))
        .flat_map(|path| cited::rules(path))
        .collect();
    assert!(rules.len() >= 10, "{rules:?}");
    for (number, name) in rules {
        assert!(text.contains(&format!("\n| {number} | `{name}` |")), "rule {number} ({name}) has no row");
    }
}
