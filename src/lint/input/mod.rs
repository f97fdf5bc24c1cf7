//! From files to objects that know where each of their fields was written.

mod node;
pub mod yaml;

pub use node::Node;

use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::PathBuf,
};

/// The most that is read of one file. The API server takes requests of up to 3 MiB; a file may hold many.
const MAX_BYTES: u64 = 64 << 20;

/// Where an object was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as it was named, or `-`.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

/// One object of a file.
#[derive(Debug, Clone)]
pub struct Object {
    /// Where it begins.
    pub place: Place,
    /// What kubectl would send to the API server.
    pub value: Value,
    lines: BTreeMap<String, usize>,
}

impl Object {
    /// An object that begins at this node.
    #[must_use]
    pub fn new(file: &str, node: &Node) -> Self {
        let place = Place { file: file.to_owned(), line: node.line() };
        Self { place, value: node.to_value(), lines: node.lines() }
    }

    /// `kind`, if it is a text.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// `apiVersion`, if it is a text.
    #[must_use]
    pub fn api_version(&self) -> &str {
        self.text("/apiVersion")
    }

    /// `metadata.name`, if it is a text.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// What people call it: `Kind/name`.
    #[must_use]
    pub fn title(&self) -> String {
        let or = |text: &str, otherwise: &str| shortened(if text.is_empty() { otherwise } else { text });
        format!("{}/{}", or(self.kind(), "?"), or(self.name(), "?"))
    }

    /// Where a field was written: at itself, or at the closest that surrounds it.
    #[must_use]
    pub fn place_of(&self, field: &str) -> Place {
        let mut path = field;
        loop {
            if let Some(line) = self.lines.get(path) {
                return Place { file: self.place.file.clone(), line: *line };
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return self.place.clone(),
            }
        }
    }
}

/// A text that fits into a message.
#[must_use]
pub fn shortened(text: &str) -> String {
    crate::shortened(text, 80)
}

/// What is wrong with a file before any of its objects is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Where.
    pub place: Place,
    /// What.
    pub problem: String,
    /// It is no reason to refuse the file.
    pub harmless: bool,
}

/// The objects of all files.
#[derive(Debug, Default)]
pub struct Input {
    /// The objects in the order they were written.
    pub objects: Vec<Object>,
    /// What could not be read.
    pub troubles: Vec<Trouble>,
}

impl Input {
    /// Reads files and directories (their `.yaml`, `.yml` and `.json` files, sorted); `-` is standard input.
    #[must_use]
    pub fn read(files: &[PathBuf], stdin: &mut dyn Read) -> Self {
        let mut input = Self::default();
        for file in files {
            let name = file.display().to_string();
            if name == "-" {
                input.add_bytes(&name, limited(stdin));
            } else if file.is_dir() {
                input.add_directory(file, &name);
            } else {
                input.add_bytes(&name, fs::File::open(file).and_then(|mut file| limited(&mut file)));
            }
        }
        input
    }

    fn add_directory(&mut self, directory: &PathBuf, name: &str) {
        let listed = fs::read_dir(directory)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>());
        let mut files = match listed {
            Ok(files) => files,
            Err(error) => return self.trouble(name, 1, format!("cannot be read: {error}"), false),
        };
        files.retain(|file| file.extension().is_some_and(|kind| kind == "yaml" || kind == "yml" || kind == "json"));
        files.sort();
        if files.is_empty() {
            self.trouble(name, 1, "holds no .yaml, .yml or .json file".to_owned(), false);
        }
        for file in files {
            self.add_bytes(&file.display().to_string(), fs::File::open(&file).and_then(|mut file| limited(&mut file)));
        }
    }

    fn add_bytes(&mut self, file: &str, bytes: io::Result<Vec<u8>>) {
        match bytes.map(String::from_utf8) {
            Ok(Ok(text)) => self.add(file, &text),
            Ok(Err(_)) => self.trouble(file, 1, "is not text in UTF-8".to_owned(), false),
            Err(error) => self.trouble(file, 1, format!("cannot be read: {error}"), false),
        }
    }

    /// Reads one text.
    pub fn add(&mut self, file: &str, text: &str) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let read = yaml::read(text);
        if read.documents.is_empty() && read.error.is_none() {
            self.trouble(file, 1, "holds no object".to_owned(), true);
        }
        for document in &read.documents {
            self.add_document(file, document);
        }
        for repeated in read.repeated {
            let problem = format!("{} is written twice here, and this one counts", shortened(&repeated.key));
            self.trouble(file, repeated.line, problem, true);
        }
        if let Some(error) = read.error {
            self.trouble(file, error.line, error.message, false);
        }
    }

    /// A `List` is as good as its items.
    fn add_document(&mut self, file: &str, document: &Node) {
        let object = Object::new(file, document);
        if !object.value.is_object() {
            let problem = "is no object: write apiVersion, kind, metadata and spec".to_owned();
            return self.trouble(file, document.line(), problem, false);
        }
        match document.field("items").and_then(Node::items) {
            Some(items) if object.kind().ends_with("List") => {
                items.iter().for_each(|item| self.add_document(file, item));
            }
            _ => self.objects.push(object),
        }
    }

    fn trouble(&mut self, file: &str, line: usize, problem: String, harmless: bool) {
        self.troubles.push(Trouble { place: Place { file: file.to_owned(), line }, problem, harmless });
    }
}

fn limited(reader: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it is longer than {} MiB", MAX_BYTES >> 20)));
    }
    Ok(bytes)
}
