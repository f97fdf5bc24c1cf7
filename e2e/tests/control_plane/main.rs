//! End-to-end scenarios on a real Kubernetes control plane (`miyako_e2e::control_plane`).

mod conformance;
mod crds;
mod fit;
mod kubevirt;
mod nodes;
mod verdicts;

use miyako_e2e::driver::{Scenario, run};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    run(
        Path::new(env!("CARGO_TARGET_TMPDIR")),
        vec![
            Scenario::new("crds_of_kubevirt_are_served", crds::kubevirts_are_served),
            Scenario::new("crds_of_ours_are_served", crds::ours_are_served),
            Scenario::new("the_simulated_api_server_conforms", conformance::the_simulated_api_server_conforms),
            Scenario::new("good_resources_are_taken", verdicts::good_resources_are_taken),
            Scenario::new("bad_resources_are_refused", verdicts::bad_resources_are_refused),
            Scenario::new("nodes_run_what_the_scheduler_places", nodes::run_what_the_scheduler_places),
            Scenario::new("fit_answers_as_the_scheduler_does", fit::answers_as_the_scheduler_does),
            Scenario::new("kubevirt_moves_a_vm", kubevirt::moves_a_vm),
            Scenario::new("kubevirt_guards_a_vmi", kubevirt::guards_a_vmi),
            Scenario::new("kubevirt_gives_up_a_target_without_room", kubevirt::gives_up_a_target_without_room),
            Scenario::new(
                "kubevirt_turns_an_eviction_into_an_evacuation",
                kubevirt::turns_an_eviction_into_an_evacuation,
            ),
            Scenario::new("nodes_fall_silent_and_wake", nodes::fall_silent_and_wake),
        ],
    )
}
