//! Label and field selectors of lists and watches.

use super::{error::ApiError, registry::Resource};
use serde_json::Value;

/// Which objects a list or watch shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    labels: Vec<Requirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    Exists(String),
    Missing(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

#[derive(Clone, Debug)]
struct FieldRequirement {
    path: Vec<String>,
    value: String,
    equal: bool,
}

impl Selection {
    /// Reads the two query parameters.
    pub(crate) fn parse(resource: &Resource, labels: Option<&str>, fields: Option<&str>) -> Result<Self, ApiError> {
        let labels = match labels {
            Some(text) => parse_labels(text).map_err(ApiError::bad_request)?,
            None => vec![],
        };
        let fields = match fields {
            Some(text) => parse_fields(resource, text)?,
            None => vec![],
        };
        Ok(Self { labels, fields })
    }

    /// Whether everything matches.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether it shows the object.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let label = |key: &str| labels.get(key).and_then(Value::as_str);
        self.labels.iter().all(|requirement| match requirement {
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::Missing(key) => label(key).is_none(),
            Requirement::In(key, values) => label(key).is_some_and(|have| values.iter().any(|value| value == have)),
            Requirement::NotIn(key, values) => label(key).is_none_or(|have| values.iter().all(|value| value != have)),
        }) && self
            .fields
            .iter()
            .all(|requirement| (field(object, &requirement.path) == requirement.value) == requirement.equal)
    }
}

fn field(object: &Value, path: &[String]) -> String {
    let mut at = object;
    for step in path {
        match at.get(step) {
            Some(inner) => at = inner,
            // The API server's field sets hold "false" for an unset boolean.
            None if step == "unschedulable" || step == "hostNetwork" => return "false".into(),
            None => return String::new(),
        }
    }
    match at {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn parse_fields(resource: &Resource, text: &str) -> Result<Vec<FieldRequirement>, ApiError> {
    let mut requirements = vec![];
    for term in text.split(',').map(str::trim).filter(|term| !term.is_empty()) {
        let (path, value, equal) = if let Some((path, value)) = term.split_once("!=") {
            (path, value, false)
        } else if let Some((path, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
            (path, value, true)
        } else {
            return Err(ApiError::bad_request(format!("invalid selector: '{text}'; can't understand '{term}'")));
        };
        let known = path == "metadata.name"
            || (path == "metadata.namespace" && (resource.namespaced || resource.custom))
            || resource.selectable_fields.iter().any(|known| known == path);
        if !known {
            return Err(ApiError::bad_request(format!("field label not supported: {path}")));
        }
        requirements.push(FieldRequirement {
            path: path.split('.').map(str::to_owned).collect(),
            value: value.to_owned(),
            equal,
        });
    }
    Ok(requirements)
}

/// A token of the label selector's grammar: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A name, a value, or one of the words `in` and `notin`.
    Word(String),
    /// One of `!`, `=`, `==`, `!=`, `<`, `>`, `(`, `)`, `,`.
    Sign(String),
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Word(text) | Self::Sign(text) => text,
            Self::End => "",
        }
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self, Self::Sign(text) if text == sign)
    }
}

const SIGNS: &str = "=!(),<>";

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = vec![];
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if SIGNS.contains(first) {
            if rest.starts_with("==") || rest.starts_with("!=") { 2 } else { 1 }
        } else {
            rest.find(|c: char| SIGNS.contains(c) || c.is_ascii_whitespace()).unwrap_or(rest.len())
        };
        let (token, after) = rest.split_at(length);
        tokens.push(if SIGNS.contains(first) { Token::Sign(token.into()) } else { Token::Word(token.into()) });
        rest = after.trim_start();
    }
    tokens.push(Token::End);
    tokens
}

/// Reads a label selector; its errors are those of `apimachinery/pkg/labels`.
fn parse_labels(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser { tokens: tokens(text), at: 0 };
    let mut requirements = vec![];
    loop {
        match parser.peek() {
            Token::End => return Ok(requirements),
            Token::Word(_) => {}
            sign if sign.is_sign("!") => {}
            other => return Err(format!("found '{}', expected: !, identifier, or 'end of string'", other.text())),
        }
        requirements.push(parser.requirement().map_err(|what| format!("unable to parse requirement: {what}"))?);
        match parser.next() {
            Token::End => return Ok(requirements),
            comma if comma.is_sign(",") => {
                let next = parser.peek();
                if !matches!(next, Token::Word(_)) && !next.is_sign("!") {
                    return Err(format!("found '{}', expected: identifier after ','", next.text()));
                }
            }
            other => return Err(format!("found '{}', expected: ',' or 'end of string'", other.text())),
        }
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Token {
        self.tokens.get(self.at).cloned().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.peek().is_sign("!");
        if negated {
            self.next();
        }
        let key = match self.next() {
            Token::Word(key) => key,
            other => return Err(format!("found '{}', expected: identifier", other.text())),
        };
        let ends = self.peek() == Token::End || self.peek().is_sign(",");
        if negated {
            return Ok(Requirement::Missing(key));
        }
        if ends {
            return Ok(Requirement::Exists(key));
        }
        let operator = self.next();
        match operator.text() {
            "in" => Ok(Requirement::In(key, self.values()?)),
            "notin" => Ok(Requirement::NotIn(key, self.values()?)),
            "=" | "==" => Ok(Requirement::In(key, vec![self.value()?])),
            "!=" => Ok(Requirement::NotIn(key, vec![self.value()?])),
            other => Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        }
    }

    fn value(&mut self) -> Result<String, String> {
        let next = self.peek();
        if next == Token::End || next.is_sign(",") {
            return Ok(String::new());
        }
        match self.next() {
            Token::Word(value) => Ok(value),
            other => Err(format!("found '{}', expected: identifier", other.text())),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        let open = self.next();
        if !open.is_sign("(") {
            return Err(format!("found '{}' expected: '('", open.text()));
        }
        let mut values = vec![String::new()];
        loop {
            match self.next() {
                Token::Word(value) => {
                    if let Some(last) = values.last_mut() {
                        *last = value;
                    }
                    let next = self.peek();
                    if !next.is_sign(",") && !next.is_sign(")") {
                        return Err(format!("found '{}', expected: ',' or ')'", next.text()));
                    }
                }
                sign if sign.is_sign(",") => values.push(String::new()),
                sign if sign.is_sign(")") => return Ok(values),
                other => return Err(format!("found '{}', expected: ',', ')' or identifier", other.text())),
            }
        }
    }
}
