//! The QEMU lab (`miyako_e2e::lab`): real VMs, moved by the real operator because of their real load. Short runs; the
//! long ones are scenarios of their own (`make lab`).

mod faults;
mod moves;
mod sleeps;

use miyako_e2e::driver::{Scenario, run};
use std::path::Path;
use std::process::ExitCode;

/// Scenarios by the paths of their functions; those after the semicolon take too long for every test run.
macro_rules! scenarios {
    ($($path:path),* $(,)?; $($long:path),* $(,)?) => {
        vec![
            $(Scenario::new(stringify!($path), $path),)*
            $(Scenario::new(stringify!($long), $long).long(),)*
        ]
    };
}

fn main() -> ExitCode {
    run(
        Path::new(env!("CARGO_TARGET_TMPDIR")),
        scenarios![
            moves::there_and_back;
            faults::target_never_comes_up,
            faults::target_dies_in_pre_copy,
            faults::source_dies_in_pre_copy,
            faults::link_breaks_in_pre_copy,
            faults::link_breaks_in_post_copy,
            faults::operator_dies_in_post_copy,
            faults::agents_die_in_post_copy,
            sleeps::a_sleeper_is_woken_for_a_move,
        ],
    )
}
