//! The QEMU lab (`miyako_e2e::lab`): real VMs, moved by the real operator because of their real load. Short runs; the
//! long ones are scenarios of their own (`make lab`).

mod moves;

use miyako_e2e::driver::{Scenario, run};
use std::path::Path;
use std::process::ExitCode;

/// Scenarios by the paths of their functions.
macro_rules! scenarios {
    ($($path:path),* $(,)?) => {
        vec![$(Scenario::new(stringify!($path), $path)),*]
    };
}

fn main() -> ExitCode {
    run(Path::new(env!("CARGO_TARGET_TMPDIR")), scenarios![moves::there_and_back])
}
