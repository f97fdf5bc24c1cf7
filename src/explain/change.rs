//! What would change a verdict, for each of its reasons.

use miyako_core::model::VmActivity;
use miyako_core::plan::{Gate, NodeVerdict, StayReason};

/// What would make a VM move that stays for this reason.
pub(crate) fn of_stay(reason: &StayReason) -> String {
    match reason {
        StayReason::NodeNotRuled => {
            "let a NodePowerClass select its node, and name that class in spec.nodeClasses of a ConsolidationPolicy".into()
        }
        StayReason::NotSelected => "widen spec.virtualMachines of the policy, or label the VM or its namespace".into(),
        StayReason::NoNode => "it must run first: see its VirtualMachineInstance and its launcher pod".into(),
        StayReason::NodeNotUsable => {
            "its node must be awake and Ready, with virt-handler ready on it: `miyako explain node` tells more".into()
        }
        StayReason::Busy { activity } => match activity {
            VmActivity::Migrating => "nothing to do: it is looked at again when the migration is over",
            VmActivity::MigrationVanished => {
                "nothing to do: status.migrationState of the VMI tells of a migration whose object is gone; if it still \
                 does in a minute, the VM may be moved again"
            }
            VmActivity::Evacuating => {
                "it is looked at again when it has left its node; where its node is no longer drained, \
                 `virtctl evacuate-cancel vm` takes the mark status.evacuationNodeName away"
            }
            VmActivity::Paused => "resume the VM (virtctl unpause)",
            VmActivity::Stopping => "nothing: it is going away",
            VmActivity::OldLauncherLeaving => "nothing to do: it is looked at again when its old launcher pod has gone",
            _ => "nothing to do: it is looked at again when that is over",
        }
        .into(),
        StayReason::NotMigratable { .. } => "its condition LiveMigratable must become True: KubeVirt's message says what hinders it".into(),
        StayReason::OptedOut => "remove miyako.dev/consolidate from the VM".into(),
        StayReason::PrefersNoEviction => "remove descheduler.alpha.kubernetes.io/prefer-no-eviction from the VM".into(),
        StayReason::HostDevice => "a VM with a host device stays: only without the device can it be moved".into(),
        StayReason::Unsupported { field } => format!("remove or rewrite {field}: whether another node suits it can't be judged with it"),
        StayReason::Settling { until } => format!("time: it may move again after {until} (spec.thresholds.settle of the policy)"),
        StayReason::BackingOff { until, .. } => {
            format!("time: it is tried again after {until}; the failed plans below say why moves failed")
        }
        StayReason::BudgetSpent { .. } => "time, or a higher budget per VM and day in the policy's spec.budgets".into(),
        StayReason::ModeIgnored { .. } => {
            "time: it is tried again after a day; compare the MigrationPolicies in the cluster, of which KubeVirt takes the one that matches with the most labels".into()
        }
        StayReason::LoadUnknown { .. } => "its load must be known for the whole window: the policy's condition LoadKnown says what is missing".into(),
        StayReason::NodeCalm => "it moves when its node stays overloaded over the policy's window and no movable VM there uses more CPU".into(),
        StayReason::NotFirst { .. } => "it is next if its node is still overloaded after that move".into(),
        StayReason::NodeSettling => "time: the node's load is measured anew over the policy's window first".into(),
        StayReason::Active { .. } => "it returns to a shared node when its load stays below the policy's idle threshold and one has room".into(),
        StayReason::ReliefKept { .. } => {
            "time: it returns when its moves of the day leave one for the way back to cores of its own; or a higher spec.budgets.movesPerVMPerDay of the policy".into()
        }
        StayReason::HistoryShort { have, want } => format!(
            "time: it is known well enough in {} minutes (spec.thresholds.admissionWindow of the policy)",
            want.saturating_sub(*have).div_ceil(60)
        ),
        StayReason::NoRoom { .. } => "it moves as soon as one of the nodes has room: add a node to the policy's classes, or free one".into(),
        StayReason::WaitsForWake { node } => format!("it moves when {node} is awake and usable"),
        StayReason::WaitsForNode { node } => format!("it moves when a migration from or to {node} is over"),
        StayReason::WaitsForSlot => {
            "it moves when another migration is over: KubeVirt's limit (parallelMigrationsPerCluster) less what spec.budgets leaves to others".into()
        }
        StayReason::Gated { gate } => of_gate(gate),
        StayReason::NoRelief => "it moves only if it uses more CPU: moving other VMs relieves the node".into(),
    }
}

