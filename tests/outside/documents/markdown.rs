//! As much of Markdown as our documents use.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A piece of a document and the line that it is on, from 1.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) text: String,
    pub(super) line: usize,
}

pub(super) struct Document {
    pub(super) path: PathBuf,
    /// Its lines outside of fenced blocks, numbered from 1.
    lines: Vec<(usize, String)>,
}

impl Document {
    pub(super) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut fenced = false;
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                lines.push((index + 1, line.to_owned()));
            }
        }
        Self { path: path.to_owned(), lines }
    }

    /// The destinations of `[text](destination)`, of pictures, and of `[name]: destination`.
    pub(super) fn links(&self) -> Vec<Span> {
        let mut found = Vec::new();
        for (number, line) in &self.lines {
            let prose = without_code(line);
            for (_, rest) in prose.match_indices("](").map(|(at, _)| prose.split_at(at + 2)) {
                if let Some((destination, _)) = rest.split_once(')') {
                    let destination = destination.split_whitespace().next().unwrap_or_default();
                    found.push(Span { text: destination.to_owned(), line: *number });
                }
            }
            if let Some((_, destination)) = prose.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
                found.push(Span { text: destination.trim().to_owned(), line: *number });
            }
        }
        found
    }

    /// What its headings can be linked by, as GitHub makes it.
    pub(super) fn anchors(&self) -> BTreeSet<String> {
        let mut times = BTreeMap::<String, usize>::new();
        let mut anchors = BTreeSet::new();
        for (_, line) in &self.lines {
            let level = line.chars().take_while(|c| *c == '#').count();
            if let Some(heading) = (1..=6).contains(&level).then(|| line[level..].strip_prefix(' ')).flatten() {
                let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
                let anchor = heading.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-");
                let seen = times.entry(anchor.clone()).or_default();
                anchors.insert(if *seen == 0 { anchor } else { format!("{anchor}-{seen}") });
                *seen += 1;
            }
        }
        anchors
    }

    /// What stands between backticks.
    pub(super) fn code(&self) -> Vec<Span> {
        self.lines.iter().flat_map(|(number, line)| code_spans(line, *number)).collect()
    }

    /// The cells of each row of its tables but their heads.
    pub(super) fn rows(&self) -> Vec<(usize, Vec<String>)> {
        let is_row = |line: &str| line.starts_with('|');
        let is_rule = |line: &str| is_row(line) && line.chars().all(|c| "|-: ".contains(c));
        let mut rows = Vec::new();
        for (index, (number, line)) in self.lines.iter().enumerate() {
            let is_head = self.lines.get(index + 1).is_some_and(|(_, next)| is_rule(next));
            if is_row(line) && !is_rule(line) && !is_head {
                let cells = line.trim().trim_matches('|').split(" | ");
                rows.push((*number, cells.map(|cell| cell.trim().to_owned()).collect()));
            }
        }
        rows
    }
}

pub(super) fn code_spans(line: &str, number: usize) -> Vec<Span> {
    let inside = line.split('`').skip(1).step_by(2);
    inside.map(|text| Span { text: text.to_owned(), line: number }).collect()
}

fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

#[test]
fn markdown_is_read_as_github_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.md");
    let text = "# What `x` is, and why\n[a](b.md#c) ![d](e.svg) `[f](g.md)`\n```\n[h](i.md)\n```\n# Twice\n# Twice\n\
                | a | b |\n|---|---|\n| 1 | `two` |\n[n]: m.md\n";
    fs::write(&path, text).unwrap();
    let page = Document::read(&path);
    let links: Vec<_> = page.links().into_iter().map(|link| (link.line, link.text)).collect();
    assert_eq!(links, [(2, "b.md#c".to_owned()), (2, "e.svg".to_owned()), (11, "m.md".to_owned())]);
    assert_eq!(page.anchors().into_iter().collect::<Vec<_>>(), ["twice", "twice-1", "what-x-is-and-why"]);
    assert_eq!(page.rows(), [(10, vec!["1".to_owned(), "`two`".to_owned()])]);
    assert_eq!(page.code().iter().map(|span| &*span.text).collect::<Vec<_>>(), ["x", "[f](g.md)", "two"]);
}
