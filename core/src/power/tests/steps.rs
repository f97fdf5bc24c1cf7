//! The ways that the diagram shows.

use super::stand::Stand;
use crate::model::{
    Ask, Desired, NodeCondition, NodeMarks, PowerState, Request, SleepMethod, Span, Wakeable, WakerOutcome,
};
use crate::power::{FEW, Wish};

/// A node that is being suspended, up to the order.
fn ordered() -> Stand {
    let mut stand = Stand::new();
    stand.drive();
    stand.wish_asleep("plan a");
    for _ in 0..6 {
        stand.drive();
        stand.pass(1);
    }
    assert!(stand.record.is_ordered_asleep(), "{:?}", stand.record);
    stand
}

/// A node that sleeps.
fn asleep() -> Stand {
    let mut stand = ordered();
    stand.agent_acts(true);
    stand.agent_acts(true);
    stand.agent_acts(true);
    assert!(!stand.up);
    stand.drive();
    stand.pass(60);
    stand.drive();
    assert_eq!(stand.record.phase, PowerState::Suspended);
    stand
}

#[test]
fn a_node_goes_to_sleep_and_comes_back_and_nothing_is_left_on_it() {
    let mut stand = asleep();
    assert_eq!((stand.marks, stand.condition.map(|it| it.0)), (NodeMarks::Asleep, Some(NodeCondition::Suspended)));
    stand.wish_awake();
    stand.drive();
    assert_eq!(stand.record.phase, PowerState::Waking);
    assert_eq!(stand.record.order.as_ref().map(|order| order.desired), Some(Desired::Awake));
    stand.waker_acts();
    stand.pass(3);
    stand.drive();
    assert!(stand.is_clean(), "{stand:?}");
    assert!(stand.record.wake_tested.is_some(), "a node that came back has proved that it can");
    assert!(stand.record.last_sleep.is_some());
    assert_eq!(stand.given.len(), 1);
}

#[test]
fn a_leader_whose_clock_is_behind_its_predecessors_goes_on_by_its_own() {
    // Waking: the order is given anew, and the node fails to wake in its time.
    let mut stand = asleep();
    stand.wish_awake();
    stand.drive();
    let (given, hours) = (stand.record.generation(), Span::from_secs(7200));
    stand.record.since = stand.record.since.map(|since| since + hours);
    stand.record.order.as_mut().unwrap().issued = stand.now + hours;
    stand.drive();
    assert!(stand.record.since <= Some(stand.now), "{:?}", stand.record.since);
    assert_eq!(stand.record.generation(), given + 1, "nobody knows how old the order is");
    stand.pass(600);
    stand.drive();
    assert_eq!(stand.record.phase, PowerState::Quarantined);
    // Ordered to sleep: nobody waits for hours for an agent to answer.
    let mut stand = ordered();
    stand.record.order.as_mut().unwrap().issued = stand.now + hours;
    stand.drive();
    assert_eq!(stand.record.order.as_ref().map(|order| order.desired), Some(Desired::Awake));
}

#[test]
fn marks_come_before_the_order_and_stay_until_the_node_is_usable() {
    let stand = ordered();
    assert_eq!(stand.marks, NodeMarks::Asleep);
    assert_eq!(stand.condition.map(|it| it.0), Some(NodeCondition::Suspending));
    let mut stand = asleep();
    stand.comes_back(false);
    stand.drive();
    assert_eq!(stand.marks, NodeMarks::Asleep, "it is up, and not usable yet");
    stand.pass(3);
    stand.drive();
    assert!(stand.is_clean());
}

#[test]
fn a_daemon_sets_pod_that_was_lost_in_the_sleep_may_come_before_the_node_is_usable() {
    for cold in [false, true] {
        let mut stand = asleep();
        stand.pod_gone = true;
        stand.comes_back(cold);
        stand.pass(1);
        stand.drive();
        assert_eq!(stand.marks, NodeMarks::Asleep, "its kubelet is not ready: nothing can come");
        stand.pass(2);
        stand.drive();
        assert_eq!((stand.record.phase, stand.marks), (PowerState::Waking, NodeMarks::Waking));
        assert_eq!(stand.condition.map(|it| it.0), Some(NodeCondition::Waking), "it still looks asleep to others");
        stand.daemon_set_acts();
        stand.drive();
        assert!(stand.is_clean(), "{stand:?}");
        assert_eq!(stand.given.len(), 1);
    }
}

