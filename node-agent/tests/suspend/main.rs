//! The real thing: a Linux guest in QEMU whose node agent is ours, suspended by it to RAM.
//!
//! `pc` sleeps as real machines do: QMP says `suspended`, and its vCPUs stand still until somebody wakes it. `q35` of
//! QEMU 7.2 does so once; later suspends return at once with success, as boards do whose wake-up line is stuck.

mod guest;
mod initramfs;
#[allow(dead_code, unused_imports, reason = "only the AMT is needed of the wake drivers' peers")]
#[path = "../wake/peers/mod.rs"]
mod peers;

use anyhow::{Context as _, ensure};
use guest::Guest;
use miyako_agent::wake::{Amt, Belief, Careful, Driver, Patience, PowerState, Trust, wake};
use serde_json::Value;
use std::{sync::Mutex, time::Duration};
use tokio::time::{sleep, timeout};

const SUSPEND: &str = "miyako-agent power suspend --yes --output json";

/// Longer than the resolution of the guest's clock, so that the sleep can be proved.
const A_WHILE: Duration = Duration::from_secs(3);

/// What a successful suspend printed.
fn slept(answer: &guest::Answer) -> anyhow::Result<Value> {
    ensure!(answer.succeeded, "the suspend failed: {}", answer.output);
    let line = answer.output.lines().find(|line| line.starts_with('{'));
    serde_json::from_str(line.with_context(|| answer.output.clone())?).with_context(|| answer.output.clone())
}

#[tokio::test]
async fn a_machine_sleeps_and_is_woken_ten_times() -> anyhow::Result<()> {
    let mut guest = Guest::boot("pc").await?;
    let preflight = guest.run("miyako-agent power preflight").await?;
    ensure!(preflight.succeeded && preflight.output.contains("Nothing keeps this machine"), "{}", preflight.output);
    let boot = guest.run("busybox cat /proc/sys/kernel/random/boot_id").await?.output;
    for cycle in 1..=10 {
        guest.begin(&format!("{SUSPEND} --wake-after 10m")).await?;
        guest.until_asleep().await.with_context(|| format!("cycle {cycle}"))?;
        sleep(A_WHILE).await;
        guest.wake().await?;
        let report = slept(&guest.answer().await?)?;
        ensure!(report["wokenBy"] == "Request", "cycle {cycle}: {report}");
        let alarm = guest.run("busybox cat /sys/class/rtc/rtc0/wakealarm").await?;
        ensure!(alarm.output.trim().is_empty(), "cycle {cycle}: the alarm is still set: {}", alarm.output);
    }
    ensure!(guest.run("busybox cat /proc/sys/kernel/random/boot_id").await?.output == boot, "it has booted");
    Ok(())
}

