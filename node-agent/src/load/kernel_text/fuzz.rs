//! Whatever the text is, no parser panics, and no figure is made up out of nothing.

use super::{cgroup, proc, task};
use proptest::prelude::*;

/// Text as the kernel might write it if half of it were lost, and arbitrary text.
fn texts() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just(String::new()),
        any::<u64>().prop_map(|number| number.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        "[a-z_]{1,12}",
        "[0-9]{18,24}",
        Just("cpu".to_owned()),
        Just("cpu0".to_owned()),
        Just("eth0:".to_owned()),
        Just("MemTotal:".to_owned()),
        Just("some".to_owned()),
        Just("total=".to_owned()),
        Just("8:0".to_owned()),
        Just("rbytes=18446744073709551615".to_owned()),
        Just("Read".to_owned()),
        Just("usage_usec".to_owned()),
    ];
    let separator = prop_oneof![Just(" "), Just("\n"), Just(":"), Just("\t"), Just("\0")];
    let built = proptest::collection::vec((word, separator), 0..48)
        .prop_map(|words| words.into_iter().map(|(word, separator)| word + separator).collect::<String>());
    prop_oneof![built, any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_makes_a_parser_panic(text in texts(), other in texts()) {
        let _ = proc::cpu_ticks(&text);
        let _ = proc::memory(&text);
        let _ = proc::interfaces(&text);
        let _ = proc::disks(&text);
        let _ = proc::run_delay(&text);
        let _ = cgroup::number(&text);
        let _ = cgroup::keyed(&text, "usage_usec");
        let _ = cgroup::cpu_max(&text);
        let _ = cgroup::cfs_quota(&text, &other);
        let _ = cgroup::io_stat(&text, |_| true);
        let _ = cgroup::io_service_bytes(&text, |_| true);
        let _ = cgroup::virtual_majors(&text);
        let _ = cgroup::pressure_some(&text);
        let _ = cgroup::processes(&text).count();
        let _ = (task::schedstat(&text), task::io(&text));
        let _ = (task::is_qemu(&text), task::is_vcpu(&text), task::is_migrating(&text));
    }

    #[test]
    fn a_quota_is_a_number_that_can_be_used(text in texts(), other in texts()) {
        for cores in [cgroup::cpu_max(&text), cgroup::cfs_quota(&text, &other)].into_iter().flatten() {
            prop_assert!(cores.is_finite() && cores >= 0.0);
        }
    }
}