#[test]
fn a_quarantined_node_gets_the_pods_that_it_lacks() {
    let mut stand = asleep();
    stand.pod_gone = true;
    stand.wish_awake();
    stand.drive();
    stand.pass(600);
    stand.drive();
    assert_eq!((stand.record.phase, stand.marks), (PowerState::Quarantined, NodeMarks::Quarantined));
    stand.comes_back(true);
    stand.pass(3);
    stand.drive();
    assert_eq!(stand.record.phase, PowerState::Quarantined, "it is ready, and not usable");
    stand.daemon_set_acts();
    stand.drive();
    assert!(stand.is_clean(), "{stand:?}");
}

#[test]
fn a_pod_before_the_order_calls_it_off_at_once() {
    let mut stand = Stand::new();
    stand.drive();
    stand.wish_asleep("plan a");
    stand.drive();
    assert_eq!((stand.record.phase, stand.marks), (PowerState::Emptying, NodeMarks::Emptying));
    stand.work = true;
    stand.drive();
    assert!(stand.is_clean());
    stand.work = false;
    stand.pass(600);
    stand.drive();
    assert_eq!(stand.record.phase, PowerState::Awake, "not a second time for the same purpose");
    assert_eq!(stand.given, []);
}

#[test]
fn an_order_that_nobody_answers_is_taken_back_after_it_can_no_longer_be_obeyed() {
    let mut stand = ordered();
    stand.agent_runs = false;
    for _ in 0..11 {
        stand.pass(1);
        stand.drive();
        assert!(stand.record.is_ordered_asleep());
    }
    stand.pass(4);
    stand.drive();
    assert!(!stand.record.is_ordered_asleep());
    assert_eq!(stand.record.phase, PowerState::Waking, "nobody knows");
    stand.pass(15);
    stand.drive();
    assert!(stand.is_clean());
}

#[test]
fn an_agent_that_refuses_keeps_its_node() {
    let mut stand = ordered();
    stand.agent_acts(false);
    stand.agent_acts(false);
    stand.drive();
    stand.agent_acts(true);
    stand.drive();
    assert!(stand.is_clean(), "{stand:?}");
    assert!(stand.record.message.as_deref().is_some_and(|text| text.contains("refused")), "{:?}", stand.record.message);
}

/// One attempt for `purpose`, up to the order; then the machine sleeps for `seconds` and wakes by itself.
fn sleeps_for(stand: &mut Stand, purpose: &str, seconds: u64) {
    stand.wish_asleep(purpose);
    for _ in 0..8 {
        stand.drive();
        stand.pass(1);
    }
    for _ in 0..3 {
        stand.agent_acts(true);
    }
    stand.pass(60);
    stand.drive();
    assert_eq!(stand.record.phase, PowerState::Suspended, "{stand:?}");
    stand.pass(seconds);
    stand.record.agent.wake_source = stand.record.suspend_generation.map(|order| (order, "interrupt 9, acpi".into()));
    stand.comes_back(false);
    stand.pass(3);
    stand.drive();
    assert!(stand.is_clean(), "{stand:?}");
}

#[test]
fn a_node_that_will_not_stay_asleep_is_left_awake_after_a_few_times() {
    let mut stand = Stand::new();
    stand.drive();
    for attempt in 1..=FEW {
        sleeps_for(&mut stand, &format!("plan {attempt}"), 5);
        let restless = stand.record.restless.clone().unwrap();
        assert_eq!(restless.times, attempt);
        assert!(
            restless.why.contains("woke by itself after") && restless.why.contains("interrupt 9, acpi"),
            "{restless:?}"
        );
        assert_eq!(restless.until.is_some(), attempt == FEW, "{restless:?}");
    }
    // Hours later it is tried again, and left awake for longer.
    let until = stand.record.restless.as_ref().and_then(|restless| restless.until).unwrap();
    stand.wish = Wish::None;
    stand.pass(until.since(stand.now).as_secs() - 1);
    stand.drive();
    assert!(stand.record.restless.as_ref().is_some_and(|restless| restless.until.is_some()));
    stand.pass(1);
    stand.drive();
    assert!(stand.record.restless.as_ref().is_some_and(|restless| restless.until.is_none() && restless.times == FEW));
    sleeps_for(&mut stand, "plan later", 5);
    let longer = stand.record.restless.as_ref().and_then(|restless| restless.until).unwrap();
    assert!(longer.since(stand.now) > Span::from_secs(11 * 3600), "twice as long");
    assert_eq!(stand.broken, Vec::<String>::new());
}

