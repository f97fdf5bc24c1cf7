//! One day as it is told.

use super::super::summary::rounded;
use super::sums::Sums;
use miyako_core::energy::Account;
use serde::Serialize;
use std::fmt;

/// What a planner drew.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Drawn {
    kilowatt_hours: f64,
    /// What sleeping saved, as a share of what the same nodes would have drawn awake.
    saved_percent: f64,
}

impl Drawn {
    fn of(account: &Account) -> Self {
        let never = account.never_sleeping.value();
        Self {
            kilowatt_hours: rounded(account.used.value() / 3.6e6),
            saved_percent: rounded(100.0 * account.saved() / never.max(1.0)),
        }
    }
}

/// The VM that fared worst.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct WorstVm {
    vm: String,
    /// The share of the CPU it wanted that it got.
    percent: f64,
}

/// One day as it is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Day {
    /// Its number, from 1.
    day: String,
    hours: f64,
    #[serde(flatten)]
    drawn: Drawn,
    /// A planner that knows each VM's peak in the coming hour and packs anew each hour.
    hourly_oracle: Drawn,
    /// A planner that packs anew each second.
    second_oracle: Drawn,
    /// What the nodes would have drawn, had none slept.
    all_awake_kilowatt_hours: f64,
    /// CPU that VMs wanted and did not get, anywhere.
    missing_core_hours: f64,
    /// Seconds of VMs on shared nodes in which the VM got less CPU than it wanted.
    starved_vm_seconds: u64,
    starved_percent: f64,
    /// Seconds of shared nodes at 90 % or more, in stretches of more than 20.
    hot_node_seconds: u64,
    hot_percent: f64,
    worst_vm: Option<WorstVm>,
    moves: u64,
}

impl Day {
    pub(super) fn of(day: String, sums: &Sums) -> Self {
        let percent = |part: u64, all: u64| rounded(100.0 * part as f64 / all.max(1) as f64);
        let worst = |(vm, share): (&_, f64)| WorstVm { vm: format!("{vm}"), percent: rounded(100.0 * share) };
        Self {
            day,
            hours: rounded(sums.seconds as f64 / 3600.0),
            drawn: Drawn::of(&sums.drawn),
            hourly_oracle: Drawn::of(&sums.each_hour),
            second_oracle: Drawn::of(&sums.each_second),
            all_awake_kilowatt_hours: rounded(sums.drawn.never_sleeping.value() / 3.6e6),
            missing_core_hours: rounded(sums.missing / 3600.0),
            starved_vm_seconds: sums.starved_vm_seconds,
            starved_percent: percent(sums.starved_vm_seconds, sums.shared_vm_seconds),
            hot_node_seconds: sums.hot_node_seconds,
            hot_percent: percent(sums.hot_node_seconds, sums.shared_node_seconds),
            worst_vm: sums.worst_vm().map(|(vm, share)| worst((vm, share))),
            moves: sums.moves,
        }
    }

    /// The heads of the columns.
    pub(in super::super) const HEAD: &'static str = "Day   hours     kWh  saved  hourly oracle  second oracle  all awake  missing core-h  starved  >= 90 %  moves  worst VM";
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let oracle = |drawn: &Drawn| format!("{:.2} {:4.1} %", drawn.kilowatt_hours, drawn.saved_percent);
        write!(
            f,
            "{:<5} {:>5.1} {:>7.2} {:>4.1} % {:>14} {:>14} {:>10.2} {:>15.3} {:>6.2} % {:>6.2} % {:>6}  ",
            self.day,
            self.hours,
            self.drawn.kilowatt_hours,
            self.drawn.saved_percent,
            oracle(&self.hourly_oracle),
            oracle(&self.second_oracle),
            self.all_awake_kilowatt_hours,
            self.missing_core_hours,
            self.starved_percent,
            self.hot_percent,
            self.moves,
        )?;
        match &self.worst_vm {
            Some(worst) => write!(f, "{} {:.2} %", worst.vm, worst.percent),
            None => write!(f, "none"),
        }
    }
}
