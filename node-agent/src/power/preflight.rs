//! What keeps a machine from suspending: facts, and the judgement over them.

use miyako_api::node_power_class::SuspendMethod;
use serde::Serialize;
use std::fmt;

/// What was found on the machine, as plain values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// QEMU processes: a guest would be frozen with its host.
    pub qemu: Vec<Process>,
    /// `/sys/power/state`: what the kernel can do at all.
    pub states: Vec<String>,
    /// `/sys/power/mem_sleep`: what `mem` can mean here.
    pub mem_sleep: Vec<String>,
    /// `/sys/power/pm_test`, where the kernel has it: anything but `none` only rehearses.
    pub pm_test: Option<String>,
    /// Whether the agent may write `/sys/power/state`.
    pub writable: bool,
    /// Whether logind can be asked to shut the machine down.
    pub logind: bool,
    /// The machine's clock, which wakes it when nobody else does.
    pub alarm: Alarm,
    /// Network cards that could wake the machine, and whether they are set to.
    pub network_cards: Vec<NetworkCard>,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Its id on the host.
    pub pid: u32,
    /// The name of its program.
    pub program: String,
}

/// What the machine's clock can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Alarm {
    /// There is no clock with an alarm.
    #[default]
    Missing,
    /// It has an alarm that may not wake the machine (`power/wakeup` is not `enabled`).
    MayNotWake,
    /// It can wake the machine.
    Armed,
}

/// A network card of the machine (not a bridge, tunnel or virtual port).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkCard {
    /// Its interface.
    pub interface: String,
    /// Set to wake the machine.
    pub armed: bool,
}

/// What the node must bring along to be woken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum WakeSource {
    /// A management controller (AMT, Redfish, IPMI) switches it on, whatever the host is set to.
    #[default]
    Controller,
    /// Wake-on-LAN: a network card must be set to wake the host.
    NetworkCard,
}

/// One thing that keeps the machine from suspending. Its text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// A VM runs here.
    Qemu {
        /// Its process.
        pid: u32,
        /// Its program.
        program: String,
    },
    /// The machine belongs to the control plane.
    ControlPlane {
        /// What says so: a label, a taint or a static pod.
        by: String,
    },
    /// A pod runs here that does not belong to its node alone.
    Pod {
        /// `namespace/name`.
        pod: String,
    },
    /// The kernel or the firmware has no suspend to RAM.
    NoSuspend {
        /// What it has.
        states: Vec<String>,
    },
    /// `mem` can't mean S3.
    NotDeep {
        /// What it can mean.
        mem_sleep: Vec<String>,
    },
    /// A rehearsal is set.
    Rehearsal {
        /// Of which stage.
        stage: String,
    },
    /// The agent may not.
    NotWritable,
    /// logind can't be asked.
    NoLogind,
    /// No alarm.
    NoAlarm,
    /// The alarm may not wake the machine.
    AlarmMayNotWake,
    /// No network card is set to wake the machine.
    NoCardArmed {
        /// Those that could be.
        interfaces: Vec<String>,
    },
}

impl Obstacle {
    /// A short name that stays the same from release to release.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Qemu { .. } => "QemuRuns",
            Self::ControlPlane { .. } => "ControlPlane",
            Self::Pod { .. } => "PodRuns",
            Self::NoSuspend { .. } => "NoSuspend",
            Self::NotDeep { .. } => "NoDeepSleep",
            Self::Rehearsal { .. } => "Rehearsal",
            Self::NotWritable => "NotPrivileged",
            Self::NoLogind => "NoLogind",
            Self::NoAlarm => "NoAlarm",
            Self::AlarmMayNotWake => "AlarmMayNotWake",
            Self::NoCardArmed { .. } => "NoWakeOnLan",
        }
    }

    /// It is the machine's own and will not pass with what runs on it.
    #[must_use]
    pub fn lasts(&self) -> bool {
        !matches!(self, Self::Qemu { .. } | Self::Pod { .. })
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Qemu { pid, program } => {
                write!(f, "a VM runs here ({program}, process {pid}): move it away or stop it first")
            }
            Self::ControlPlane { by } => write!(
                f,
                "this is a control-plane node ({by}), which never sleeps: leave it out of the NodePowerClass's nodeSelector"
            ),
            Self::Pod { pod } => write!(f, "pod {pod} runs here and belongs to no DaemonSet: drain the node first"),
            Self::NoSuspend { states } => write!(
                f,
                "the kernel offers no suspend to RAM (/sys/power/state lists {}): switch S3 on in the firmware's setup, or use the class's method PowerOff",
                listed(states)
            ),
            Self::NotDeep { mem_sleep } => write!(
                f,
                "suspend to RAM is not S3 here (/sys/power/mem_sleep lists {} and no deep): switch S3 on in the firmware's setup, often instead of \"modern standby\"",
                listed(mem_sleep)
            ),
            Self::Rehearsal { stage } => write!(
                f,
                "/sys/power/pm_test is set to {stage}, so that suspends are only rehearsed: write none into it"
            ),
            Self::NotWritable => f.write_str(
                "this agent may not write /sys/power/state: it must run as root with the host's /sys writable (a privileged container)",
            ),
            Self::NoLogind => f.write_str(
                "this agent finds no logind to shut the machine down with: mount the host's /run/dbus into it, and run systemd-logind",
            ),
            Self::NoAlarm => f.write_str(
                "the machine has no clock with an alarm (/sys/class/rtc/rtc*/wakealarm), so it might never wake: load the driver of its clock (rtc_cmos)",
            ),
            Self::AlarmMayNotWake => f.write_str(
                "the machine's clock may not wake it: write enabled into /sys/class/rtc/rtc*/device/power/wakeup, and allow wake-ups by RTC in the firmware's setup",
            ),
            Self::NoCardArmed { interfaces } if interfaces.is_empty() => f.write_str(
                "no network card of this machine can wake it, and it is to be woken by Wake-on-LAN: use a wake driver of its management controller instead",
            ),
            Self::NoCardArmed { interfaces } => write!(
                f,
                "no network card is set to wake this machine: run `ethtool -s INTERFACE wol g` for one of {}, and make it last (WakeOnLan=magic in a systemd .link file)",
                listed(interfaces)
            ),
        }
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// What stands in the way of S3, in the order in which a person would look at it.
#[must_use]
pub fn obstacles_to_s3(facts: &Facts, wake_source: WakeSource) -> Vec<Obstacle> {
    let mut found = vms(facts);
    if !facts.states.iter().any(|state| state == "mem") {
        found.push(Obstacle::NoSuspend { states: facts.states.clone() });
    } else if !facts.mem_sleep.iter().any(|kind| kind == "deep") {
        found.push(Obstacle::NotDeep { mem_sleep: facts.mem_sleep.clone() });
    }
    if let Some(stage) = facts.pm_test.as_ref().filter(|stage| *stage != "none") {
        found.push(Obstacle::Rehearsal { stage: stage.clone() });
    }
    if !facts.writable {
        found.push(Obstacle::NotWritable);
    }
    match facts.alarm {
        Alarm::Missing => found.push(Obstacle::NoAlarm),
        Alarm::MayNotWake => found.push(Obstacle::AlarmMayNotWake),
        Alarm::Armed => {}
    }
    if wake_source == WakeSource::NetworkCard && !facts.network_cards.iter().any(|card| card.armed) {
        let interfaces = facts.network_cards.iter().map(|card| card.interface.clone()).collect();
        found.push(Obstacle::NoCardArmed { interfaces });
    }
    found
}

