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

/// The most series of an answer: five times what 20 000 VMs have.
pub(super) const MOST_SERIES: usize = 100_000;

/// The most samples in all: those of 20 000 VMs that are scraped every five seconds, for the first five minutes.
const MOST_SAMPLES: usize = 2_000_000;

/// The most labels and values in all.
const MOST_TEXTS: usize = 6_000_000;

/// Whether an answer can be read without much memory: a body of some MiB may hold millions of tiny parts, each of which
/// costs more in memory than on the wire. Told from its braces, brackets and quotes before any of it is taken apart.
fn bounded(query: &str, body: &[u8]) -> Result<(), PrometheusProblem> {
    let (mut braces, mut brackets, mut quotes) = (0, 0, 0);
    for byte in body {
        match byte {
            b'{' => braces += 1,
            b'[' => brackets += 1,
            b'"' => quotes += 1,
            _ => {}
        }
    }
    let too_many = |what, most| Err(PrometheusProblem::TooMany { query: query.to_owned(), what, most });
    if braces / 2 > MOST_SERIES {
        too_many("series", MOST_SERIES)
    } else if brackets > MOST_SAMPLES + 2 * MOST_SERIES {
        too_many("samples", MOST_SAMPLES)
    } else if quotes / 2 > MOST_TEXTS {
        too_many("labels and values", MOST_TEXTS)
    } else {
        Ok(())
    }
}

/// The series of an answer with this status and body.
pub(super) fn read(query: &str, http_status: u16, body: &[u8]) -> Result<Vec<Series>, PrometheusProblem> {
    bounded(query, body)?;
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
    // Of two values at one moment nobody knows which is meant, so there is none.
    let twice: Vec<Timestamp> = samples
        .windows(2)
        .filter_map(|pair| match pair {
            [(at, value), (again, other)] if at == again && value.to_bits() != other.to_bits() => Some(*at),
            _ => None,
        })
        .collect();
    samples.dedup_by_key(|(at, _)| *at);
    samples.retain(|(at, _)| twice.binary_search(at).is_err());
    (!samples.is_empty()).then_some(Series { labels: raw.metric, samples })
}

/// A header's date, such as `Mon, 30 Nov 2026 18:05:00 GMT`: what time it was for the server, to the second.
pub(super) fn http_date(text: &str) -> Option<Timestamp> {
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(Timestamp::from_millis(date.timestamp().as_millisecond()))
}

/// Dates samples by our clock instead of the server's, which showed `its_now` when ours showed `our_now`. A difference of
/// two seconds is none: headers have whole ones, and an answer takes its time.
pub(super) fn date_by(series: &mut [Series], its_now: Timestamp, our_now: Timestamp) {
    const SAME: i64 = 2_000;
    let ahead = its_now.millis().saturating_sub(our_now.millis());
    if ahead.abs() <= SAME {
        return;
    }
    for (at, _) in series.iter_mut().flat_map(|one| &mut one.samples) {
        *at = Timestamp::from_millis(at.millis().saturating_sub(ahead));
    }
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

/// Two sets of labels, as far as they differ; in full if they do not.
pub(super) fn differing(one: &Labels, other: &Labels) -> String {
    let part = |own: &Labels, others: &Labels| {
        let differs = |(key, value): &(&String, &String)| one == other || others.get(*key) != Some(*value);
        let labels = own.iter().filter(differs).take(MOST_LABELS);
        let labels: Vec<String> = labels.map(|(key, value)| format!("{key}={:?}", short(value))).collect();
        format!("{{{}}}", labels.join(", "))
    };
    format!("{} and {}", part(one, other), part(other, one))
}

/// As many labels of a series are told.
const MOST_LABELS: usize = 8;

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The names of a series' labels, for people.
pub(super) fn names(labels: &Labels) -> String {
    let mut names: Vec<_> = labels.keys().filter(|name| *name != "__name__").map(String::as_str).collect();
    names.truncate(20);
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
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

    #[test]
    fn an_answer_of_too_many_parts_is_not_taken_apart() {
        let answer = |part: &str, count: usize| {
            let parts = vec![part; count].join(",");
            read_text(200, &format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{parts}]}}}}"#))
        };
        let one = r#"{"metric":{"a":"b"},"values":[[1,"2"]]}"#;
        assert_eq!(answer(one, 1_000).unwrap().len(), 1_000);
        let problem = answer(one, MOST_SERIES + 1).unwrap_err();
        assert_eq!(problem.reason(), "PrometheusAnswerTooLarge");
        assert!(problem.to_string().contains("more than 100000 series"), "{problem}");
        let long = format!(r#"{{"metric":{{}},"values":[{}]}}"#, vec!["[1,\"2\"]"; 400_000].join(","));
        assert!(answer(&long, 6).unwrap_err().to_string().contains("samples"));
    }

    #[test]
    fn samples_are_dated_by_our_clock_where_the_servers_differs() {
        let date = http_date("Mon, 30 Nov 2026 18:05:00 GMT").unwrap();
        assert_eq!(date.to_string(), "2026-11-30T18:05:00Z");
        assert_eq!((http_date(""), http_date("yesterday")), (None, None));
        let series =
            |seconds: i64| vec![Series { labels: Labels::new(), samples: vec![(Timestamp::from_secs(seconds), 1.0)] }];
        let dated = |its_now: i64, our_now: i64| {
            let mut series = series(985);
            date_by(&mut series, Timestamp::from_secs(its_now), Timestamp::from_secs(our_now));
            series[0].samples[0].0.second()
        };
        assert_eq!(dated(1000, 1000), 985);
        assert_eq!(dated(1000, 1002), 985, "headers have whole seconds");
        assert_eq!(dated(1000, 8200), 8185, "ours is two hours ahead");
        assert_eq!(dated(1000, 100), 85, "or behind");
    }

    #[test]
    fn two_series_are_told_by_what_tells_them_apart() {
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let one: Labels = labels(&[("node", "s1"), ("cpu", "0"), ("mode", "idle")]);
        let other: Labels = labels(&[("node", "s1"), ("cpu", "0"), ("mode", "user")]);
        assert_eq!(differing(&one, &other), "{mode=\"idle\"} and {mode=\"user\"}");
        assert_eq!(differing(&one, &labels(&[("node", "s1")])), "{cpu=\"0\", mode=\"idle\"} and {}");
        assert!(differing(&one, &one).starts_with("{cpu=\"0\", mode=\"idle\", node=\"s1\"}"));
    }

    #[test]
    fn two_values_at_one_moment_are_none() {
        let body = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"node":"a"},"values":[[15,"1"],[30,"2"],[30,"7"],[45,"3"],[45,"3"]]}]}}"#;
        let values: Vec<f64> = read_text(200, body).unwrap()[0].samples.iter().map(|(_, value)| *value).collect();
        assert_eq!(values, [1.0, 3.0]);
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
