//! Which driver is asked what and when, told as a play: each line is a step and its answer.

use miyako_agent::wake::{
    Answer, Belief, Candidate, DriverError, Patience, PowerState, Reading, Sequence, Step, WakeFailure, Woken,
};
use miyako_api::node_power_class::WakeProtocol;
use proptest::prelude::*;
use std::time::Duration;

fn candidate(protocol: WakeProtocol) -> Candidate {
    Candidate { protocol, address: "a".into(), can_read: protocol != WakeProtocol::Wol }
}

fn sure(state: PowerState) -> Answer {
    Answer::Read(Ok(Reading::sure(state, "test")))
}

fn main_power(state: PowerState) -> Answer {
    Answer::Read(Ok(Reading::main_power(state, "test")))
}

fn unreachable() -> DriverError {
    DriverError::Unreachable { address: "a".into(), why: "refused".into() }
}

/// Plays a sequence against what a world answers to each order and reading.
fn play(
    protocols: &[WakeProtocol],
    belief: Belief,
    mut world: impl FnMut(&Step) -> Answer,
) -> (Result<Woken, WakeFailure>, Vec<Step>) {
    let mut sequence = Sequence::new(protocols.iter().map(|p| candidate(*p)).collect(), belief, Patience::default(), 7);
    let (mut now, mut answer, mut steps) = (Duration::ZERO, Answer::Start, Vec::new());
    loop {
        let step = sequence.next(answer, now);
        steps.push(step.clone());
        assert!(steps.len() < 1000, "no end: {steps:?}");
        answer = match step {
            Step::Done(outcome) => return (outcome, steps),
            Step::Wait(time) => {
                now += time;
                Answer::Waited
            }
            other => world(&other),
        };
    }
}

#[test]
fn a_sleeping_machine_is_woken_and_seen_awake() {
    let mut reads = [sure(PowerState::Sleeping), Answer::Read(Err(unreachable())), sure(PowerState::On)].into_iter();
    let (outcome, steps) = play(&[WakeProtocol::Amt], Belief::Asleep, |step| match step {
        Step::Read(0) => reads.next().unwrap(),
        Step::Wake(0) => Answer::Ordered(Ok(())),
        other => panic!("{other:?}"),
    });
    assert_eq!(
        outcome.unwrap(),
        Woken { by: Some(WakeProtocol::Amt), verified: true, evidence: "on (test)".into(), requests: 1 }
    );
    let poll = Step::Wait(Patience::default().poll);
    assert_eq!(steps[..6], [Step::Read(0), Step::Wake(0), poll.clone(), Step::Read(0), poll, Step::Read(0)]);
}

#[test]
fn a_machine_that_is_on_gets_no_request() {
    let (outcome, steps) = play(&[WakeProtocol::Amt], Belief::Asleep, |_| sure(PowerState::On));
    assert_eq!((outcome.unwrap().by, steps.len()), (None, 2));
    let (outcome, _) = play(&[WakeProtocol::Redfish], Belief::Nothing, |_| main_power(PowerState::On));
    assert_eq!(outcome.unwrap().requests, 0);
}

#[test]
fn a_machine_that_is_off_is_turned_on() {
    let mut on = false;
    let (outcome, steps) = play(&[WakeProtocol::Ipmi], Belief::Asleep, |step| match step {
        Step::Read(0) => main_power(if on { PowerState::On } else { PowerState::Off }),
        _ => {
            on = true;
            Answer::Ordered(Ok(()))
        }
    });
    assert!(outcome.unwrap().verified);
    assert!(steps.contains(&Step::PowerOn(0)));
}

#[test]
fn an_on_that_does_not_exclude_sleep_neither_stops_nor_proves_a_wake() {
    let (outcome, steps) = play(&[WakeProtocol::Redfish], Belief::Asleep, |step| match step {
        Step::Read(_) => main_power(PowerState::On),
        _ => Answer::Ordered(Ok(())),
    });
    let woken = outcome.unwrap();
    assert!(!woken.verified && woken.by == Some(WakeProtocol::Redfish));
    assert!(steps.contains(&Step::Wake(0)));
}

#[test]
fn a_request_without_proof_is_followed_by_the_next_drivers() {
    let (outcome, steps) = play(&[WakeProtocol::Redfish, WakeProtocol::Wol], Belief::Asleep, |step| match step {
        Step::Read(0) => main_power(PowerState::On),
        _ => Answer::Ordered(Ok(())),
    });
    let woken = outcome.unwrap();
    assert_eq!((woken.by, woken.verified, woken.requests), (Some(WakeProtocol::Wol), false, 2));
    assert!(steps.contains(&Step::Wake(0)) && steps.contains(&Step::Wake(1)));

    let (outcome, _) = play(&[WakeProtocol::Wol, WakeProtocol::Amt], Belief::Asleep, |step| match step {
        Step::Wake(0) => Answer::Ordered(Ok(())),
        _ => Answer::Read(Err(DriverError::WrongCredentials("401".into()))),
    });
    assert_eq!(outcome.unwrap().by, Some(WakeProtocol::Wol), "what was sent may have worked, whatever failed after it");
}

