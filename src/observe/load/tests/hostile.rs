//! Whatever bytes an agent sends, the operator goes on.

use super::*;
use proptest::{collection::vec, prelude::*};
use prost::Message as _;

/// Numbers that break things.
fn figure() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::MAX),
        Just(-0.0),
        Just(f64::MIN_POSITIVE),
        0.0..10.0_f64,
    ]
}

fn any_usage() -> impl Strategy<Value = Option<Usage>> {
    let maybe = || proptest::option::of(figure());
    let figures = (figure(), any::<Option<u64>>(), maybe(), maybe(), maybe(), maybe(), maybe());
    proptest::option::of(figures.prop_map(|(cpu, memory, rx, tx, read, write, wait)| Usage {
        cpu_cores: cpu,
        memory_bytes: memory,
        network_receive_bytes_per_second: rx,
        network_transmit_bytes_per_second: tx,
        disk_read_bytes_per_second: read,
        disk_write_bytes_per_second: write,
        cpu_wait_cores: wait,
        ..Usage::default()
    }))
}

/// Times near the truth and at the ends of what a number holds.
fn moment() -> impl Strategy<Value = i64> {
    prop_oneof![Just(i64::MIN), Just(i64::MAX), any::<i64>(), (-5_000..5_000_i64).prop_map(|off| START.millis() + off)]
}

fn any_vm() -> impl Strategy<Value = VmSample> {
    ("(default|.{0,9})", "(web|.{0,9})", "(u1|.{0,9})", any_usage(), vec(any_past_cpu(), 0..4)).prop_map(
        |(namespace, name, uid, usage, past_cpu_cores)| VmSample { namespace, name, uid, usage, past_cpu_cores },
    )
}

fn any_past_cpu() -> impl Strategy<Value = f32> {
    prop_oneof![any::<f32>(), Just(f32::NAN), Just(-1.0), 0.0..10.0_f32]
}

/// What came before, more often in order than not.
fn any_past() -> impl Strategy<Value = (Vec<u32>, Vec<f32>)> {
    let in_order = (1..40_u32, vec(any_past_cpu(), 0..40)).prop_map(|(first, cpu)| {
        let ages = (first..).map(|second| second * 1000).take(cpu.len()).collect::<Vec<_>>();
        (ages.into_iter().rev().collect(), cpu)
    });
    prop_oneof![in_order, (vec(any::<u32>(), 0..6), vec(any_past_cpu(), 0..6))]
}

fn any_sample() -> impl Strategy<Value = NodeSample> {
    (
        "(a|b|.{0,9})",
        any::<u64>(),
        moment(),
        moment(),
        any_usage(),
        vec(any_vm(), 0..6),
        any_past(),
        any::<Option<f64>>(),
    )
        .prop_map(
            |(node, sequence, sampled_unix_ms, sent_unix_ms, usage, vms, (past_age_ms, past_cpu_cores), watts)| {
                // Half of the agents tell how long their machine runs.
                let boot = |millis: i64| u64::try_from(millis).ok().filter(|_| sequence % 2 == 0);
                NodeSample {
                    node,
                    sequence,
                    sampled_boot_ms: boot(sampled_unix_ms),
                    sent_boot_ms: boot(sent_unix_ms),
                    sampled_unix_ms,
                    sent_unix_ms,
                    usage,
                    vms,
                    past_age_ms,
                    past_cpu_cores,
                    watts,
                }
            },
        )
}

/// Whatever came in, what the planner sees is sound.
fn assert_sound(store: &mut LoadStore, now: Timestamp) -> Result<(), TestCaseError> {
    let table = store.lend();
    for history in table.nodes.values().chain(table.vms.values()) {
        let newest = history.newest().unwrap_or(now);
        prop_assert!(newest.since(now) <= SECOND * 4, "{newest:?} lies ahead of {now:?}");
        for window in [SECOND, SECOND * 5, SECOND * 300] {
            if let Some(cores) = history.average(now, window).full() {
                prop_assert!(cores.value().is_finite() && (0.0..=32.001).contains(&cores.value()));
            }
        }
    }
    prop_assert!(table.nodes.len() <= 2 && table.vms.len() <= 1);
    store.take_back(table);
    Ok(())
}

proptest! {
    #[test]
    fn random_bytes_are_refused_or_judged(messages in vec(vec(any::<u8>(), 0..200), 0..8)) {
        let mut store = store();
        let stream = store.open_stream(&node("a"));
        for bytes in messages {
            if let Ok(sample) = NodeSample::decode(bytes.as_slice()) {
                store.accept(stream, &node("a"), &sample, START);
            }
        }
        assert_sound(&mut store, START)?;
    }

    #[test]
    fn random_samples_are_judged(samples in vec((any_sample(), -4_000..4_000_i64, any::<bool>()), 0..12)) {
        let mut store = store();
        let mut stream = store.open_stream(&node("a"));
        let mut now = START;
        for (sample, step, reconnects) in samples {
            now = Timestamp::from_millis(now.millis() + step);
            if reconnects {
                stream = store.open_stream(&node("a"));
            }
            let verdict = store.accept(stream, &node("a"), &sample, now);
            prop_assert!(verdict.refusals().count() <= 8);
            prop_assert!(verdict.refusals().all(|refusal| refusal.to_string().len() < 1_000));
            prop_assert!(store.problems(now).len() <= 1);
        }
        assert_sound(&mut store, now)?;
    }

    #[test]
    fn damaged_samples_are_refused_or_judged(at_byte in 0_usize..150, flip in 1_u8.., cpu in figure()) {
        let mut bytes = sample(1, START, cpu, 1.0).encode_to_vec();
        let length = bytes.len();
        bytes[at_byte % length] ^= flip;
        let mut store = store();
        let stream = store.open_stream(&node("a"));
        if let Ok(sample) = NodeSample::decode(bytes.as_slice()) {
            store.accept(stream, &node("a"), &sample, START);
        }
        assert_sound(&mut store, START)?;
    }
}
