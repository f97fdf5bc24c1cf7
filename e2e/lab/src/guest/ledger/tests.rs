use super::*;
use proptest::prelude::*;

const MILLISECOND: Duration = Duration::from_millis(1);

/// A guest that does `rate` operations in a second of its own time and reports every 100 ms of it, paused now and then.
fn live(begin: Instant, rate: u32, reports: u32, pauses: &[(u32, u32)]) -> Ledger {
    let mut ledger = Ledger::default();
    let mut at = begin;
    for number in 0..reports {
        let paused: u32 = pauses.iter().filter(|(report, _)| *report == number).map(|(_, millis)| *millis).sum();
        at += MILLISECOND * paused;
        let report = Report {
            sequence: u64::from(number) + 1,
            uptime_ms: u64::from(number) * 100,
            operations: u64::from(number * rate / 10),
            target_millis: u64::from(rate) * 1000,
            ..Report::default()
        };
        ledger.observe(Observation { at, report });
        at += MILLISECOND * 100;
    }
    ledger
}

#[test]
fn a_guest_that_keeps_up_fails_nothing() {
    let begin = Instant::now();
    for second in live(begin, 100, 51, &[]).seconds(begin, 5) {
        assert!((second.achieved - 100.0).abs() < 1e-6 && (second.target - 100.0).abs() < 1e-6, "{second:?}");
    }
}

#[test]
fn a_downtime_fails_what_was_targeted_meanwhile_and_when_it_was() {
    let begin = Instant::now();
    // Paused for 1.5 s, between 1.9 s and 3.4 s, although its own clock saw nothing.
    let seconds = live(begin, 100, 61, &[(20, 1500)]).seconds(begin, 6);
    let failed: Vec<i64> = seconds.iter().map(|second| format!("{:.0}", second.failed()).parse().unwrap()).collect();
    assert_eq!(failed, [0, 10, 100, 40, 0, 0]);
}

#[test]
fn a_wish_counts_from_the_moment_of_the_wish() {
    let begin = Instant::now();
    let mut ledger = live(begin, 100, 41, &[]);
    ledger.target(begin + MILLISECOND * 1500, 200_000);
    let targets: Vec<f64> = ledger.seconds(begin, 4).iter().map(|second| second.target.round()).collect();
    assert_eq!(targets, [100.0, 150.0, 200.0, 200.0]);
}

#[test]
fn nothing_observed_is_nothing_targeted() {
    assert_eq!(Ledger::default().seconds(Instant::now(), 2), [Second::default(); 2]);
    assert_eq!(live(Instant::now(), 100, 5, &[]).seconds(Instant::now(), 0), []);
}

proptest! {
    #[test]
    fn whatever_was_done_is_counted_once(rate in 0..2000u32, reports in 2..80u32, start_ms in 0..3000u32,
                                         pauses in prop::collection::vec((0..80u32, 0..3000u32), 0..5)) {
        let begin = Instant::now();
        let ledger = live(begin + MILLISECOND * start_ms, rate, reports, &pauses);
        let done: u64 = ledger.observations().last().unwrap().report.operations;
        let seconds = ledger.seconds(begin, 60);
        let counted: f64 = seconds.iter().map(|second| second.achieved).sum();
        prop_assert!((counted - done as f64).abs() < 1e-6 * (1.0 + counted), "{counted} {done}");
        // No second holds more than a second of the guest's time.
        for second in seconds {
            prop_assert!(second.achieved <= f64::from(rate) + 1.0 + 1e-6, "{second:?}");
        }
    }

    #[test]
    fn reports_without_sense_do_not_panic(words in prop::collection::vec((any::<[u64; 3]>(), 0..5000u32), 0..20)) {
        let begin = Instant::now();
        let mut ledger = Ledger::default();
        for ([uptime_ms, operations, target_millis], at) in words {
            let report = Report { uptime_ms, operations, target_millis, ..Report::default() };
            ledger.observe(Observation { at: begin + MILLISECOND * at, report });
        }
        prop_assert_eq!(ledger.seconds(begin + MILLISECOND * 700, 3).len(), 3);
    }
}
