//! What client-go makes of a stream of Events before it writes any: repeated ones are counted, similar ones combined,
//! and an object that is told too much about is told about no more. Source: `k8s.io/client-go/tools/record/events_cache.go`.
//!
//! An operator that waits for an Event must know: of a target that KubeVirt tries to create again and again it sees
//! some twenty-five, and then none for minutes, not even for the next migration of that VM.

use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Different messages of one reason within [`SIMILAR_SECONDS`] from which on they are combined.
const MOST_SIMILAR: usize = 10;
const SIMILAR_SECONDS: i64 = 600;
/// Events about one object that may come at once …
const BURST: f64 = 25.0;
/// … and the seconds until one more may come.
const REFILL_SECONDS: f64 = 300.0;
/// What is remembered; client-go forgets too.
const MOST_REMEMBERED: usize = 4096;

/// What an Event tells, and about what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Told {
    /// Kind, namespace, name and uid.
    pub(super) about: [String; 4],
    /// `Normal` or `Warning`.
    pub(super) severity: String,
    pub(super) reason: String,
    pub(super) message: String,
}

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    /// The name of the Event to be counted up; none for a new one.
    pub(super) known: Option<String>,
    pub(super) message: String,
    pub(super) count: i32,
    pub(super) first: Timestamp,
}

#[derive(Debug)]
struct Similar {
    messages: BTreeSet<String>,
    last: Timestamp,
}

#[derive(Debug)]
struct Counted {
    name: String,
    count: i32,
    first: Timestamp,
    last: Timestamp,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    last: Timestamp,
}

/// One recorder's memory.
#[derive(Debug, Default)]
pub(super) struct Correlator {
    similar: BTreeMap<Told, Similar>,
    counted: BTreeMap<Told, Counted>,
    buckets: BTreeMap<[String; 4], Bucket>,
}

fn seconds_between(earlier: Timestamp, later: Timestamp) -> f64 {
    (later.as_millisecond() - earlier.as_millisecond()) as f64 / 1000.0
}

/// Forgets what was used least recently.
fn bound<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, last: impl Fn(&V) -> Timestamp) {
    if map.len() > MOST_REMEMBERED
        && let Some(oldest) = map.iter().min_by_key(|(_, value)| last(value)).map(|(key, _)| key.clone())
    {
        map.remove(&oldest);
    }
}

impl Correlator {
    /// What to write of an Event; none if it is not written at all. `name` is the name of a new one.
    pub(super) fn observe(&mut self, told: &Told, name: &str, now: Timestamp) -> Option<Written> {
        let (key, message) = self.combined(told, now);
        let known = self.counted.get(&key).map(|counted| counted.name.clone());
        let counted = self.counted.entry(key).or_insert_with(|| Counted {
            name: name.to_owned(),
            count: 0,
            first: now,
            last: now,
        });
        counted.count += 1;
        counted.last = now;
        let written = Written { known, message, count: counted.count, first: counted.first };
        bound(&mut self.counted, |counted| counted.last);
        // What is filtered is counted all the same.
        self.may_tell(&told.about, now).then_some(written)
    }

    /// The key under which an Event is counted, and its message.
    fn combined(&mut self, told: &Told, now: Timestamp) -> (Told, String) {
        let group = Told { message: String::new(), ..told.clone() };
        let similar =
            self.similar.entry(group.clone()).or_insert_with(|| Similar { messages: BTreeSet::new(), last: now });
        if now.as_second() - similar.last.as_second() > SIMILAR_SECONDS {
            similar.messages.clear();
        }
        similar.last = now;
        similar.messages.insert(told.message.clone());
        let many = similar.messages.len() >= MOST_SIMILAR;
        if many {
            similar.messages.pop_first();
        }
        bound(&mut self.similar, |similar| similar.last);
        if many {
            (group, format!("(combined from similar events): {}", told.message))
        } else {
            (told.clone(), told.message.clone())
        }
    }

    fn may_tell(&mut self, about: &[String; 4], now: Timestamp) -> bool {
        let bucket = self.buckets.entry(about.clone()).or_insert(Bucket { left: BURST, last: now });
        bucket.left = (bucket.left + seconds_between(bucket.last, now) / REFILL_SECONDS).min(BURST);
        bucket.last = now;
        let may = bucket.left >= 1.0;
        if may {
            bucket.left -= 1.0;
        }
        bound(&mut self.buckets, |bucket| bucket.last);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(message: &str) -> Told {
        let about = ["VirtualMachineInstance", "ns", "vm", "uid"].map(str::to_owned);
        Told { about, severity: "Warning".into(), reason: "FailedCreate".into(), message: message.into() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn the_same_words_are_counted() {
        let mut correlator = Correlator::default();
        let first = correlator.observe(&told("no"), "e1", at(0)).unwrap();
        assert_eq!((first.known, first.count), (None, 1));
        let second = correlator.observe(&told("no"), "e2", at(9)).unwrap();
        assert_eq!((second.known.as_deref(), second.count, second.first), (Some("e1"), 2, at(0)));
    }

    #[test]
    fn from_the_tenth_different_message_on_they_are_one_event() {
        // As recorded: nine by themselves, then sixteen combined, then silence.
        let mut correlator = Correlator::default();
        let mut alone = 0;
        let mut combined = 0;
        for number in 0..40 {
            match correlator.observe(&told(&format!("pod {number} refused")), &format!("e{number}"), at(number)) {
                Some(written) if written.message.starts_with("(combined") => {
                    combined += 1;
                    assert_eq!(written.count, combined);
                    assert_eq!(written.known.is_some(), combined > 1);
                }
                Some(written) => {
                    alone += 1;
                    assert_eq!((written.known, written.count), (None, 1));
                }
                None => {}
            }
        }
        assert_eq!((alone, combined), (9, 16));
        // Five minutes later one more gets through, and it counts those that did not.
        let late = correlator.observe(&told("pod x refused"), "ex", at(39 + 301)).unwrap();
        assert_eq!(late.count, 32);
        assert_eq!(correlator.observe(&told("pod y refused"), "ey", at(39 + 302)), None);
    }

    #[test]
    fn similar_ones_that_are_far_apart_are_not_combined() {
        let mut correlator = Correlator::default();
        for number in 0..20 {
            let written = correlator.observe(&told(&format!("pod {number}")), "e", at(number * 601)).unwrap();
            assert_eq!((written.known, written.count), (None, 1));
        }
    }
}
