//! Random orders of events, with operators that die after any single write and others that see the past.

use super::stand::Stand;
use crate::model::{PowerState, SleepMethod, WakerOutcome};
use crate::power::Wish;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy)]
enum Event {
    Pass(u64),
    /// One write; then that operator is dead.
    Write,
    /// An operator that sees the stand as it was some events ago makes one write.
    StaleWrite(usize),
    Drive,
    Agent(bool),
    AgentRuns(bool),
    Waker,
    WakerSays(Option<WakerOutcome>),
    WakesByItself,
    ColdBoot,
    WishAsleep(u8),
    WishAwake,
    WishNone,
    PodComes,
    PodGoes,
    DaemonPodLost,
    DaemonSet,
    Cordon(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1_u64..4).prop_map(Event::Pass),
        2 => (4_u64..200).prop_map(Event::Pass),
        3 => Just(Event::Write),
        2 => (0_usize..6).prop_map(Event::StaleWrite),
        6 => Just(Event::Drive),
        6 => prop::bool::weighted(0.9).prop_map(Event::Agent),
        1 => prop::bool::weighted(0.7).prop_map(Event::AgentRuns),
        2 => Just(Event::Waker),
        1 => prop::sample::select(vec![
            None, Some(WakerOutcome::Awake), Some(WakerOutcome::Sent), Some(WakerOutcome::Off), Some(WakerOutcome::Failed),
        ]).prop_map(Event::WakerSays),
        1 => Just(Event::WakesByItself),
        1 => Just(Event::ColdBoot),
        4 => (0_u8..4).prop_map(Event::WishAsleep),
        1 => Just(Event::WishAwake),
        1 => Just(Event::WishNone),
        1 => Just(Event::PodComes),
        2 => Just(Event::PodGoes),
        1 => Just(Event::DaemonPodLost),
        2 => Just(Event::DaemonSet),
        1 => prop::bool::weighted(0.3).prop_map(Event::Cordon),
    ]
}

fn happen(stand: &mut Stand, past: &[Stand], event: Event) {
    match event {
        Event::Pass(seconds) => stand.pass(seconds),
        Event::Write => {
            stand.write();
        }
        Event::StaleWrite(ago) => {
            if let Some(seen) = past.len().checked_sub(ago + 1).and_then(|at| past.get(at)) {
                stand.write_as_of(seen);
            }
        }
        Event::Drive => stand.drive(),
        Event::Agent(sleeps) => stand.agent_acts(sleeps),
        Event::AgentRuns(runs) => stand.agent_runs = runs,
        Event::Waker => stand.waker_acts(),
        Event::WakerSays(outcome) => stand.waker_says(outcome, "amt 10.0.0.7: no route"),
        Event::WakesByItself => stand.comes_back(false),
        Event::ColdBoot => stand.comes_back(true),
        Event::WishAsleep(purpose) => stand.wish_asleep(&format!("plan {purpose}")),
        Event::WishAwake => stand.wish_awake(),
        Event::WishNone => stand.wish = Wish::None,
        // Pods are bound to nodes that look ready, by schedulers that saw no taint yet.
        Event::PodComes => stand.work = stand.work || stand.facts().ready,
        Event::PodGoes => stand.work = false,
        Event::DaemonPodLost => stand.pod_gone = true,
        Event::DaemonSet => stand.daemon_set_acts(),
        Event::Cordon(cordoned) => stand.blocker = cordoned.then(|| "somebody cordoned it".to_owned()),
    }
}

fn judge(stand: &Stand) {
    assert_eq!(stand.broken, [""; 0], "{stand:?}");
    let mut times: BTreeMap<_, u32> = BTreeMap::new();
    for (purpose, _) in &stand.given {
        *times.entry(purpose).or_default() += 1;
    }
    assert!(times.values().all(|times| *times == 1), "an order was given twice for one purpose: {:?}", stand.given);
    let generations: Vec<i64> = stand.given.iter().map(|(_, generation)| *generation).collect();
    assert!(generations.windows(2).all(|pair| pair[0] < pair[1]), "{generations:?}");
}

/// Lets everything work as it should for some time.
fn calm(stand: &mut Stand, seconds: u32) {
    stand.agent_runs = true;
    for _ in 0..seconds {
        stand.agent_acts(true);
        stand.waker_acts();
        stand.waker_looks();
        stand.drive();
        stand.daemon_set_acts();
        stand.pass(1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_node_that_is_wanted_comes_back_and_can_sleep_again(
        off: bool, events in prop::collection::vec(event(), 1..120)
    ) {
        let mut stand = Stand::new();
        if off {
            stand.method = SleepMethod::PowerOff;
        }
        let mut past = Vec::new();
        for event in events {
            past.push(stand.clone());
            happen(&mut stand, &past, event);
            judge(&stand);
        }
        // Work that waits is a wish to be awake; work on a sleeper is one by itself.
        let mut wanted = stand.clone();
        wanted.wish_awake();
        calm(&mut wanted, 900);
        judge(&wanted);
        prop_assert!(wanted.is_clean(), "left behind: {wanted:?}");

        let mut working = stand.clone();
        (working.work, working.wish) = (true, Wish::None);
        calm(&mut working, 900);
        judge(&working);
        prop_assert!(working.is_clean(), "left behind with work on it: {working:?}");

        let mut asleep = wanted;
        (asleep.work, asleep.blocker) = (false, None);
        asleep.wish_asleep("plan of the end");
        for _ in 0..200 {
            asleep.agent_acts(true);
            asleep.waker_looks();
            asleep.drive();
            asleep.pass(1);
        }
        judge(&asleep);
        prop_assert_eq!(asleep.record.phase, PowerState::Suspended, "can't sleep: {:?}", asleep);
    }
}