#[test]
fn a_sleep_that_ends_when_it_is_asked_to_clears_a_restless_node() {
    let mut stand = Stand::new();
    stand.drive();
    sleeps_for(&mut stand, "plan a", 5);
    assert!(stand.record.restless.is_some());
    // A sleep that lasted counts for nothing either way: whoever woke it may have had reason to.
    sleeps_for(&mut stand, "plan b", 3600);
    assert_eq!(stand.record.restless.as_ref().map(|restless| restless.times), Some(1));
    stand.wish_asleep("plan c");
    for _ in 0..8 {
        stand.drive();
        stand.pass(1);
    }
    for _ in 0..3 {
        stand.agent_acts(true);
    }
    stand.pass(60);
    stand.drive();
    stand.wish_awake();
    stand.drive();
    stand.waker_acts();
    stand.pass(3);
    stand.drive();
    assert!(stand.is_clean() && stand.record.restless.is_none(), "{stand:?}");
}

#[test]
fn a_refusal_counts_unless_something_came_up() {
    for (refusal, counts) in [
        ("order 3: did not sleep: something woke it at once (interrupt 9, acpi)", true),
        ("after order 3 the machine booted instead of resuming: what was in memory is lost", true),
        ("3 suspends in a row failed, so this agent tries no more", true),
        ("order 3: given up at the last moment: QEMU runs", false),
        ("order 3: the agent was restarted after it acknowledged the order", false),
        ("QEMU runs on it (process 17)", false),
    ] {
        let mut stand = ordered();
        stand.agent_acts(false);
        stand.agent_acts(false);
        stand.record.agent.refusal = Some(refusal.into());
        stand.drive();
        stand.agent_acts(true);
        stand.drive();
        assert!(stand.is_clean(), "{stand:?}");
        let why = stand.record.restless.map(|restless| restless.why);
        assert_eq!(why, counts.then(|| refusal.to_owned()));
    }
}

#[test]
fn a_wake_that_comes_while_the_node_falls_asleep_brings_it_back() {
    let mut stand = ordered();
    for _ in 0..3 {
        stand.agent_acts(true);
    }
    assert!(!stand.up, "its lease still holds");
    stand.wish_awake();
    stand.drive();
    assert_eq!(stand.record.phase, PowerState::Waking, "that it looks ready proves nothing");
    stand.pass(5);
    stand.waker_acts();
    stand.pass(3);
    stand.agent_acts(true);
    stand.drive();
    assert!(stand.is_clean(), "{stand:?}");
}

#[test]
fn a_node_that_wakes_by_itself_is_awake() {
    for cold in [false, true] {
        let mut stand = asleep();
        stand.comes_back(cold);
        stand.pass(3);
        stand.drive();
        assert!(stand.is_clean(), "cold: {cold}");
        assert_eq!(stand.record.wake_tested, None, "nobody asked it to wake: that proves nothing");
        let order = stand.record.order.as_ref().map(|order| order.desired);
        assert_eq!(order, Some(Desired::Awake), "a resumed agent finds no order to sleep");
    }
}

#[test]
fn a_node_that_fails_to_wake_is_quarantined_and_asked_ever_more_seldom_until_it_is_healthy() {
    let mut stand = asleep();
    stand.wish_awake();
    stand.drive();
    stand.pass(600);
    stand.drive();
    assert_eq!((stand.record.phase, stand.marks), (PowerState::Quarantined, NodeMarks::Quarantined));
    assert_eq!(stand.record.wake_tested, None, "it is not trusted to sleep any more");
    stand.wish = crate::power::Wish::None;
    let mut asked = Vec::new();
    for second in 0..20_000 {
        let before = stand.record.generation();
        stand.pass(1);
        stand.drive();
        if stand.record.generation() > before {
            asked.push(second);
        }
    }
    let pauses: Vec<i32> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.is_sorted() && pauses.len() >= 4 && pauses.last() == Some(&3600), "{asked:?}");
    stand.comes_back(true);
    stand.pass(3);
    stand.drive();
    assert!(stand.is_clean());
}

