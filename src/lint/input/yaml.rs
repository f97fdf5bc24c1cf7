//! YAML as kubectl reads it, with the line of every field.
//!
//! kubectl reads YAML 1.1: a bare `Off` is the boolean false there, `010` is eight. What the API server gets to see is
//! decided by that, so a reader of YAML 1.2 would judge another object. JSON is YAML and takes the same way.

use super::Node;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Number, Value};
use std::collections::HashMap;

/// The deepest nesting that is read: far more than any of our schemas, far less than a stack takes.
const MAX_DEPTH: usize = 100;
/// The most values that one file may come to, aliases expanded: an alias of aliases grows exponentially.
const MAX_NODES: usize = 1_000_000;

/// Why a text is no YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// A key that was written twice in one mapping; the last one counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeated {
    /// The line of the last one.
    pub line: usize,
    /// The key.
    pub key: String,
}

/// The documents of a text, and what of them could not be read. Documents before an error are kept.
#[derive(Debug, Default)]
pub struct Documents {
    /// The documents that are not empty.
    pub documents: Vec<Node>,
    /// Keys written twice.
    pub repeated: Vec<Repeated>,
    /// Why the rest could not be read.
    pub error: Option<YamlError>,
}

/// Reads all documents of a text.
#[must_use]
pub fn read(text: &str) -> Documents {
    let mut reader =
        Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0, repeated: Vec::new() };
    let mut documents = Vec::new();
    let error = reader.documents(&mut documents).err();
    Documents { documents, repeated: reader.repeated, error }
}

struct Reader<'input, I: saphyr_parser::Input> {
    parser: Parser<'input, I>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    repeated: Vec<Repeated>,
}

type Next<'input> = (Event<'input>, Span);

impl<'input, I: saphyr_parser::Input> Reader<'input, I> {
    fn documents(&mut self, documents: &mut Vec<Node>) -> Result<(), YamlError> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(()),
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                event => {
                    self.anchors.clear();
                    let node = self.node(event, span, 0)?;
                    if !node.is_null() {
                        documents.push(node);
                    }
                }
            }
        }
    }

    fn next(&mut self) -> Result<Next<'input>, YamlError> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => {
                Err(YamlError { line: error.marker().line(), message: format!("not YAML: {}", error.info()) })
            }
            None => Err(YamlError { line: 1, message: "not YAML: it ends too early".to_owned() }),
        }
    }

    /// The recursion is bounded by [`MAX_DEPTH`].
    fn node(&mut self, event: Event<'input>, span: Span, depth: usize) -> Result<Node, YamlError> {
        let line = span.start.line();
        let fail = |message: String| Err(YamlError { line, message });
        if depth > MAX_DEPTH {
            return fail(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return fail(format!("more than {MAX_NODES} values"));
        }
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.suffix == "str");
                let value = if is_text { Value::String(text.into_owned()) } else { plain(&text) };
                (Node::scalar(line, value), anchor)
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                }
                (Node::sequence(line, items), anchor)
            }
            Event::MappingStart(anchor, _) => (self.mapping(line, depth)?, anchor),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return fail("an alias without its anchor".to_owned());
                };
                self.nodes += node.size();
                if depth + node.depth() > MAX_DEPTH || self.nodes > MAX_NODES {
                    return fail("aliases expand to too much".to_owned());
                }
                (node, 0)
            }
            _ => return fail("not YAML: something is missing here".to_owned()),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn mapping(&mut self, line: usize, depth: usize) -> Result<Node, YamlError> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        let mut index: HashMap<String, usize> = HashMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key_line = span.start.line();
            let merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = self.node(event, span, depth + 1)?;
            let Some(key) = key.as_key() else {
                return Err(YamlError {
                    line: key_line,
                    message: "a key must be a text, a number or a boolean".to_owned(),
                });
            };
            let (event, span) = self.next()?;
            let mut value = self.node(event, span, depth + 1)?;
            value.set_line(key_line);
            if merge {
                merged.push(value);
            } else if let Some(&at) = index.get(&key) {
                self.repeated.push(Repeated { line: key_line, key: key.clone() });
                entries[at].1 = value;
            } else {
                index.insert(key.clone(), entries.len());
                entries.push((key, value));
            }
        }
        for (key, value) in merged.into_iter().flat_map(Node::merge_sources) {
            if !index.contains_key(&key) {
                index.insert(key.clone(), entries.len());
                entries.push((key, value));
            }
        }
        Ok(Node::mapping(line, entries))
    }
}

