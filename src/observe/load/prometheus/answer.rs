//! Reading the answers of Prometheus' HTTP API (`/api/v1/query`). They come from outside: nothing here panics.

use super::PrometheusProblem;
use miyako_core::model::Timestamp;
use serde::{Deserialize, de::IgnoredAny};
use std::collections::BTreeMap;

/// The labels of a series, sorted.
pub(super) type Labels = BTreeMap<String, String>;

/// A series with its samples, the oldest first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    /// Its labels.
    pub(super) labels: Labels,
    /// When scraped, and the value: it may be NaN or infinite.
    pub(super) samples: Vec<(Timestamp, f64)>,
}

#[derive(Deserialize)]
struct Envelope {
    status: String,
    #[serde(default)]
    error: Option<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Matrix(Vec<RawSeries>),
    Vector(Vec<RawSeries>),
    Scalar(IgnoredAny),
    String(IgnoredAny),
}

#[derive(Deserialize)]
struct RawSeries {
    metric: Labels,
    /// In a matrix.
    #[serde(default)]
    values: Vec<(f64, String)>,
    /// In a vector.
    #[serde(default)]
    value: Option<(f64, String)>,
}

/// The series of an answer with this status and body.
pub(super) fn read(query: &str, http_status: u16, body: &[u8]) -> Result<Vec<Series>, PrometheusProblem> {
    let envelope: Envelope = match serde_json::from_slice(body) {
        Ok(envelope) => envelope,
        // Prometheus answers in JSON even where it refuses; whoever does not is a proxy or something else.
        Err(_) if http_status != 200 => return Err(PrometheusProblem::HttpStatus(http_status)),
        Err(error) => {
            let begins: String = String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(60).collect();
            return Err(PrometheusProblem::NotPrometheus(format!("{error}; it begins with {begins:?}")));
        }
    };
    if envelope.status != "success" {
        let error = envelope.error.unwrap_or(envelope.status).chars().take(300).collect();
        return Err(PrometheusProblem::QueryRefused { query: query.to_owned(), error });
    }
    match envelope.data {
        Some(Data::Matrix(series) | Data::Vector(series)) => Ok(series.into_iter().filter_map(sorted).collect()),
        Some(Data::Scalar(_) | Data::String(_)) | None => {
            Err(PrometheusProblem::NotPrometheus("the answer holds no series".to_owned()))
        }
    }
}

/// Puts samples into order. Those with an impossible time are left out, and series without samples with them.
fn sorted(raw: RawSeries) -> Option<Series> {
    let mut samples: Vec<_> = raw
        .values
        .into_iter()
        .chain(raw.value)
        .filter_map(|(seconds, value)| Some((timestamp(seconds)?, number(&value)?)))
        .collect();
    samples.sort_by_key(|(at, _)| *at);
    samples.dedup_by_key(|(at, _)| *at);
    (!samples.is_empty()).then_some(Series { labels: raw.metric, samples })
}

/// Seconds since the epoch, within the years that a calendar knows.
fn timestamp(seconds: f64) -> Option<Timestamp> {
    const LATEST: f64 = 1e11;
    #[allow(clippy::cast_possible_truncation)] // within the bounds just checked
    (seconds.is_finite() && (0.0..LATEST).contains(&seconds)).then(|| Timestamp::from_millis((seconds * 1e3) as i64))
}

/// Go writes `NaN`, `+Inf` and `-Inf`, which Rust reads as well.
fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_text(status: u16, body: &str) -> Result<Vec<Series>, PrometheusProblem> {
        read("up", status, body.as_bytes())
    }

    #[test]
    fn a_matrix_is_read_with_its_times() {
        let body = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"node":"a"},"values":[[30.5,"2"],[15.5,"1"],[45.5,"NaN"],[1e300,"5"]]}]}}"#;
        let series = read_text(200, body).unwrap();
        let times: Vec<_> = series[0].samples.iter().map(|(at, _)| at.millis()).collect();
        assert_eq!(times, [15_500, 30_500, 45_500]);
        assert!(series[0].samples[2].1.is_nan());
    }

    #[test]
    fn what_is_no_answer_is_said_so() {
        let reason = |status, body: &str| read_text(status, body).unwrap_err().reason();
        assert_eq!(reason(200, "<html><title>Log in</title>"), "NotPrometheus");
        assert_eq!(reason(200, ""), "NotPrometheus");
        assert_eq!(reason(200, "{}"), "NotPrometheus");
        assert_eq!(
            reason(200, r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#),
            "NotPrometheus"
        );
        assert_eq!(reason(503, "upstream connect error"), "PrometheusHttpStatus");
        assert_eq!(
            reason(422, r#"{"status":"error","errorType":"execution","error":"too many samples"}"#),
            "PrometheusQueryRefused"
        );
        assert_eq!(reason(200, &"[".repeat(100_000)), "NotPrometheus");
    }

    proptest! {
        #[test]
        fn nothing_that_comes_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..400), status in 100_u16..600) {
            let _ = read("up", status, &body);
        }

        #[test]
        fn no_time_or_value_makes_it_panic(seconds in any::<f64>(), value in ".{0,20}") {
            let body = serde_json::json!({"status": "success", "data": {"resultType": "matrix", "result": [
                {"metric": {}, "values": [[seconds, value]]}]}});
            let _ = read("up", 200, body.to_string().as_bytes());
        }
    }
}