/// A node whose class switches it off, after its shutdown, with its lease lapsed.
fn shut_down() -> Stand {
    let mut stand = Stand::new();
    stand.method = SleepMethod::PowerOff;
    stand.drive();
    assert_eq!(stand.record.order.as_ref().map(|order| order.method), Some(SleepMethod::PowerOff));
    stand.agent_acts(true);
    stand.wish_asleep("plan a");
    for _ in 0..6 {
        stand.drive();
        stand.pass(1);
    }
    for _ in 0..3 {
        stand.agent_acts(true);
    }
    assert!(!stand.up, "{stand:?}");
    stand.pass(60);
    stand.drive();
    stand
}

#[test]
fn a_node_is_off_when_its_lease_lapsed_and_its_bmc_says_so_and_boots_when_it_is_woken() {
    let mut stand = shut_down();
    assert_eq!(stand.record.phase, PowerState::Suspending, "a lapsed lease alone proves nothing");
    stand.waker_looks();
    stand.drive();
    assert_eq!(stand.record.phase, PowerState::Suspended);
    stand.wish_awake();
    stand.drive();
    let order = stand.record.order.clone().unwrap();
    assert_eq!((order.desired, order.method), (Desired::Awake, SleepMethod::PowerOff), "the waker must know");
    stand.comes_back(true);
    stand.pass(3);
    stand.drive();
    assert!(stand.is_clean(), "{stand:?}");
    let message = stand.record.message.clone().unwrap();
    assert!(message.starts_with("awake") && !message.contains("cold boot"), "a boot is what was expected: {message}");
    assert!(stand.record.wake_tested.is_some());
}

#[test]
fn a_bmc_that_never_says_off_or_cannot_say_it_means_a_wake() {
    let mut stand = shut_down();
    stand.waker_says(None, "");
    stand.pass(200);
    stand.drive();
    let order = stand.record.order.clone().unwrap();
    assert_eq!((stand.record.phase, order.desired), (PowerState::Waking, Desired::Awake));
    assert!(order.reason.contains("its BMC does not call it off"), "{}", order.reason);
    let mut stand = shut_down();
    stand.waker_says(Some(WakerOutcome::Failed), "wol can't read");
    stand.drive();
    assert_eq!(stand.record.phase, PowerState::Waking);
    assert!(stand.record.order.unwrap().reason.contains("wol can't read"));
}

#[test]
fn a_bmc_that_says_off_of_a_node_that_answers_is_not_believed() {
    let mut stand = Stand::new();
    stand.method = SleepMethod::PowerOff;
    stand.drive();
    stand.agent_acts(true);
    stand.wish_asleep("plan a");
    for _ in 0..6 {
        stand.drive();
        stand.pass(1);
    }
    stand.agent_acts(true);
    stand.agent_acts(true);
    stand.waker_says(Some(WakerOutcome::Off), "redfish: PowerState Off");
    stand.drive();
    assert_eq!(stand.record.phase, PowerState::Suspending, "it is up");
}

/// A node that sleeps and is asked to wake.
fn asked() -> Stand {
    let mut stand = asleep();
    stand.wish_awake();
    stand.drive();
    stand
}

#[test]
fn a_node_whose_drivers_all_failed_is_quarantined_at_once_with_their_words() {
    let mut stand = asked();
    stand.waker_says(None, "");
    stand.pass(3);
    stand.drive();
    assert_eq!(stand.record.phase, PowerState::Waking, "it is still tried");
    stand.waker_says(Some(WakerOutcome::Failed), "amt 10.0.0.7 (1 try): the password was refused");
    stand.drive();
    assert_eq!((stand.record.phase, stand.marks), (PowerState::Quarantined, NodeMarks::Quarantined));
    assert_eq!(stand.record.message.as_deref(), Some("amt 10.0.0.7 (1 try): the password was refused"));
    assert_eq!(stand.record.wakeable, Some((Wakeable::DriversFailed, stand.now)));
    assert_eq!(stand.record.wake_tested, None, "it is not trusted to sleep any more");
    // It is asked again, and the newest words count.
    stand.pass(301);
    stand.drive();
    let since = stand.record.since;
    stand.waker_says(Some(WakerOutcome::Failed), "amt 10.0.0.7 (5 tries): no route");
    stand.drive();
    assert_eq!(stand.record.message.as_deref(), Some("amt 10.0.0.7 (5 tries): no route"));
    assert_eq!((stand.record.phase, stand.record.since), (PowerState::Quarantined, since));
    stand.comes_back(false);
    stand.pass(3);
    stand.drive();
    assert!(stand.is_clean());
}

