//! An order is carried out at most once, whoever dies when.

use super::world::{BEGIN, Life, Moment, Mortal, World, order};
use crate::power::{Look, LookError, Mem, PowerAgent, preflight::Facts, record::to_api};
use miyako_api::{
    node_power::{DesiredPower, WokenBy},
    node_power_class::SuspendMethod,
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::{sleep, timeout};

/// Looks until nothing is left to be done, as the loop does.
async fn look_until_done(agent: &mut PowerAgent<Mortal, Mortal>) {
    for _ in 0..20 {
        match agent.look().await {
            Ok(Look::Done) => return,
            Ok(Look::Again) | Err(LookError::Cluster(_)) => {}
            Err(LookError::Host(error)) => panic!("{error}"),
        }
    }
    panic!("it goes on for ever: {:?}", "twenty looks");
}

async fn run(world: &Arc<World>) {
    look_until_done(&mut world.agent(&Arc::default())).await;
}

/// Wakes the machine three seconds after it fell asleep, again and again.
async fn wake_always(world: &Arc<World>) {
    let mut asleep = world.machine.is_asleep();
    loop {
        asleep.wait_for(|asleep| *asleep).await.unwrap();
        sleep(Duration::from_secs(3)).await;
        world.machine.wake();
    }
}

async fn with_a_waker(world: &Arc<World>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = wake_always(world) => {}
        () = work => {}
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_is_carried_out_and_its_outcome_told() {
    let world = World::new(order(4, SuspendMethod::S3));
    with_a_waker(&world, run(&world)).await;
    let record = world.record();
    assert_eq!(world.machine.sleeps(), 1);
    assert_eq!((record.acknowledged_generation, record.attempt), (Some(4), None));
    let slept = record.last_sleep.unwrap();
    assert_eq!((slept.generation, slept.seconds, slept.woken_by), (Some(4), Some(3), WokenBy::Request));
    assert!(slept.kubelet_after_millis.is_some() && slept.kube_virt_after_millis.is_some());
    assert!(!world.machine.has_alarm());
    // The same agent, and one that was started anew, know the order already.
    for _ in 0..3 {
        run(&world).await;
    }
    assert_eq!(world.machine.sleeps(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_acknowledgement_is_written_before_the_machine_sleeps() {
    let world = World::new(order(4, SuspendMethod::S3));
    let mut asleep = world.machine.is_asleep();
    let mut agent = world.agent(&Arc::default());
    tokio::select! {
        _ = agent.look() => panic!("it does not sleep"),
        () = async { drop(asleep.wait_for(|asleep| *asleep).await) } => {}
    }
    assert_eq!((world.record().acknowledged_generation, world.record().attempt), (Some(4), Some(4)));
}

#[tokio::test(start_paused = true)]
async fn nobody_wakes_it_so_its_alarm_does() {
    let world = World::new(order(4, SuspendMethod::S3));
    world.change(|power| power.spec.wake_at = to_api(BEGIN + 120_000));
    run(&world).await;
    let slept = world.record().last_sleep.unwrap();
    assert_eq!((slept.seconds, slept.woken_by), (Some(120), WokenBy::Alarm));
}

/// The agent dies before or after each of its calls in turn, and its successor finds the order still there, as fresh
/// as can be: the machine sleeps once at the most, and what became of the order is told.
#[tokio::test(start_paused = true)]
async fn an_agent_that_dies_anywhere_leaves_no_order_to_be_obeyed_again() {
    let whole = Arc::new(Life::default());
    let world = World::new(order(4, SuspendMethod::S3));
    let mut agent = world.agent(&whole);
    with_a_waker(&world, look_until_done(&mut agent)).await;
    assert!(whole.calls() >= 9, "calls of a whole life: {}", whole.calls());
    for call in 0..whole.calls() {
        for moment in [Moment::Before, Moment::After] {
            for pause in [0, 1, 20] {
                dies_at(call, moment, Duration::from_secs(pause)).await;
            }
        }
    }
}

async fn dies_at(call: usize, moment: Moment, pause: Duration) {
    let world = World::new(order(4, SuspendMethod::S3));
    let what = format!("dies {moment:?} call {call}, back after {pause:?}");
    let life = Arc::new(Life::until(call, moment));
    let mut agent = world.agent(&life);
    let died = with_a_waker(&world, look_until_done(&mut agent));
    assert!(timeout(Duration::from_secs(8), died).await.is_err(), "{what}: it lives");
    drop(agent);
    let (acknowledged, slept) = (world.record().acknowledged_generation.is_some(), world.machine.sleeps());
    assert!(acknowledged || slept == 0, "{what}: slept without acknowledging");
    sleep(pause).await;
    // An operator that does not notice gives the same order again, at the same generation and with a new date.
    let now = world.now();
    world.change(|power| power.spec.issued_at = to_api(now).unwrap());
    world.change(|power| power.spec.expires_at = to_api(now + 60_000).unwrap());
    with_a_waker(&world, run(&world)).await;
    let record = world.record();
    assert_eq!(record.acknowledged_generation, Some(4), "{what}");
    assert_eq!(record.attempt, None, "{what}: nobody knows what became of it");
    assert!(world.machine.sleeps() <= 1, "{what}: slept {} times", world.machine.sleeps());
    if acknowledged {
        assert_eq!(world.machine.sleeps(), slept, "{what}: obeyed an order that was acknowledged before");
    }
    let told = record.last_sleep.as_ref().is_some_and(|sleep| sleep.generation == Some(4));
    assert_eq!(told, world.machine.sleeps() == 1, "{what}: {record:?}");
    assert!(told || record.refusal.is_some(), "{what}: {record:?}");
    run(&world).await;
    assert!(world.machine.sleeps() <= 1, "{what}: slept later");
}

#[tokio::test(start_paused = true)]
async fn an_old_order_is_refused_and_stays_refused() {
    let world = World::new(order(4, SuspendMethod::S3));
    sleep(Duration::from_secs(11)).await;
    run(&world).await;
    assert_eq!((world.machine.sleeps(), world.record().acknowledged_generation), (0, Some(4)));
    assert!(world.record().refusal.unwrap().contains("11 s old"));
}

#[tokio::test(start_paused = true)]
async fn an_order_taken_back_before_it_is_acknowledged_is_not_carried_out() {
    let world = World::new(order(4, SuspendMethod::S3));
    // The first write of a new agent is its record: only the acknowledgement is to be crossed.
    world.change(|power| power.spec.desired = DesiredPower::Awake);
    run(&world).await;
    world.change(|power| (power.spec.desired, power.spec.generation) = (DesiredPower::Suspended, 5));
    world.meddle.store(true, Ordering::SeqCst);
    run(&world).await;
    let record = world.record();
    assert_eq!((world.machine.sleeps(), record.acknowledged_generation, record.attempt), (0, Some(6), None));
}

#[tokio::test(start_paused = true)]
async fn a_pod_or_a_vm_on_the_node_is_a_refusal() {
    let world = World::new(order(4, SuspendMethod::S3));
    world.pods.lock().unwrap().push("shop/web-0".into());
    run(&world).await;
    assert!(world.record().refusal.unwrap().contains("shop/web-0"));
    assert_eq!(world.machine.sleeps(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_only_claims_to_sleep_is_tried_three_times_and_no_more() {
    let world = World::new(order(1, SuspendMethod::S3));
    world.machine.set_mem(Mem::ReturnsAtOnce);
    for generation in 1..=5 {
        let now = world.now();
        world.change(|power| (power.spec.generation, power.spec.issued_at) = (generation, to_api(now).unwrap()));
        run(&world).await;
        let record = world.record();
        assert_eq!(record.suspend_failures, Some(u32::try_from(generation).unwrap().min(3)));
        let expected = if generation <= 3 { "did not sleep" } else { "3 suspends in a row failed" };
        assert!(record.refusal.as_ref().unwrap().contains(expected), "{record:?}");
        assert_eq!((record.last_sleep, record.resumed_at), (None, None));
    }
    // A person may try again, and a success wipes the slate.
    world.machine.set_mem(Mem::Sleeps);
    let now = world.now();
    world.change(|power| (power.spec.generation, power.spec.issued_at) = (6, to_api(now).unwrap()));
    world.change(|power| power.spec.despite_failures = true);
    with_a_waker(&world, run(&world)).await;
    assert_eq!((world.machine.sleeps(), world.record().suspend_failures), (1, None));
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_refuses_is_quoted() {
    let world = World::new(order(1, SuspendMethod::S3));
    world.machine.set_mem(Mem::Refuses);
    run(&world).await;
    let record = world.record();
    assert!(record.refusal.as_ref().unwrap().contains("/sys/power/state"), "{record:?}");
    assert_eq!(record.suspend_failures, Some(1));
    assert!(!world.machine.has_alarm());
}

/// A machine that went off as ordered, and its agent with it.
async fn shut_down() -> Arc<World> {
    let world = World::new(order(4, SuspendMethod::PowerOff));
    let mut off = world.machine.is_asleep();
    let mut agent = world.agent(&Arc::default());
    tokio::select! {
        _ = agent.look() => panic!("it does not shut down"),
        () = async { drop(off.wait_for(|off| *off).await) } => {}
    }
    drop(agent);
    world
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_with_another_boot() {
    let world = shut_down().await;
    assert_eq!(world.record().attempt, Some(4));
    world.machine.boot();
    run(&world).await;
    let record = world.record();
    assert_eq!((world.machine.power_offs(), record.attempt, record.refusal), (1, None, None));
    assert_eq!(record.last_sleep.unwrap().method, SuspendMethod::PowerOff);
}

/// Looks until nothing is left to be done or the machine goes off; then it boots, and a new agent looks.
async fn run_and_boot(world: &Arc<World>, life: &Arc<Life>) {
    let mut off = world.machine.is_asleep();
    let mut agent = world.agent(life);
    tokio::select! {
        biased;
        () = async { drop(off.wait_for(|off| *off).await) } => {}
        () = look_until_done(&mut agent) => return,
    }
    drop(agent);
    sleep(Duration::from_secs(3)).await;
    world.machine.boot();
    run(world).await;
}

/// As in S3: the agent dies before or after each of its calls in turn, and its successor finds the order still there.
#[tokio::test(start_paused = true)]
async fn a_machine_is_shut_down_once_at_most_whoever_dies_when() {
    let whole = Arc::new(Life::default());
    run_and_boot(&World::new(order(4, SuspendMethod::PowerOff)), &whole).await;
    assert!(whole.calls() >= 4, "calls of a whole life: {}", whole.calls());
    for call in 0..whole.calls() {
        for moment in [Moment::Before, Moment::After] {
            let what = format!("dies {moment:?} call {call}");
            let world = World::new(order(4, SuspendMethod::PowerOff));
            let life = Arc::new(Life::until(call, moment));
            let died = timeout(Duration::from_secs(8), run_and_boot(&world, &life)).await;
            let (acknowledged, offs) = (world.record().acknowledged_generation.is_some(), world.machine.power_offs());
            assert!(acknowledged || offs == 0, "{what}: shut down without acknowledging");
            assert!(died.is_err() || offs == 1, "{what}: it lives");
            let now = world.now();
            world.change(|power| power.spec.issued_at = to_api(now).unwrap());
            world.change(|power| power.spec.expires_at = to_api(now + 60_000).unwrap());
            run_and_boot(&world, &Arc::default()).await;
            let record = world.record();
            assert_eq!((record.acknowledged_generation, record.attempt), (Some(4), None), "{what}");
            assert_eq!(world.machine.power_offs(), if acknowledged { offs } else { 1 }, "{what}: {record:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_boot_after_a_shutdown_is_no_failure_though_another_order_stands_by_then() {
    let world = shut_down().await;
    world.change(|power| (power.spec.desired, power.spec.generation) = (DesiredPower::Awake, 5));
    world.machine.boot();
    run(&world).await;
    let record = world.record();
    assert_eq!((record.acknowledged_generation, record.suspend_failures, record.refusal), (Some(5), None, None));
    assert!(record.resumed_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn where_logind_can_not_be_asked_the_order_is_refused_and_s3_is_no_matter() {
    let world = World::new(order(4, SuspendMethod::PowerOff));
    world.machine.set_facts(Facts { logind: true, ..Facts::default() });
    let mut off = world.machine.is_asleep();
    let mut agent = world.agent(&Arc::default());
    tokio::select! {
        _ = agent.look() => panic!("it does not shut down: {:?}", world.record()),
        () = async { drop(off.wait_for(|off| *off).await) } => {}
    }
    assert!(world.record().obstacles.is_empty(), "{:?}", world.record().obstacles);
    let world = World::new(order(4, SuspendMethod::PowerOff));
    world.machine.set_facts(Facts::default());
    run(&world).await;
    assert!(world.record().refusal.unwrap().contains("logind"));
    assert!(world.record().obstacles.iter().any(|obstacle| obstacle.contains("logind")));
    assert_eq!(world.machine.power_offs(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_never_ends_is_told() {
    let world = World::new(order(4, SuspendMethod::PowerOff));
    run(&world).await;
    let record = world.record();
    assert!(record.refusal.unwrap().contains("still up"));
    assert_eq!((record.suspend_failures, world.machine.has_alarm()), (Some(1), false));
}
