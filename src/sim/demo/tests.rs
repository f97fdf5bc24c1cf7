//! The demo without its page.

use super::*;

fn told(args: &DemoArgs) -> String {
    let mut out = Vec::new();
    assert_eq!(run(args, &mut out).unwrap(), ExitCode::SUCCESS, "{}", String::from_utf8_lossy(&out));
    String::from_utf8(out).unwrap()
}

#[test]
fn a_headless_run_moves_vms_safely_and_comes_out_the_same_each_time() {
    let args = DemoArgs {
        duration: Some(150),
        seed: 7,
        profile: DemoProfile::Reactive,
        output: Output::Json,
        speed: 60,
        listen: ([127, 0, 0, 1], 0).into(),
    };
    let first = told(&args);
    let summary: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_eq!(summary["brokenRules"], serde_json::json!([]));
    assert_eq!((&summary["nodes"], &summary["vms"]), (&20.into(), &150.into()));
    assert!(summary["migrationsAskedFor"].as_u64() > Some(0), "nothing to see: {first}");
    let ended = summary["migrations"].as_array().unwrap().iter().map(|kind| kind["count"].as_u64().unwrap());
    let ended: u64 = ended.sum();
    assert!((1..=summary["migrationsAskedFor"].as_u64().unwrap()).contains(&ended), "{first}");
    assert!(summary["couldSleepPercent"].as_f64() > Some(10.0), "{first}");
    // Sleep is told, and what is told adds up.
    let figure = |name: &str| summary[name].as_f64().unwrap_or_else(|| panic!("no {name}: {first}"));
    assert!(figure("sleeps") > 0.0 && figure("asleepNodeHours") > 0.0, "nobody slept: {first}");
    assert!(figure("wakes") + figure("failedWakes") <= figure("sleeps"), "{first}");
    let (used, saved) = (figure("joules"), figure("savedJoules"));
    assert!((100.0 * saved / (used + saved) - figure("savedPercent")).abs() < 0.01, "{first}");
    // Twenty nodes of 53 to 320 W for two minutes and a half, of which not all sleep at once.
    assert!(saved > 0.0 && (20.0 * 7.0 * 140.0..20.0 * 320.0 * 150.0).contains(&used), "{first}");
    assert_eq!(told(&args), first);
}

#[test]
fn durations_have_a_unit_and_bounds() {
    assert_eq!(duration("90s"), Ok(90));
    assert_eq!(duration("10m"), Ok(600));
    assert_eq!(duration("2d"), Ok(172_800));
    for wrong in ["", "10", "m", "-1m", "0s", "1é", "400d", "99999999999999999999d"] {
        assert!(duration(wrong).is_err(), "{wrong:?}");
    }
}