#[test]
fn a_refused_password_is_not_tried_twice_and_the_next_driver_takes_over() {
    let (mut wrong, mut on) = (0, false);
    let (outcome, _) = play(&[WakeProtocol::Amt, WakeProtocol::Wol, WakeProtocol::Ipmi], Belief::Asleep, |step| {
        match step {
            Step::Read(0) => {
                wrong += 1;
                Answer::Read(Err(DriverError::WrongCredentials("401".into())))
            }
            Step::Wake(1) => {
                on = true;
                Answer::Ordered(Ok(()))
            }
            // The magic packet is verified by the driver after it.
            Step::Read(2) => sure(if on { PowerState::On } else { PowerState::Sleeping }),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!((outcome.unwrap().by, wrong), (Some(WakeProtocol::Wol), 1));
}

#[test]
fn a_magic_packet_that_nobody_can_verify_is_reported_as_such() {
    let (outcome, steps) = play(&[WakeProtocol::Wol], Belief::Asleep, |_| Answer::Ordered(Ok(())));
    assert!(!outcome.unwrap().verified);
    assert_eq!(steps[0], Step::Wake(0));
}

#[test]
fn the_last_error_names_every_driver_and_what_to_check() {
    let (outcome, steps) = play(&[WakeProtocol::Amt, WakeProtocol::Ipmi], Belief::Asleep, |step| match step {
        Step::Read(0) => Answer::Read(Err(unreachable())),
        Step::Read(1) => sure(PowerState::Sleeping),
        _ => Answer::Ordered(Err(DriverError::NotPermitted("privilege level user".into()))),
    });
    assert_eq!(
        outcome.unwrap_err().to_string(),
        "amt a (5 tries): a can't be reached: refused – check address, port and firewall, that the BMC has power in \
         sleep (ErP and deep sleep off in the BIOS), and that the waker runs on another machine than the one it wakes; \
         ipmi a (1 try): the account may not do this: privilege level user – give the BMC's user the right to control \
         power (operator or administrator)"
    );
    let waits: Vec<_> =
        steps.iter().filter_map(|step| if let Step::Wait(time) = step { Some(*time) } else { None }).collect();
    assert_eq!(waits.len(), 4);
    for (wait, bound) in waits.iter().zip([1, 2, 4, 8].map(Duration::from_secs)) {
        assert!((bound / 2..=bound).contains(wait), "{waits:?}");
    }
}

#[test]
fn a_machine_that_takes_requests_and_sleeps_on_is_given_up() {
    let (outcome, steps) = play(&[WakeProtocol::Amt], Belief::Asleep, |step| match step {
        Step::Read(_) => sure(PowerState::Sleeping),
        _ => Answer::Ordered(Ok(())),
    });
    let text = outcome.unwrap_err().to_string();
    assert!(text.contains("the request was taken, but the machine still reads as asleep (test)"), "{text}");
    assert_eq!(steps.iter().filter(|step| **step == Step::Wake(0)).count(), 5);
}

#[test]
fn a_class_without_drivers_says_so() {
    let (outcome, _) = play(&[], Belief::Asleep, |_| unreachable!());
    assert!(outcome.unwrap_err().to_string().contains("spec.wake"));
}

fn any_error() -> impl Strategy<Value = DriverError> {
    prop_oneof![
        Just(unreachable()),
        Just(DriverError::TimedOut(Duration::from_secs(1))),
        Just(DriverError::Busy("b".into())),
        Just(DriverError::WrongCredentials("w".into())),
        Just(DriverError::Refused("r".into())),
    ]
}

fn any_answer() -> impl Strategy<Value = (Result<PowerState, DriverError>, bool, Result<(), DriverError>)> {
    let state = prop_oneof![
        Just(PowerState::On),
        Just(PowerState::Sleeping),
        Just(PowerState::Standby),
        Just(PowerState::Starting),
        Just(PowerState::Off),
        Just(PowerState::Unknown),
    ];
    (
        prop_oneof![4 => state.prop_map(Ok), 1 => any_error().prop_map(Err)],
        any::<bool>(),
        prop_oneof![4 => Just(Ok(())), 1 => any_error().prop_map(Err)],
    )
}

proptest! {
    /// Whatever BMCs answer, a sequence ends, asks only drivers that exist and can do it, and claims a proof only where
    /// the last reading was an "on".
    #[test]
    fn every_world_comes_to_an_end(
        world in prop::collection::vec(any_answer(), 1..40),
        drivers in prop::collection::vec(prop_oneof![Just(WakeProtocol::Amt), Just(WakeProtocol::Wol)], 0..4),
        asleep in any::<bool>(),
    ) {
        let mut world = world.iter().cycle();
        let mut last = None;
        let belief = if asleep { Belief::Asleep } else { Belief::Nothing };
        let (outcome, _) = play(&drivers, belief, |step| {
            let (state, excludes_sleep, ordered) = world.next().unwrap().clone();
            match step {
                Step::Read(index) => {
                    assert_eq!(drivers[*index], WakeProtocol::Amt);
                    last = state.clone().ok();
                    Answer::Read(state.map(|state| Reading { state, excludes_sleep, evidence: "test".into() }))
                }
                Step::Wake(index) | Step::PowerOn(index) => {
                    assert!(*index < drivers.len());
                    Answer::Ordered(ordered)
                }
                other => panic!("{other:?}"),
            }
        });
        match outcome {
            Ok(woken) => prop_assert!(!woken.verified || last == Some(PowerState::On)),
            Err(failure) => prop_assert_eq!(failure.tried.len(), drivers.len()),
        }
    }
}