/// What stands in the way of an orderly shutdown. What its clock can do is no obstacle: its BMC switches it on.
#[must_use]
pub fn obstacles_to_power_off(facts: &Facts) -> Vec<Obstacle> {
    let mut found = vms(facts);
    if !facts.logind {
        found.push(Obstacle::NoLogind);
    }
    found
}

/// What stands in the way of a method.
#[must_use]
pub fn obstacles_to(method: SuspendMethod, facts: &Facts, wake_source: WakeSource) -> Vec<Obstacle> {
    match method {
        SuspendMethod::S3 => obstacles_to_s3(facts, wake_source),
        SuspendMethod::PowerOff => obstacles_to_power_off(facts),
    }
}

/// VMs that run here, which neither way may take along.
#[must_use]
pub fn vms(facts: &Facts) -> Vec<Obstacle> {
    let running = |process: &Process| Obstacle::Qemu { pid: process.pid, program: process.program.clone() };
    facts.qemu.iter().map(running).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn able() -> Facts {
        Facts {
            states: vec!["freeze".into(), "mem".into()],
            mem_sleep: vec!["s2idle".into(), "deep".into()],
            pm_test: Some("none".into()),
            writable: true,
            alarm: Alarm::Armed,
            network_cards: vec![NetworkCard { interface: "eno1".into(), armed: false }],
            ..Facts::default()
        }
    }

    #[test]
    fn a_machine_that_can_has_no_obstacle() {
        assert_eq!(obstacles_to_s3(&able(), WakeSource::Controller), []);
    }

    #[test]
    fn each_fact_that_stands_in_the_way_is_named_alone() {
        type Damage = fn(&mut Facts);
        let cases: &[(&str, Damage)] = &[
            ("QemuRuns", |facts| facts.qemu.push(Process { pid: 4, program: "qemu-system-x86_64".into() })),
            ("NoSuspend", |facts| facts.states = vec!["freeze".into()]),
            ("NoSuspend", |facts| facts.states.clear()),
            ("NoDeepSleep", |facts| facts.mem_sleep = vec!["s2idle".into()]),
            ("Rehearsal", |facts| facts.pm_test = Some("devices".into())),
            ("NotPrivileged", |facts| facts.writable = false),
            ("NoAlarm", |facts| facts.alarm = Alarm::Missing),
            ("AlarmMayNotWake", |facts| facts.alarm = Alarm::MayNotWake),
        ];
        for (reason, damage) in cases {
            let mut facts = able();
            damage(&mut facts);
            let found = obstacles_to_s3(&facts, WakeSource::Controller);
            assert_eq!(found.iter().map(Obstacle::reason).collect::<Vec<_>>(), [*reason]);
            assert!(found[0].to_string().contains(':'), "says what to do: {}", found[0]);
        }
    }

    #[test]
    fn wake_on_lan_needs_a_card_that_is_armed() {
        let mut facts = able();
        let why = obstacles_to_s3(&facts, WakeSource::NetworkCard);
        assert!(why[0].to_string().contains("eno1"), "{}", why[0]);
        facts.network_cards[0].armed = true;
        assert_eq!(obstacles_to_s3(&facts, WakeSource::NetworkCard), []);
    }

    #[test]
    fn a_shutdown_needs_logind_and_no_vms_and_nothing_of_what_s3_needs() {
        let mut facts = Facts { logind: true, ..Facts::default() };
        assert_eq!(obstacles_to_power_off(&facts), []);
        facts.qemu.push(Process { pid: 4, program: "qemu-kvm".into() });
        facts.logind = false;
        let found = obstacles_to_power_off(&facts);
        assert_eq!(found.iter().map(Obstacle::reason).collect::<Vec<_>>(), ["QemuRuns", "NoLogind"]);
        assert!(found[1].lasts() && found[1].to_string().contains("/run/dbus"));
    }
}
