//! The rooms of the house (`ARCHITECTURE.md`): what a room says of another goes one way, so that each can be read, and
//! changed, without those above it.
//!
//! A room is a module at the top of a crate. This test reads the paths `crate::…` in the sources, tests left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Who uses whom.
type Uses = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_room_of_core_stands_on_one_above_it() {
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let uses = uses(&core);
    assert!(uses["plan"].contains("model") && uses["check"].contains("fit"), "the sources are read: {uses:?}");
    assert_eq!(in_circles(&uses), BTreeSet::new(), "rooms of core that use each other: {uses:#?}");
    for sibling in ["plan", "power", "carry"] {
        assert!(!uses["check"].contains(sibling), "check judges by itself, and asks nothing of {sibling}");
    }
    assert!(!uses["plan"].contains("check"), "plan keeps the rules by itself");
}

#[test]
fn no_two_rooms_of_the_operator_use_each_other() {
    let uses = uses(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../src"));
    assert!(uses["controller"].contains("act"), "the sources are read: {uses:?}");
    assert_eq!(in_circles(&uses), BTreeSet::new(), "rooms of the operator that use each other: {uses:#?}");
}

#[test]
fn a_circle_is_found_however_long_and_however_it_is_written() {
    let read = |text: &str| {
        let mut uses = BTreeSet::new();
        rooms_in(text, &mut uses);
        uses.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(read("use crate::model::Node;"), ["model"]);
    assert_eq!(read("use crate::{\n    fit::{Candidate, Moment},\n    model,\n};"), ["fit", "model"]);
    let tests = "#[cfg(test)]\nmod tests;\n\n#[cfg(test)]\nmod more {\n    use crate::plan::decide;\n}\n";
    assert_eq!(read(&format!("// crate::plan is above us\n/// [`crate::plan`]\n{tests}use crate::fit;")), ["fit"]);
    assert_eq!(read("pub(in crate::plan) fn f() {}"), ["plan"]);
    let uses = |pairs: &[(&str, &str)]| {
        let mut uses = Uses::new();
        for (user, used) in pairs {
            uses.entry((*user).into()).or_default().insert((*used).into());
        }
        in_circles(&uses).into_iter().map(|(a, b)| format!("{a}-{b}")).collect::<Vec<_>>()
    };
    assert_eq!(uses(&[("plan", "fit"), ("fit", "model"), ("plan", "model")]), [""; 0]);
    assert_eq!(uses(&[("plan", "check"), ("check", "plan"), ("check", "fit")]), ["check-plan"]);
    assert_eq!(uses(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]), ["a-b", "a-c", "b-c"]);
}

/// The rooms of a crate with those that each names.
fn uses(root: &Path) -> Uses {
    let mut files = Vec::new();
    sources(root, &mut files);
    let mut uses = Uses::new();
    for file in &files {
        let inside = file.strip_prefix(root).expect("it was found there");
        let first = inside.iter().next().expect("a file has a name").to_string_lossy();
        let room = first.strip_suffix(".rs").unwrap_or(&first).to_owned();
        if matches!(room.as_str(), "lib" | "main") {
            continue;
        }
        let text = fs::read_to_string(file).expect("a source file can be read");
        let used = uses.entry(room.clone()).or_default();
        rooms_in(&text, used);
        used.remove(&room);
    }
    let rooms: BTreeSet<String> = uses.keys().cloned().collect();
    uses.values_mut().for_each(|used| used.retain(|room| rooms.contains(room)));
    uses
}

/// The source files below a folder, but for tests.
fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry of a folder").path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if name == "tests" {
            continue;
        }
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Notes what a file names behind `crate::`, its comments and its own tests left out.
fn rooms_in(text: &str, rooms: &mut BTreeSet<String>) {
    let mut code = String::new();
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]" {
            // What follows is for tests alone: one line, or as far as its closing brace.
            let item = lines.next().unwrap_or_default();
            if item.ends_with('{') {
                lines.by_ref().take_while(|line| *line != "}").for_each(drop);
            }
            continue;
        }
        code.push_str(line);
        code.push('\n');
    }
    for (at, found) in code.match_indices("crate") {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        let Some(rest) = code[at + found.len()..].strip_prefix("::") else { continue };
        match rest.strip_prefix('{') {
            None => rooms.extend(first_name(rest)),
            Some(group) => {
                let mut depth = 0;
                let mut begins = true;
                for (at, letter) in group.char_indices() {
                    match letter {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => begins = true,
                        letter if begins && !letter.is_whitespace() => {
                            rooms.extend(first_name(&group[at..]));
                            begins = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

fn first_name(path: &str) -> Option<String> {
    let end = path.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(path.len());
    (end > 0).then(|| path[..end].to_owned())
}

/// The pairs of rooms that reach each other.
fn in_circles(uses: &Uses) -> BTreeSet<(String, String)> {
    let reach = |from: &str| {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&str> = vec![from];
        while let Some(room) = next.pop() {
            for used in uses.get(room).into_iter().flatten() {
                if reached.insert(used.clone()) {
                    next.push(used);
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = uses.keys().map(|room| (room, reach(room))).collect();
    let mut pairs = BTreeSet::new();
    for (room, others) in &reached {
        for other in others.iter().filter(|other| *room < other) {
            if reached.get(other).is_some_and(|back| back.contains(*room)) {
                pairs.insert(((*room).clone(), other.clone()));
            }
        }
    }
    pairs
}
