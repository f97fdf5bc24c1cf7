//! How a query is put to the server: as samples of the last few scrapes, whatever it is.

use miyako_core::model::Span;
use std::fmt;

/// What the values of a query are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// CPU seconds, counted since some beginning.
    CpuSeconds,
    /// Cores in use, as rates are.
    Cores,
}

/// A query for CPU, one series for each node or VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    text: String,
    is_selector: bool,
    unit: Unit,
}

/// Why a text is no query for CPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Nothing there.
    #[error(
        "is empty: write a selector such as container_cpu_usage_seconds_total{{id=\"/\"}}, or any query with one series per node"
    )]
    Empty,
    /// A quote or parenthesis stands alone.
    #[error("has a {0} without its counterpart")]
    Unbalanced(char),
    /// An amount per range, neither a counter nor a rate.
    #[error("uses {0}(), which is an amount per range: write rate() for cores, or the counter of CPU seconds itself")]
    Amount(String),
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Query {
    /// Reads a query. A selector names one metric; anything else is an expression. What holds a rate yields cores, and so
    /// does a recording rule whose name says so (`level:metric:operations`); all else is a counter of CPU seconds.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, QueryError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(QueryError::Empty);
        }
        let bare = without_quoted(text)?;
        let calls = calls(&bare);
        if let Some(amount) = calls.iter().find(|name| matches!(**name, "increase" | "delta" | "idelta")) {
            return Err(QueryError::Amount((*amount).to_owned()));
        }
        let name = bare.split('{').next().unwrap_or_default().trim();
        let of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
        let braces = bare[bare.find('{').unwrap_or(bare.len())..].trim();
        let is_selector = name.chars().all(of_name)
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && (braces.is_empty() || braces.find('}') == Some(braces.len() - 1))
            && !(name.is_empty() && braces.is_empty());
        let recorded = is_selector && name.rsplit_once(':').is_some_and(|(_, operations)| operations.contains("rate"));
        let rated = calls.iter().any(|name| matches!(*name, "rate" | "irate" | "deriv"));
        let unit = if recorded || rated { Unit::Cores } else { Unit::CpuSeconds };
        Ok(Self { text: text.to_owned(), is_selector, unit })
    }

    /// The counter of CPU seconds of this name.
    #[must_use]
    pub fn metric(name: &str) -> Self {
        Self { text: name.to_owned(), is_selector: true, unit: Unit::CpuSeconds }
    }

    /// What its values are.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// Its samples are as they were scraped, so they tell how often that is.
    #[must_use]
    pub fn is_as_scraped(&self) -> bool {
        self.is_selector
    }

    /// The query for the last `range`: of a selector the samples as they were scraped, of an expression what it is every
    /// `step`.
    #[must_use]
    pub fn over(&self, range: Span, step: Span) -> String {
        let (text, range, step) = (&self.text, range.as_secs().max(2), step.as_secs().max(1));
        if self.is_selector { format!("{text}[{range}s]") } else { format!("({text})[{range}s:{step}s]") }
    }
}

/// The text with what stands in quotes blanked out.
fn without_quoted(text: &str) -> Result<String, QueryError> {
    let (mut bare, mut quote, mut escaped, mut open) = (String::with_capacity(text.len()), None, false, 0_i64);
    for c in text.chars() {
        match quote {
            Some(end) => {
                if c == end && !escaped {
                    quote = None;
                }
                escaped = c == '\\' && end != '`' && !escaped;
                bare.push('_');
            }
            None => {
                match c {
                    '"' | '\'' | '`' => quote = Some(c),
                    '(' => open += 1,
                    ')' => open -= 1,
                    _ => {}
                }
                if open < 0 {
                    return Err(QueryError::Unbalanced(')'));
                }
                bare.push(if quote.is_some() { '_' } else { c });
            }
        }
    }
    match (quote, open) {
        (Some(quote), _) => Err(QueryError::Unbalanced(quote)),
        (None, 1..) => Err(QueryError::Unbalanced('(')),
        _ => Ok(bare),
    }
}

/// The functions that are called.
fn calls(bare: &str) -> Vec<&str> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    bare.match_indices('(')
        .map(|(at, _)| {
            let before = bare[..at].trim_end();
            &before[before.trim_end_matches(of_name).len()..]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> (String, Unit) {
        let query = Query::read(text).unwrap();
        (query.over(Span::from_secs(75), Span::from_secs(15)), query.unit())
    }

    #[test]
    fn selectors_are_asked_for_as_scraped_and_expressions_step_by_step() {
        for selector in [
            "container_cpu_usage_seconds_total{id=\"/\"}",
            "kubevirt_vmi_cpu_usage_seconds_total",
            " up {job=\"a\"}",
            "{__name__=\"a\"}",
            "a{b=\"rate(x[1m]) {}\"}",
        ] {
            let wanted = format!("{}[75s]", selector.trim());
            assert_eq!(asked(selector), (wanted, Unit::CpuSeconds), "{selector}");
        }
        let sum = "sum by (node) (node_cpu_seconds_total{mode!=\"idle\"})";
        assert_eq!(asked(sum), (format!("({sum})[75s:15s]"), Unit::CpuSeconds));
        for cores in [
            "sum by (node) (rate(node_cpu_seconds_total{mode!=\"idle\"}[1m]))",
            "sum without (cpu) (irate (a[1m])) * on (instance) group_left (nodename) node_uname_info",
        ] {
            assert_eq!(asked(cores), (format!("({cores})[75s:15s]"), Unit::Cores));
        }
        let recorded = "instance:node_cpu:rate:sum";
        assert_eq!(asked(recorded).1, Unit::CpuSeconds, "its last part says sum");
        assert_eq!(asked("node:node_cpu:sum_rate5m").1, Unit::Cores);
        assert_eq!(asked("my_rate(a)").1, Unit::CpuSeconds, "another function");
    }

    #[test]
    fn what_is_no_query_is_said_so() {
        let said = |text: &str| Query::read(text).unwrap_err().to_string();
        assert!(said("  ").contains("is empty"));
        assert!(said("a{b=\"c}").contains("has a \""));
        assert!(said("sum(a").contains("has a ("));
        assert!(said("a)").contains("has a )"));
        assert!(said("sum(increase(a[1m]))").contains("increase()"));
        for text in ["\\", "(", "`", "a{", "}", "ä(", "{", "a{}}", "\"\\\"", "a{b='\\'}'}"] {
            let _ = Query::read(text);
        }
    }
}
