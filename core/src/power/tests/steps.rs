//! The ways that the diagram shows.

use super::stand::Stand;
use crate::model::PowerState;
use crate::power::{Ask, Desired, Marks, NodeCondition, Request};

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
    assert_eq!((stand.marks, stand.condition.map(|it| it.0)), (Marks::Asleep, Some(NodeCondition::Suspended)));
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
fn marks_come_before_the_order_and_stay_until_the_node_is_usable() {
    let stand = ordered();
    assert_eq!(stand.marks, Marks::Asleep);
    assert_eq!(stand.condition.map(|it| it.0), Some(NodeCondition::Suspending));
    let mut stand = asleep();
    stand.comes_back(false);
    stand.drive();
    assert_eq!(stand.marks, Marks::Asleep, "it is up, and not usable yet");
    stand.pass(3);
    stand.drive();
    assert!(stand.is_clean());
}

#[test]
fn a_pod_before_the_order_calls_it_off_at_once() {
    let mut stand = Stand::new();
    stand.drive();
    stand.wish_asleep("plan a");
    stand.drive();
    assert_eq!((stand.record.phase, stand.marks), (PowerState::Emptying, Marks::Emptying));
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
    assert_eq!((stand.record.phase, stand.marks), (PowerState::Quarantined, Marks::Quarantined));
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

#[test]
fn a_sleeper_whose_node_power_was_deleted_is_woken() {
    let mut stand = asleep();
    stand.record = crate::power::PowerRecord::default();
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
