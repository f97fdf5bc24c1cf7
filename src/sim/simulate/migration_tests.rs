//! The command foretells what the models say, in words and as JSON, and refuses bad figures by the name of their flag.

use super::*;
use clap::Parser;
use std::error::Error as _;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    args: SimulateArgs,
}

fn parse(flags: &str) -> Result<SimulateArgs, clap::Error> {
    let line = format!("simulate migration {flags}");
    Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.args)
}

fn printed(flags: &str) -> Result<String, SimulateError> {
    let mut out = Vec::new();
    run(&parse(flags).unwrap(), &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

const GUEST: &str = "--memory 1Gi --dirty-rate 10M --working-set 200M --link 1G";

#[test]
fn every_mode_is_foretold_with_its_model() {
    let json = printed(&format!("{GUEST} --reused 900Mi --teleported 256Mi --output json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let modes = json["modes"].as_array().unwrap();
    let names: Vec<&str> = modes.iter().map(|row| row["mode"].as_str().unwrap()).collect();
    assert_eq!(names, ["pre-copy", "post-copy", "hybrid", "reuse", "teleport"]);
    let of = |mode: usize, field: &str| modes[mode][field].as_f64().unwrap();
    // V0 = 1073.7 MB at 125 MB/s; 86 MB were written meanwhile, which fit into 0.9 s: 8.6 + 0.69 s and 20 ms.
    assert!((of(0, "trafficBytes") - 1_073_741_824.0 * 1.08).abs() < 1.0, "{json}");
    assert!((of(0, "timeSeconds") - 9.277).abs() < 1e-3 && (of(0, "downtimeSeconds") - 0.707).abs() < 1e-3, "{json}");
    assert!((of(0, "energyJoules") - (0.512 * 1159.641 + 20.165)).abs() < 0.01, "{json}");
    // Post-copy: once, and the guest waits for what it touches.
    assert!((of(1, "degradedSeconds") - 8.590).abs() < 1e-3 && (of(1, "waitingSeconds") - 1.6).abs() < 1e-9, "{json}");
    assert!(of(3, "timeSeconds") < of(0, "timeSeconds") && of(4, "trafficBytes") < of(0, "trafficBytes"), "{json}");
    // Teleportation draws as much as if all had been sent.
    assert!((of(4, "readBytes") - 268_435_456.0).abs() < 1.0);
    assert!(modes.iter().all(|row| !row["model"].as_str().unwrap().is_empty()));
    assert_eq!((&json["publishedEnergy"], json["auto"]["mode"].as_str()), (&true.into(), Some("preCopy")));
}

#[test]
fn the_table_tells_the_same_and_what_auto_would_do() {
    let text = printed(GUEST).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("MODE") && lines[1].starts_with("pre-copy") && lines[1].contains("9.28 s"), "{text}");
    assert!(text.contains("auto: pre-copy.") && text.contains("published coefficients"), "{text}");
    // On an overloaded node each second at the source is lost.
    let crowded = printed(&format!("{GUEST} --starved 60")).unwrap();
    assert!(crowded.contains("auto: post-copy"), "{crowded}");
    let own = printed(&format!("{GUEST} --joules-per-megabyte 0.1 --joules-per-migration 5")).unwrap();
    assert!(!own.contains("published"), "{own}");
}

#[test]
fn a_pre_copy_that_does_not_converge_is_never_what_auto_takes() {
    let text = printed("--memory 8Gi --dirty-rate 200M --link 1G").unwrap();
    assert!(text.contains("pre-copy does not converge") && text.contains("gives up after 1200 s"), "{text}");
    assert!(text.contains("auto: post-copy"), "{text}");
}

#[test]
fn bad_figures_are_refused_by_the_name_of_their_flag() {
    let refused = |flags: &str, words: &str| {
        let error = parse(flags).unwrap_err().to_string();
        assert!(error.contains(words), "{flags}: {error}");
    };
    refused("--memory much --dirty-rate 1M --link 1G", "--memory");
    refused("--memory -1Gi --dirty-rate 1M --link 1G", "invalid value '-1Gi' for '--memory");
    refused(&format!("{GUEST} --completion-timeout-per-gib 0"), "--completion-timeout-per-gib");
    refused(&format!("{GUEST} --switch-per-gib 0"), "--switch-per-gib");
    refused("--memory 1Gi --dirty-rate fast --link 1G", "--dirty-rate");
    refused("--memory 1Gi --dirty-rate 1M --link NaN", "--link");
    refused("--memory 1Gi --dirty-rate 1M", "--link");
    refused(&format!("{GUEST} --mode teleportation"), "--mode");
    refused(&format!("{GUEST} --joules-per-megabyte 1"), "--joules-per-migration");
    let impossible = |flags: &str, words: &str| {
        let error = printed(flags).unwrap_err();
        let mut all = error.to_string();
        let mut source = error.source();
        while let Some(next) = source {
            all = format!("{all}: {next}");
            source = next.source();
        }
        assert!(all.contains(words), "{flags}: {all}");
    };
    impossible("--memory 0 --dirty-rate 1M --link 1G", "--memory");
    impossible("--memory 1Gi --dirty-rate 1M --link 0", "--link");
    impossible(&format!("{GUEST} --touched 2Gi"), "--touched");
    impossible("--memory 1Gi --dirty-rate 1M --link 1G --working-set 2Gi", "--working-set");
    impossible(&format!("{GUEST} --starved 101"), "--starved");
    impossible(&format!("{GUEST} --starved NaN"), "--starved");
    impossible(&format!("{GUEST} --starved -1"), "--starved");
    impossible(&format!("{GUEST} --mode reuse"), "--reused is missing");
    impossible(&format!("{GUEST} --mode teleport"), "--teleported is missing");
    impossible(&format!("{GUEST} --teleported 2Gi"), "--teleported");
    impossible(&format!("{GUEST} --teleported 200M --storage 0"), "--storage");
    impossible(&format!("{GUEST} --joules-per-megabyte inf --joules-per-migration 1"), "--joules-per-megabyte");
    // The published model is refused where it was not fitted, and says what to do.
    impossible("--memory 8Gi --dirty-rate 1M --link 800M --mode xen", "fit your own");
    assert!(printed("--memory 1Gi --dirty-rate 1M --link 800M --mode xen").unwrap().contains("eq. 10"));
}