/// What would let a policy act again.
pub(crate) fn of_gate(gate: &Gate) -> String {
    match gate {
        Gate::Off => "set spec.mode of the policy to Recommend or Automatic".into(),
        Gate::Invalid { .. } => {
            "correct the policy as its condition Ready says; `miyako lint` judges it offline".into()
        }
        Gate::Paused { .. } => "`miyako resume`".into(),
        Gate::Held { .. } => "`miyako resume`, or the end of what spec.holdWhen names".into(),
        Gate::OutsideSchedule { opens: Some(opens) } => format!("time: its next schedule opens at {opens}"),
        Gate::OutsideSchedule { opens: None } => "another schedule in spec.schedules: none of them opens again".into(),
        Gate::Incomplete { .. } => {
            "the operator must see the whole cluster: check its rights and the API server".into()
        }
        Gate::KubeVirt { .. } => "a deployed KubeVirt of version 1.6 or later".into(),
        Gate::Backup { .. } => "nothing to do: it goes on when the backup is over, or has taken too long".into(),
        Gate::RollingOut { .. } => "nothing to do: it goes on when the rollout of KubeVirt is over".into(),
        Gate::EvacuationsWaiting { .. } => {
            "nothing to do: it goes on when KubeVirt's evacuations have their slots".into()
        }
        Gate::Rival { .. } => "let the descheduler leave these VMs alone, or set spec.mode to Recommend".into(),
        Gate::HourSpent { .. } => "time, or a higher budget per hour in the policy's spec.budgets".into(),
    }
}

/// What a node's verdict says, and what would change it.
pub(crate) fn of_node(verdict: &NodeVerdict) -> (&'static str, String, Option<&'static str>) {
    match verdict {
        NodeVerdict::NoClass => (
            "NoClass",
            "No NodePowerClass selects it, so nothing is done here.".into(),
            Some("label it as the nodeSelector of a class says"),
        ),
        NodeVerdict::Ambiguous { classes } => {
            let classes: Vec<String> = classes.iter().map(ToString::to_string).collect();
            (
                "Ambiguous",
                format!("The classes {} all select it, so none of them rules it.", classes.join(" and ")),
                Some("let exactly one of the classes select it"),
            )
        }
        NodeVerdict::NoPolicy => (
            "NoPolicy",
            "No ConsolidationPolicy that is valid and not Off has its class.".into(),
            Some("name its class in spec.nodeClasses of a policy"),
        ),
        NodeVerdict::NotUsable => (
            "NotUsable",
            "It is not usable now: not Ready, not awake, or without a ready virt-handler.".into(),
            Some("see its power state above, its condition Ready and virt-handler's pod on it"),
        ),
        NodeVerdict::Dedicated => {
            ("Dedicated", "It has a core for each vCPU of its VMs, which are looked at one by one.".into(), None)
        }
        NodeVerdict::LoadUnknown => (
            "LoadUnknown",
            "Its load is not known well enough to act.".into(),
            Some("its load must be known for the whole window: the policy's condition LoadKnown says what is missing"),
        ),
        NodeVerdict::Calm { load } => (
            "Calm",
            format!("At {load} it is below its overload threshold."),
            Some("a VM leaves when its load stays at the threshold over the policy's window"),
        ),
        NodeVerdict::Settling { load } => (
            "Settling",
            format!("At {load} it is overloaded; what was done about it must show before more is done."),
            Some("time: its load is measured anew over the policy's window first"),
        ),
        NodeVerdict::Relieving { load } => (
            "Relieving",
            format!("At {load} it is overloaded, and as many VMs as may be at once are on their way, or wait to be."),
            Some("nothing to do: it is looked at again when a migration is over"),
        ),
        NodeVerdict::Relieved { load, vm } => {
            ("Relieved", format!("At {load} it is overloaded, and {vm} is moved away."), None)
        }
        NodeVerdict::Stuck { load } => (
            "Stuck",
            format!("At {load} it is overloaded, and no VM on it can be moved."),
            Some("see with `miyako explain vm` what keeps each of its VMs"),
        ),
    }
}
