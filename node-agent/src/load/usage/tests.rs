//! Counters of all kinds, and what comes out.

use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn counters(cpu_nanos: u64) -> Counters {
    Counters {
        cpu: Cpu::Nanos(cpu_nanos),
        memory: Some(1 << 20),
        network: Some(vec![("eth0".into(), Traffic { inward: 1000, outward: 2000 })]),
        disk: Some(Traffic { inward: 100, outward: 200 }),
        waits: Some(Waits::OfTasks(vec![(7, 1_000_000_000)])),
        throttled: Some(0),
        pressure: Pressure { cpu: Some(10), memory: Some(20), io: Some(30) },
    }
}

#[test]
fn what_grew_was_used() {
    let before = counters(5_000_000_000);
    let mut after = counters(6_000_000_000);
    after.network = Some(vec![("eth0".into(), Traffic { inward: 2000, outward: 5000 })]);
    after.disk = Some(Traffic { inward: 100, outward: 1200 });
    after.waits = Some(Waits::OfTasks(vec![(7, 1_500_000_000)]));
    after.pressure.memory = Some(1_000_020);
    let usage = usage(&before, &after, SECOND * 2, 4).unwrap();
    assert_eq!(
        usage,
        Usage {
            cpu_cores: 0.5,
            memory_bytes: Some(1 << 20),
            network_receive_bytes_per_second: Some(500.0),
            network_transmit_bytes_per_second: Some(1500.0),
            disk_read_bytes_per_second: Some(0.0),
            disk_write_bytes_per_second: Some(500.0),
            cpu_wait_cores: Some(0.25),
            cpu_pressure: Some(0.0),
            memory_pressure: Some(0.5),
            io_pressure: Some(0.0),
        }
    );
}

#[test]
fn a_counter_that_went_back_takes_its_own_figure_away_and_that_of_the_cpu_takes_all() {
    let before = counters(1_000_000_000);
    assert_eq!(usage(&before, &counters(999_999_999), SECOND, 4), None);
    let mut after = counters(1_000_000_000);
    after.network = Some(vec![("eth0".into(), Traffic { inward: 999, outward: 3000 })]);
    after.disk = Some(Traffic { inward: 0, outward: 300 });
    after.waits = Some(Waits::OfTasks(vec![(7, 1)]));
    let usage = usage(&before, &after, SECOND, 4).unwrap();
    assert_eq!((usage.network_receive_bytes_per_second, usage.network_transmit_bytes_per_second), (None, None));
    assert_eq!((usage.disk_read_bytes_per_second, usage.disk_write_bytes_per_second), (None, None));
    assert_eq!(usage.cpu_wait_cores, Some(0.0), "PSI is left, and says so");
}

#[test]
fn interfaces_and_tasks_that_come_and_go_do_not_count_at_once() {
    let before = counters(0);
    let mut after = counters(0);
    after.network = Some(vec![("net1".into(), Traffic { inward: 1 << 40, outward: 1 << 40 })]);
    after.waits = Some(Waits::OfTasks(vec![(8, 1 << 40)]));
    let usage = usage(&before, &after, SECOND, 4).unwrap();
    assert_eq!((usage.network_receive_bytes_per_second, usage.cpu_wait_cores), (Some(0.0), Some(0.0)));
}

#[test]
fn more_cpu_than_the_machine_has_is_no_measurement() {
    assert!(usage(&counters(0), &counters(4_900_000_000), SECOND, 4).is_some());
    assert_eq!(usage(&counters(0), &counters(5_100_000_000), SECOND, 4), None);
    assert_eq!(usage(&counters(0), &counters(1), Duration::ZERO, 4), None);
}

#[test]
fn without_waiting_tasks_the_quota_and_psi_say_how_much_it_was_at_least() {
    let mut before = counters(0);
    before.waits = None;
    let mut after = before.clone();
    (after.throttled, after.pressure.cpu) = (Some(700_000_000), Some(300_010));
    assert_eq!(usage(&before, &after, SECOND, 4).unwrap().cpu_wait_cores, Some(0.7));
    (before.throttled, after.pressure.cpu) = (None, None);
    assert_eq!(usage(&before, &after, SECOND, 4).unwrap().cpu_wait_cores, None);
}

fn any_counters() -> impl Strategy<Value = Counters> {
    let traffic = || (any::<u64>(), any::<u64>()).prop_map(|(inward, outward)| Traffic { inward, outward });
    let cpu = prop_oneof![
        any::<u64>().prop_map(Cpu::Nanos),
        (any::<u64>(), any::<u64>(), 1..512_u32).prop_map(|(busy, all, cpus)| Cpu::Ticks(CpuTicks { busy, all, cpus })),
    ];
    let network = proptest::collection::vec((prop_oneof![Just("eth0".into()), Just("net1".into())], traffic()), 0..3);
    let waits = prop_oneof![
        any::<u64>().prop_map(Waits::OfAll),
        proptest::collection::vec((1..4_u32, any::<u64>()), 0..4).prop_map(Waits::OfTasks),
    ];
    let pressure = (any::<Option<u64>>(), any::<Option<u64>>(), any::<Option<u64>>())
        .prop_map(|(cpu, memory, io)| Pressure { cpu, memory, io });
    let (network, disk) = (proptest::option::of(network), proptest::option::of(traffic()));
    let waits = proptest::option::of(waits);
    (cpu, any::<Option<u64>>(), network, disk, waits, any::<Option<u64>>(), pressure).prop_map(
        |(cpu, memory, network, disk, waits, throttled, pressure)| Counters {
            cpu,
            memory,
            network,
            disk,
            waits,
            throttled,
            pressure,
        },
    )
}

proptest! {
    #[test]
    fn whatever_the_counters_every_figure_is_a_number_that_can_be(
        before in any_counters(), after in any_counters(), millis in 0..10_000_u64, cpus in 1..1024_u32,
    ) {
        let Some(usage) = usage(&before, &after, Duration::from_millis(millis), cpus) else { return Ok(()) };
        prop_assert!(usage.cpu_cores.is_finite() && (0.0..=f64::from(cpus) * MOST_TIMES_MACHINE).contains(&usage.cpu_cores));
        let figures = [
            usage.network_receive_bytes_per_second, usage.network_transmit_bytes_per_second,
            usage.disk_read_bytes_per_second, usage.disk_write_bytes_per_second, usage.cpu_wait_cores,
        ];
        for figure in figures.into_iter().flatten() {
            prop_assert!(figure.is_finite() && figure >= 0.0, "{usage:?}");
        }
        for share in [usage.cpu_pressure, usage.memory_pressure, usage.io_pressure].into_iter().flatten() {
            prop_assert!((0.0..=1.0).contains(&share), "{usage:?}");
        }
    }

    #[test]
    fn usage_times_time_is_what_the_counters_grew_by(nanos in 0..4_000_000_000_u64, bytes in 0..1_u64 << 40) {
        let before = counters(17);
        let mut after = counters(17 + nanos);
        after.disk = Some(Traffic { inward: 100 + bytes, outward: 200 });
        let usage = usage(&before, &after, SECOND * 2, 4).unwrap();
        prop_assert!((usage.cpu_cores * 2e9 - nanos as f64).abs() < 1.0);
        prop_assert!((usage.disk_read_bytes_per_second.unwrap() * 2.0 - bytes as f64).abs() < 1.0);
    }
}
