//! KubeVirt's controllers survive a bad API server, as the real ones do: stands break it on purpose.

use super::*;
use crate::sim::apiserver::{FaultRates, RandomFaults};

async fn settle_under(rates: FaultRates, seed: u64) {
    let world = world(3).await;
    for index in 0..6 {
        add_vm(&world, &format!("vm-{index}"), &format!("n{}", 1 + index % 2)).await;
    }
    world.server.set_faults(Some(Box::new(RandomFaults::new(seed, rates))));
    for index in 0..6 {
        let (name, vm) = (format!("m-{index}"), format!("vm-{index}"));
        // The asker tries until it is answered; that it is there already is an answer.
        until("asked", || async {
            match ask(&world, &name, &vm, Some("n3")).await {
                Ok(_) => Some(()),
                Err(kube::Error::Api(status)) if status.message.contains("already") => Some(()),
                Err(_) => None,
            }
        })
        .await;
    }
    sleep(600.0).await;
    world.server.set_faults(None);
    sleep(60.0).await;
    for index in 0..6 {
        let vm = format!("vm-{index}");
        let status = vmi(&world, &vm).await.status.unwrap();
        let told = status.migration_state.clone().unwrap();
        assert!(told.completed, "{vm}, seed {seed}: {told:?}");
        let runs_on = if told.failed { &told.source_node } else { &told.target_node };
        assert_eq!(&status.node_name, runs_on, "{vm}, seed {seed}");
        let all = launchers(&world, &vm).await;
        let running: Vec<_> = all.iter().filter(|(_, phase, _)| phase == "Running").collect();
        assert_eq!(running.len(), 1, "{vm}, seed {seed}: {all:?}");
        assert_eq!(Some(&running[0].2), status.node_name.as_ref(), "{vm}, seed {seed}");
        assert_eq!(status.active_pods.len(), all.len(), "{vm}, seed {seed}");
        let finished = migrations(&world).get(&format!("m-{index}")).await.unwrap();
        assert!(finished.finalizers().is_empty(), "{vm}, seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn errors_conflicts_and_lost_answers_delay_migrations_but_leave_nothing_behind() {
    for seed in 1..=3 {
        let rates = FaultRates {
            server_errors: 0.05,
            too_many_requests: 0.05,
            conflicts: 0.05,
            lost_answers: 0.01,
            delays: 0.1,
            longest_delay: Duration::from_millis(300),
            ..FaultRates::default()
        };
        settle_under(rates, seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn watches_that_lag_break_or_expire_are_caught_up_with() {
    use crate::sim::kubevirt::VIRT_CONTROLLER;
    let world = world(3).await;
    add_vm(&world, "vm", "n1").await;
    world.server.lag_watches(VIRT_CONTROLLER, Duration::from_secs(2));
    moved(&world, "m1", "vm", "n2").await;
    world.server.lag_watches(VIRT_CONTROLLER, Duration::ZERO);
    ask(&world, "m2", "vm", Some("n3")).await.unwrap();
    world.server.drop_watches(VIRT_CONTROLLER);
    until_phase(&world, "m2", "Running").await;
    world.server.expire_watches(VIRT_CONTROLLER);
    until_phase(&world, "m2", "Succeeded").await;
    assert_eq!(node_of(&world, "vm").await, "n3");
}
