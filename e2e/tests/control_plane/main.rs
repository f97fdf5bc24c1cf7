//! End-to-end scenarios on a real Kubernetes control plane (`miyako_e2e::control_plane`). They run one after the other
//! on one stand; `cargo test --workspace --test control_plane moves::` runs one file's.

mod admission;
mod approval;
mod charts;
mod conformance;
mod crds;
mod failures;
mod fit;
mod gitops;
mod kubevirt;
mod leftovers;
mod moves;
mod nodes;
mod orders;
mod power;
mod prometheus;
mod restless;
mod sleep;
mod verdicts;
mod ways_in;
mod world;

use miyako_e2e::driver::{Scenario, run};
use std::path::Path;
use std::process::ExitCode;

/// Scenarios by the paths of their functions; after `long:` those that only run when they are asked for.
macro_rules! scenarios {
    ($($path:path),* ; long: $($long:path),* $(,)?) => {
        vec![$(Scenario::new(stringify!($path), $path),)* $(Scenario::new(stringify!($long), $long).long()),*]
    };
}

fn main() -> ExitCode {
    if let Some(folder) = std::env::var_os(leftovers::KILLED_RUN) {
        return leftovers::be_killed(&folder);
    }
    run(
        Path::new(env!("CARGO_TARGET_TMPDIR")),
        scenarios![
            crds::kubevirts_are_served,
            crds::ours_are_served,
            conformance::the_simulated_api_server_conforms,
            verdicts::good_resources_are_taken,
            verdicts::bad_resources_are_refused,
            verdicts::lint_says_the_same,
            gitops::applying_again_changes_nothing,
            nodes::run_what_the_scheduler_places,
            nodes::fall_silent_and_wake,
            leftovers::killed_run_leaves_nothing,
            fit::answers_as_the_scheduler_does,
            fit::quotas_answer_as_admission_does,
            kubevirt::moves_a_vm,
            kubevirt::guards_a_vmi,
            kubevirt::gives_up_a_target_without_room,
            kubevirt::turns_an_eviction_into_an_evacuation,
            charts::install_again_changes_nothing,
            charts::uninstall_leaves_nothing,
            charts::crds_come_and_go,
            ways_in::a_plain_manifest,
            ways_in::upgrades_from_earlier_values,
            ways_in::missing_values_mean_the_defaults,
            ways_in::wakers_find_a_place_on_any_control_plane,
            admission::operator_and_vmis,
            admission::operator_and_nodes,
            admission::operator_and_migrations,
            admission::operator_and_migration_policies,
            admission::agents_and_node_powers,
            admission::agents_and_heartbeats,
            admission::people_and_plans,
            orders::people_ask,
            orders::wakers_tell,
            power::an_order_is_carried_out_once,
            power::a_node_with_vms_is_not_suspended,
            moves::overload_and_back,
            moves::quiet_cluster_costs_little,
            prometheus::is_a_source_of_load_without_agents,
            approval::approve,
            approval::supersede_and_expire,
            failures::leader_is_killed,
            failures::leader_freezes,
            failures::api_server_restarts,
            failures::evacuation_goes_first,
            sleep::empty_nodes_sleep_until_somebody_needs_them;
            long: sleep::a_node_that_dies_among_sleepers_loses_its_pods,
            restless::half_an_hour,
        ],
    )
}