/// What an unquoted text means in YAML 1.1, as Go's `yaml.v2` resolves it.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return Value::String(text.to_owned());
    }
    let digits = text.replace('_', "");
    if let Some(number) = integer(&digits) {
        return Value::Number(number);
    }
    if is_float(&digits)
        && let Some(number) = digits.parse().ok().and_then(Number::from_f64)
    {
        return Value::Number(number);
    }
    Value::String(text.to_owned())
}

/// Integers as Go's `ParseInt(text, 0, 64)` reads them: `0x`, `0o`, `0b`, and a leading zero for octal.
fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(rest) = lower.strip_prefix("0x") {
        (16, rest)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (8, rest)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (2, rest)
    } else if let Some(rest) = lower.strip_prefix('0').filter(|rest| !rest.is_empty()) {
        (8, rest)
    } else {
        (10, lower.as_str())
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    let size = u64::from_str_radix(digits, radix).ok()?;
    if negative { 0_i64.checked_sub_unsigned(size).map(Number::from) } else { Some(Number::from(size)) }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(m, e)| (m, Some(e)));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_is_number = digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    let exponent_is_number = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    mantissa_is_number && exponent_is_number
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn one(text: &str) -> Value {
        let read = read(text);
        assert_eq!(read.error, None);
        read.documents[0].to_value()
    }

    #[test]
    fn plain_words_mean_what_kubectl_takes_them_for() {
        assert_eq!(
            one("[Off, on, n, ~, 010, 0x1f, 1_000, 1.5, 1e3, 90s, 2026-01-02, 'Off', 18446744073709551615, -3, +4, .5, 1.e, ., -]"
                .replace(", -]", "]").as_str()),
            json!([false, true, false, null, 8, 31, 1000, 1.5, 1000.0, "90s", "2026-01-02", "Off", 18_446_744_073_709_551_615_u64, -3, 4, 0.5, "1.e", "."])
        );
    }

    #[test]
    fn documents_are_told_apart_and_empty_ones_left_out() {
        let read = read("# nothing\n---\na: 1\n---\n---\n# here\n\nb: 2\n...\n");
        let values: Vec<_> = read.documents.iter().map(Node::to_value).collect();
        assert_eq!(values, [json!({"a": 1}), json!({"b": 2})]);
        assert_eq!(read.documents[1].line(), 8);
    }

    #[test]
    fn json_is_read_too() {
        assert_eq!(
            one("{\"a\": [1, 2.5, null, true, \"x\\n\\u00e9\"],\n\t\"b\": {}}"),
            json!({"a": [1, 2.5, null, true, "x\né"], "b": {}})
        );
    }

    #[test]
    fn anchors_and_merges_are_expanded() {
        let text = "base: &base {a: 1, b: 2}\nmerged:\n  <<: *base\n  b: 3\ncopy: *base\n";
        assert_eq!(one(text), json!({"base": {"a": 1, "b": 2}, "merged": {"b": 3, "a": 1}, "copy": {"a": 1, "b": 2}}));
    }

    #[test]
    fn the_last_of_two_equal_keys_counts_and_is_told() {
        let read = read("a: 1\nb: 2\na: 3\n");
        assert_eq!(read.documents[0].to_value(), json!({"a": 3, "b": 2}));
        assert_eq!(read.repeated, [Repeated { line: 3, key: "a".to_owned() }]);
    }

    #[test]
    fn an_error_has_its_line_and_spares_what_came_before() {
        let read = read("a: 1\n---\nb: [1, 2\nc: 3\n");
        assert_eq!(read.documents.len(), 1);
        assert!(read.error.is_some_and(|error| error.line >= 3 && error.message.starts_with("not YAML")));
    }

    #[test]
    fn deep_nesting_is_refused_without_a_stack_overflow() {
        for text in ["[".repeat(200_000), "{a: ".repeat(200_000), "- ".repeat(200_000), nested(5_000)] {
            assert!(read(&text).error.is_some());
        }
    }

    fn nested(depth: usize) -> String {
        (0..depth).map(|level| format!("{}a:\n", " ".repeat(level))).collect()
    }

    #[test]
    fn aliases_of_aliases_do_not_explode() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = level - 1;
            text += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{before}"); 10].join(", "));
        }
        assert_eq!(read(&text).error.map(|error| error.message), Some("aliases expand to too much".to_owned()));
    }

    #[test]
    fn junk_is_an_error_and_no_panic() {
        for text in
            ["\u{0}\u{1}", "\t\t- a", ": : :", "? ? ?", "&a *a", "*nobody", "!!binary {", "%YAML 9", "a: b: c", "'"]
        {
            let _ = read(text);
        }
        let noise: String =
            (0..100_000_u32).filter_map(|n| char::from_u32(n.wrapping_mul(2_654_435_761) % 0x500)).collect();
        let _ = read(&noise);
    }
}