/// Management firmware that knows what QEMU knows, and obeys a request for power by QEMU's wake-up.
async fn firmware_of(guest: &Guest, amt: &Mutex<peers::Amt>) -> anyhow::Result<()> {
    let mut obeyed = 0;
    loop {
        let sleeps = guest.sleeps().await?;
        let requested = {
            let mut amt = amt.lock().unwrap();
            (amt.power, amt.os_power_saving) = if sleeps { (4, None) } else { (2, Some(2)) };
            amt.requested.len()
        };
        if requested > obeyed {
            obeyed = requested;
            guest.wake().await?;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// The whole way: AMT reads as asleep because the machine sleeps, and its power-on is a resume and no boot.
#[tokio::test]
async fn a_sleeping_machine_is_resumed_through_amt() -> anyhow::Result<()> {
    let mut guest = Guest::boot("pc").await?;
    let boot = guest.run("busybox cat /proc/sys/kernel/random/boot_id").await?.output;
    // The firmware changes nothing by itself: the machine's state is QEMU's.
    let (server, amt) = peers::Amt { slow: u32::MAX, ..peers::Amt::asleep() }.serve(None).await;
    let driver = Amt::new(&format!("http://{}", server.address), peers::right(), Trust::default())?;
    let drivers: Vec<Box<dyn Driver>> = vec![Box::new(Careful::new(driver))];
    for cycle in 1..=3 {
        guest.begin(&format!("{SUSPEND} --wake-after 10m")).await?;
        guest.until_asleep().await.with_context(|| format!("cycle {cycle}"))?;
        sleep(A_WHILE).await;
        let woken = async {
            // The firmware may not have looked yet.
            while drivers[0].read().await?.state != PowerState::Sleeping {
                sleep(Duration::from_millis(50)).await;
            }
            anyhow::Ok(wake(&drivers, Belief::Asleep, Patience::default(), cycle).await?)
        };
        let woken = tokio::select! {
            woken = timeout(guest::PATIENCE, woken) => woken.context("AMT does not see it asleep, or it does not wake")??,
            broken = firmware_of(&guest, &amt) => return broken,
        };
        ensure!(woken.verified && woken.requests == 1, "cycle {cycle}: {woken:?}");
        amt.lock().unwrap().requested.clear();
        let report = slept(&guest.answer().await?)?;
        ensure!(report["wokenBy"] == "Request", "cycle {cycle}: {report}");
    }
    ensure!(guest.run("busybox cat /proc/sys/kernel/random/boot_id").await?.output == boot, "it has booted");
    Ok(())
}

#[tokio::test]
async fn a_machine_that_nobody_wakes_wakes_by_its_alarm() -> anyhow::Result<()> {
    let mut guest = Guest::boot("pc").await?;
    for _ in 0..2 {
        guest.begin(&format!("{SUSPEND} --wake-after 5s")).await?;
        let report = slept(&guest.answer().await?)?;
        ensure!(report["wokenBy"] == "Alarm", "{report}");
    }
    Ok(())
}

/// The agent's word agrees with QEMU's in every suspend of a machine that lies about most of them.
#[tokio::test]
async fn a_machine_that_claims_to_have_slept_is_not_believed() -> anyhow::Result<()> {
    let mut guest = Guest::boot("q35").await?;
    let mut lies = 0;
    for suspend in 1..=4 {
        guest.begin(&format!("{SUSPEND} --wake-after 10m")).await?;
        if guest.until_asleep_or_answered().await? {
            sleep(A_WHILE).await;
            guest.wake().await?;
            slept(&guest.answer().await?).with_context(|| format!("suspend {suspend}"))?;
        } else {
            let answer = guest.answer().await?;
            ensure!(!answer.succeeded, "suspend {suspend} was none, and the agent says: {}", answer.output);
            ensure!(answer.output.contains("did not sleep"), "suspend {suspend}: {}", answer.output);
            lies += 1;
        }
    }
    let kernel = guest.run("busybox cat /sys/power/suspend_stats/success").await?.output;
    ensure!(kernel.trim() == "4", "the kernel counts {kernel} successes of 4: its word was no lie");
    ensure!(lies > 0, "this QEMU's q35 slept each time, so nothing was shown: find another machine that lies");
    Ok(())
}

#[tokio::test]
async fn what_is_in_the_way_is_refused_and_the_machine_stays_awake() -> anyhow::Result<()> {
    let mut guest = Guest::boot("pc").await?;
    let refused = guest.run("miyako-agent power suspend --wake-after 10m").await?;
    ensure!(!refused.succeeded && refused.output.contains("--yes"), "{}", refused.output);
    let soon = guest.run("miyako-agent power suspend --yes --wake-after 1s").await?;
    ensure!(!soon.succeeded && soon.output.contains("write a time from 5 s"), "{}", soon.output);
    let card = guest.run(&format!("{SUSPEND} --wake-after 10m --wake-source network-card")).await?;
    ensure!(!card.succeeded && card.output.contains("NoWakeOnLan"), "{}", card.output);
    // Any program of that name will do: here the agent itself, waiting for input.
    guest.run("busybox cp /bin/miyako-agent /bin/qemu-system-x86_64").await?;
    let waiting = "qemu-system-x86_64 load-generator --operator 127.0.0.1:1 --scenario - > /dev/null 2>&1";
    guest
        .run(&format!("busybox sleep 100000 | {waiting} & until busybox pidof qemu-system-x86_64; do :; done"))
        .await?;
    let vm = guest.run(&format!("{SUSPEND} --wake-after 10m")).await?;
    ensure!(!vm.succeeded && vm.output.contains("QemuRuns"), "{}", vm.output);
    let table = guest.run("miyako-agent power preflight").await?;
    ensure!(!table.succeeded && table.output.contains("move it away"), "{}", table.output);
    let kernel = guest.run("busybox cat /sys/power/suspend_stats/success").await?.output;
    ensure!(kernel.trim() == "0", "it has slept {kernel} times");
    Ok(())
}
