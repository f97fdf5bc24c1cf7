//! VMs that swing to and fro: their loads answer to where the operator has moved them.

use super::hands::Course;
use super::scenario::{Calibration, Scenario, Swinging};
use super::stand::LabStand;
use anyhow::{Context as _, ensure};
use miyako_lab::qemu::migration::Outcome;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How long a guest may take for what it is asked, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often it is looked whether a VM has moved.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Lets VMs swing until so many migrations have arrived and none is under way. Returns how many times a guest's memory
/// was checked after a migration, and was right.
///
/// # Errors
/// At the first guest whose memory is not what it should be, that ran twice, or that does not answer.
pub(super) async fn swing(lab: &Arc<LabStand>, scenario: &Scenario, machine: Calibration) -> anyhow::Result<usize> {
    let swinging = scenario.swinging.context("nothing swings")?;
    let (turns, whole) = (Arc::new(Semaphore::new(swinging.at_once)), Arc::new(AtomicUsize::new(0)));
    let mut vms = JoinSet::new();
    for vm in &scenario.vms {
        let swinger = Swinger {
            lab: Arc::clone(lab),
            vm: vm.name.clone(),
            scenario: scenario.clone(),
            swinging,
            machine,
            whole: Arc::clone(&whole),
        };
        let turns = Arc::clone(&turns);
        vms.spawn(async move {
            swinger.load(swinging.waiting).await?;
            while arrivals(&swinger.lab.log.courses()) < swinging.migrations {
                // In the order in which they asked, so that all move about as often.
                let _turn = Arc::clone(&turns).acquire_owned().await?;
                swinger.there_and_back().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = vms.join_next().await {
        ended??;
    }
    Ok(whole.load(Ordering::Relaxed))
}

struct Swinger {
    lab: Arc<LabStand>,
    vm: String,
    scenario: Scenario,
    swinging: Swinging,
    machine: Calibration,
    whole: Arc<AtomicUsize>,
}

impl Swinger {
    async fn there_and_back(&self) -> anyhow::Result<()> {
        let (before, Swinging { busy, calm, waiting, migrations, .. }) = (self.arrivals(), self.swinging);
        if arrivals(&self.lab.log.courses()) >= migrations {
            return Ok(());
        }
        self.load(busy).await?;
        self.arrived(before + 1).await;
        // Calm before the check, which takes what the benchmark leaves of the CPU.
        self.load(calm).await?;
        self.check().await?;
        self.arrived(before + 2).await;
        self.check().await?;
        self.load(waiting).await
    }

    async fn load(&self, percent: u32) -> anyhow::Result<()> {
        let load = self.scenario.permille(percent, &self.machine);
        Ok(self.lab.guest(&self.vm)?.set_load(load, PATIENCE).await?)
    }

    /// Waits for the VM's `count`th migration that brings it to its target. One that fails is the operator's to repeat.
    async fn arrived(&self, count: usize) {
        while self.arrivals() < count {
            sleep(LOOK_EVERY).await;
        }
    }

    fn arrivals(&self) -> usize {
        let mut courses = self.lab.log.courses();
        courses.retain(|course| course.vm == self.vm);
        arrivals(&courses)
    }

    async fn check(&self) -> anyhow::Result<()> {
        let guest = self.lab.guest(&self.vm)?;
        let check = guest.check(PATIENCE).await?;
        ensure!(check.is_good(), "{} after {} migrations: {check:?}", self.vm, self.arrivals());
        ensure!(guest.ran_twice().is_none(), "{} ran on two machines at once", self.vm);
        self.whole.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn arrivals(courses: &[Course]) -> usize {
    courses.iter().filter(|course| matches!(course.outcome, Some(Outcome::Completed(_)))).count()
}
