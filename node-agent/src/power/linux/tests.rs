//! The real files' shapes, as fixtures.

use super::*;
use crate::power::{
    preflight::{NetworkCard, Obstacle, Process, WakeSource, obstacles_to_s3},
    sleep::{SleepError, sleep},
};
use std::{collections::BTreeMap, fs};
use tempfile::TempDir;

fn write(root: &TempDir, file: &str, text: &str) {
    let path = root.path().join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn read(root: &TempDir, file: &str) -> String {
    fs::read_to_string(root.path().join(file)).unwrap()
}

/// A machine that can sleep, with `s2idle` chosen.
fn machine() -> (TempDir, LinuxHost) {
    let root = tempfile::tempdir().unwrap();
    for (file, text) in [
        ("proc/1/cmdline", "/sbin/init\0"),
        ("proc/self-is-no-number/cmdline", "qemu-kvm\0"),
        ("proc/sys/kernel/random/boot_id", "1f2e\n"),
        ("sys/power/state", "freeze mem disk\n"),
        ("sys/power/mem_sleep", "s2idle [deep]\n"),
        ("sys/power/pm_test", "[none] core processors platform devices freezer\n"),
        ("sys/power/wakeup_count", "7\n"),
        ("sys/class/rtc/rtc0/wakealarm", ""),
        ("sys/class/rtc/rtc0/since_epoch", "1000\n"),
        ("sys/class/rtc/rtc0/device/power/wakeup", "enabled\n"),
        ("sys/class/net/lo/type", "772\n"),
        ("sys/class/net/eno1/device/power/wakeup", "disabled\n"),
        ("sys/class/net/eno2/device/power/wakeup", "\n"),
    ] {
        write(&root, file, text);
    }
    let host = LinuxHost::new(root.path(), KubeletProbe { address: None, network: None });
    (root, host)
}

#[test]
fn a_machine_that_can_sleep_is_read_as_one() {
    let (_root, host) = machine();
    let facts = host.facts().unwrap();
    assert_eq!(obstacles_to_s3(&facts, WakeSource::Controller), []);
    assert_eq!(facts.network_cards, [NetworkCard { interface: "eno1".into(), armed: false }]);
    assert_eq!(facts.pm_test.as_deref(), Some("none"));
    assert_eq!(host.machine().unwrap().boot_id, "1f2e");
}

#[test]
fn what_is_missing_is_an_obstacle_and_no_error() {
    let root = tempfile::tempdir().unwrap();
    write(&root, "proc/17/cmdline", "/usr/libexec/qemu-kvm\0-name\0");
    let host = LinuxHost::new(root.path(), KubeletProbe { address: None, network: None });
    let facts = host.facts().unwrap();
    assert_eq!(facts.qemu, [Process { pid: 17, program: "qemu-kvm".into() }]);
    let reasons: Vec<_> = obstacles_to_s3(&facts, WakeSource::NetworkCard).iter().map(Obstacle::reason).collect();
    assert_eq!(reasons, ["QemuRuns", "NoSuspend", "NotPrivileged", "NoAlarm", "NoWakeOnLan"]);
}

#[test]
fn processes_that_cannot_be_listed_are_an_error_that_names_the_folder() {
    let root = tempfile::tempdir().unwrap();
    let host = LinuxHost::new(root.path(), KubeletProbe { address: None, network: None });
    let error = host.facts().unwrap_err().in_full();
    assert!(error.contains("proc"), "{error}");
}

#[test]
fn the_alarm_goes_by_the_clocks_own_time() {
    let (root, host) = machine();
    host.set_alarm(Duration::from_secs(60)).unwrap();
    assert_eq!(read(&root, "sys/class/rtc/rtc0/wakealarm"), "1060");
    assert!(!host.clear_alarm().unwrap(), "it has not gone off");
    assert_eq!(read(&root, "sys/class/rtc/rtc0/wakealarm"), "0");
    // The kernel empties the file when the alarm goes off; some do so a little later.
    write(&root, "sys/class/rtc/rtc0/wakealarm", "\n");
    assert!(host.clear_alarm().unwrap());
    write(&root, "sys/class/rtc/rtc0/wakealarm", "1000\n");
    assert!(host.clear_alarm().unwrap());
}

/// As on boards whose `rtc0` is a chip without an interrupt line, and where the processor's own clock comes second.
#[test]
fn the_clock_that_can_wake_the_machine_is_used_whatever_its_number() {
    let (root, host) = machine();
    fs::remove_file(root.path().join("sys/class/rtc/rtc0/wakealarm")).unwrap();
    write(&root, "sys/class/rtc/rtc0/since_epoch", "5\n");
    assert_eq!(host.facts().unwrap().alarm, Alarm::Missing);
    for (clock, may_wake) in [("rtc1", None), ("rtc2", Some("disabled\n")), ("rtc10", Some("enabled\n"))] {
        write(&root, &format!("sys/class/rtc/{clock}/wakealarm"), "");
        write(&root, &format!("sys/class/rtc/{clock}/since_epoch"), "1000\n");
        if let Some(may_wake) = may_wake {
            write(&root, &format!("sys/class/rtc/{clock}/device/power/wakeup"), may_wake);
        }
        assert_eq!(host.facts().unwrap().alarm, if clock == "rtc10" { Alarm::Armed } else { Alarm::MayNotWake });
    }
    host.set_alarm(Duration::from_secs(60)).unwrap();
    assert_eq!(read(&root, "sys/class/rtc/rtc10/wakealarm"), "1060");
    assert!(!host.clear_alarm().unwrap());
    assert_eq!(read(&root, "sys/class/rtc/rtc10/wakealarm"), "0");
    fs::remove_dir_all(root.path().join("sys/class/rtc/rtc10")).unwrap();
    host.set_alarm(Duration::from_secs(60)).unwrap();
    assert_eq!(read(&root, "sys/class/rtc/rtc2/wakealarm"), "1060");
    assert_eq!(read(&root, "sys/class/rtc/rtc2/device/power/wakeup"), "enabled");
    assert_eq!(read(&root, "sys/class/rtc/rtc1/wakealarm"), "");
}

#[test]
fn a_clock_that_may_not_wake_is_allowed_to() {
    let (root, host) = machine();
    write(&root, "sys/class/rtc/rtc0/device/power/wakeup", "disabled\n");
    assert_eq!(host.facts().unwrap().alarm, Alarm::MayNotWake);
    host.set_alarm(Duration::from_secs(60)).unwrap();
    assert_eq!(read(&root, "sys/class/rtc/rtc0/device/power/wakeup"), "enabled");
}

#[test]
fn deep_is_chosen_and_the_choice_is_checked() {
    let (root, host) = machine();
    host.choose_deep().unwrap();
    write(&root, "sys/power/mem_sleep", "[s2idle] deep\n");
    // A plain file does not put brackets around what is written.
    let error = host.choose_deep().unwrap_err().in_full();
    assert!(error.contains("mem_sleep") && error.contains("[deep]"), "{error}");
}

#[test]
fn numbers_that_are_none_are_errors_that_quote_them() {
    let (root, host) = machine();
    write(&root, "sys/class/rtc/rtc0/since_epoch", "soon\n");
    let error = host.set_alarm(Duration::from_secs(60)).unwrap_err().to_string();
    assert!(error.contains("since_epoch") && error.contains("soon"), "{error}");
}

#[test]
fn the_interrupt_that_woke_it_is_named_with_its_device() {
    let (root, host) = machine();
    assert_eq!(host.wake_source(), None);
    write(&root, "sys/power/pm_wakeup_irq", "9\n");
    assert_eq!(host.wake_source().as_deref(), Some("interrupt 9"));
    write(&root, "sys/kernel/irq/9/actions", "acpi\n");
    assert_eq!(host.wake_source().as_deref(), Some("interrupt 9, acpi"));
}

#[test]
fn devices_that_may_wake_it_are_counted_by_name() {
    let (root, host) = machine();
    assert_eq!(host.wakeup_events(), BTreeMap::new());
    for (device, name, count) in [
        ("wakeup0", "LNXPWRBN:00\n", "2\n"),
        ("wakeup3", "0000:00:14.0\n", "7\n"),
        ("wakeup4", "", "1\n"),
        ("wakeup5", "odd\n", "many\n"),
    ] {
        write(&root, &format!("sys/class/wakeup/{device}/name"), name);
        write(&root, &format!("sys/class/wakeup/{device}/event_count"), count);
    }
    let expected =
        [("0000:00:14.0", 7), ("LNXPWRBN:00", 2), ("wakeup4", 1)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!(host.wakeup_events(), expected.into());
}

#[tokio::test]
async fn a_file_that_takes_mem_and_does_nothing_is_no_sleep() {
    let (root, host) = machine();
    let error = sleep(&host, Duration::from_secs(60), || Ok(())).await.unwrap_err();
    assert!(matches!(error, SleepError::DidNotSleep { .. }) && error.is_failure(), "{error}");
    assert_eq!(read(&root, "sys/power/state"), "mem");
    assert_eq!(read(&root, "sys/power/wakeup_count"), "7", "read and written back");
    assert_eq!(read(&root, "sys/class/rtc/rtc0/wakealarm"), "0", "the alarm is taken back");
}

#[tokio::test]
async fn a_change_of_mind_leaves_the_machine_alone() {
    let (root, host) = machine();
    let given_up = || Err(SleepError::GivenUp("the order is 11 s old".into()));
    let error = sleep(&host, Duration::from_secs(60), given_up).await.unwrap_err();
    assert!(!error.is_failure(), "{error}");
    assert_eq!(read(&root, "sys/power/state"), "freeze mem disk\n");
    assert_eq!(read(&root, "sys/class/rtc/rtc0/wakealarm"), "0");
}
