//! Writes that the API server refuses. The same request gets the same answer, so it waits, longer after each refusal,
//! and is told once.

use miyako_core::model::{Span, Timestamp};
use std::collections::BTreeMap;

/// The first wait after a refusal; it doubles with each further one.
const FIRST_WAIT: Span = Span::from_secs(30);
/// The longest wait: what refuses may have been mended.
const LONGEST_WAIT: Span = Span::from_secs(3600);

#[derive(Debug)]
struct Refusal {
    times: u32,
    until: Timestamp,
    /// The policy that is told about it.
    policy: Option<String>,
    answer: String,
}

/// What was refused lately, by the kind and name of the object.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<(&'static str, String), Refusal>);

impl Refusals {
    /// Whether this object may be written to now.
    pub(super) fn may_write(&self, kind: &'static str, name: &str, now: Timestamp) -> bool {
        let refusal = self.0.get(&(kind, name.to_owned()));
        // A clock that was set back must not make it wait for hours.
        refusal.is_none_or(|refusal| now >= refusal.until || refusal.until > now + LONGEST_WAIT)
    }

    /// A write was refused with this answer. Whether that is news.
    pub(super) fn refused(
        &mut self,
        kind: &'static str,
        name: &str,
        policy: Option<&str>,
        answer: String,
        now: Timestamp,
    ) -> bool {
        let before = self.0.remove(&(kind, name.to_owned()));
        let times = before.as_ref().map_or(0, |before| before.times).saturating_add(1);
        let until = now + FIRST_WAIT.saturating_mul(1 << (times - 1).min(10)).min(LONGEST_WAIT);
        let is_news = before.is_none_or(|before| before.answer != answer);
        let policy = policy.map(str::to_owned);
        self.0.insert((kind, name.to_owned()), Refusal { times, until, policy, answer });
        is_news
    }

    /// A write went through.
    pub(super) fn accepted(&mut self, kind: &'static str, name: &str) {
        if !self.0.is_empty() {
            self.0.remove(&(kind, name.to_owned()));
        }
    }

    /// How many objects are refused.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets the objects of a kind that nobody wants to write to any more.
    pub(super) fn retain(&mut self, kind: &'static str, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|(of, name), _| *of != kind || wanted(name));
    }

    /// What is refused that concerns a policy, in a sentence.
    pub(super) fn of_policy(&self, policy: &str) -> Option<String> {
        let mut concerned = self.0.iter().filter(|(_, refusal)| refusal.policy.as_deref() == Some(policy));
        let ((kind, name), refusal) = concerned.next()?;
        let more = match concerned.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        Some(format!("the API server refuses what is written to {kind} {name}{more}: {}", refusal.answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_write_waits_longer_each_time_and_is_told_once() {
        let mut refusals = Refusals::default();
        let mut now = Timestamp::from_secs(1_000);
        let mut waits = Vec::new();
        let mut told = 0;
        for _ in 0..9 {
            told += u32::from(refusals.refused("Kind", "a", Some("p"), "no".into(), now));
            let began = now;
            while !refusals.may_write("Kind", "a", now) {
                now = now + Span::from_secs(1);
            }
            waits.push(now.since(began).as_secs());
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(told, 1);
        assert!(refusals.may_write("Kind", "b", now), "others are not held up");
        assert!(refusals.refused("Kind", "a", Some("p"), "no, and why".into(), now), "another answer is news");
        assert_eq!(
            refusals.of_policy("p").as_deref(),
            Some("the API server refuses what is written to Kind a: no, and why")
        );
        refusals.accepted("Kind", "a");
        assert!(refusals.may_write("Kind", "a", now));
        assert_eq!(refusals.of_policy("p"), None);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_up() {
        let mut refusals = Refusals::default();
        refusals.refused("Kind", "a", None, "no".into(), Timestamp::from_secs(100_000));
        assert!(refusals.may_write("Kind", "a", Timestamp::from_secs(10)));
    }
}