#[test]
fn a_failure_of_an_earlier_order_or_of_a_node_that_answers_counts_for_nothing() {
    let mut stand = asked();
    stand.waker_says(Some(WakerOutcome::Failed), "no route");
    stand.record.waker.as_mut().unwrap().generation -= 1;
    stand.drive();
    assert_eq!(stand.record.phase, PowerState::Waking);
    stand.comes_back(false);
    stand.pass(3);
    stand.waker_says(Some(WakerOutcome::Failed), "no route");
    stand.drive();
    assert!(stand.is_clean(), "{stand:?}");
    assert_eq!(stand.record.wakeable.map(|it| it.0), Some(Wakeable::Woke));
}

#[test]
fn what_the_waker_did_is_told_when_the_node_takes_long() {
    let mut stand = asked();
    stand.waker_says(Some(WakerOutcome::Sent), "wol: three packets sent");
    stand.drive();
    assert!(!stand.record.message.clone().unwrap().contains("packets"), "not worth a write yet");
    stand.pass(15);
    stand.drive();
    assert_eq!(stand.record.message.as_deref(), Some("a test wants it; wol: three packets sent"));
    assert_eq!(stand.record.phase, PowerState::Waking);
    stand.pass(300);
    stand.drive();
    stand.pass(0);
    let message = stand.record.message.clone().unwrap();
    assert_eq!(stand.record.phase, PowerState::Quarantined, "{message}");
    assert_eq!(stand.record.wakeable.map(|it| it.0), Some(Wakeable::NotInTime));
    assert!(message.contains("did not come back"), "{message}");
}

#[test]
fn a_waker_that_takes_up_nothing_or_falls_silent_is_named() {
    let mut stand = asked();
    stand.pass(29);
    stand.drive();
    assert_eq!(stand.record.wakeable, None);
    stand.pass(1);
    stand.drive();
    assert_eq!(stand.record.wakeable.map(|it| it.0), Some(Wakeable::WakerSilent));
    let message = stand.record.message.clone().unwrap();
    assert!(message.contains("no waker") && message.contains("Deployment miyako-waker"), "{message}");
    stand.waker_says(None, "");
    stand.pass(60);
    stand.drive();
    let message = stand.record.message.clone().unwrap();
    assert!(message.contains("waker-0 took up"), "{message}");
    assert_eq!(stand.record.phase, PowerState::Waking, "another way may still wake it");
}

#[test]
fn a_sleeper_whose_node_power_was_deleted_is_woken() {
    let mut stand = asleep();
    stand.record = crate::model::PowerRecord::default();
    stand.wish = crate::power::Wish::None;
    stand.drive();
    assert_eq!(stand.record.phase, PowerState::Waking, "{stand:?}");
    stand.pass(130);
    stand.drive();
    assert!(stand.record.generation() > 0, "with an order that a waker takes for new");
    stand.comes_back(false);
    stand.pass(3);
    stand.drive();
    assert!(stand.is_clean());
}

#[test]
fn what_a_person_asks_for_is_answered() {
    let read = |text: &str| Request::read(text);
    assert_eq!(read("wake ana 12:00").map(|request| request.ask), Some(Ask::Wake));
    assert_eq!(read("explode ana"), None);
    let mut stand = Stand::new();
    stand.drive();
    stand.wish_asleep("x");
    stand.drive();
    stand.wish = crate::power::Wish::None;
    stand.record.request = read("suspend ana 12:00");
    stand.blocker = Some("2 VMs run on it".into());
    stand.drive();
    assert_eq!(stand.record.request, None);
    let mut stand = asleep();
    stand.record.request = read("suspend ana 12:00");
    stand.drive();
    assert_eq!(stand.record.request, None, "it is asleep");
}
