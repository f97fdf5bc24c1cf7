//! "The five newest finished VMIMs".

use super::*;

#[tokio::test(start_paused = true)]
async fn five_finished_migrations_stay_with_their_source_launchers() {
    let world = world(2).await;
    add_vm(&world, "vm", "n1").await;
    for index in 0..7 {
        moved(&world, &format!("m-{index}"), "vm", if index % 2 == 0 { "n2" } else { "n1" }).await;
        // Whole seconds tell the ages of VMIMs apart.
        sleep(2.0).await;
    }
    let kept: Vec<String> =
        migrations(&world).list(&ListParams::default()).await.unwrap().iter().map(ResourceExt::name_any).collect();
    assert_eq!(kept, ["m-2", "m-3", "m-4", "m-5", "m-6"]);
    let all = launchers(&world, "vm").await;
    assert_eq!(all.iter().filter(|(_, phase, _)| phase == "Succeeded").count(), 5);
    assert_eq!(all.iter().filter(|(_, phase, _)| phase == "Running").count(), 1);
    // A name stays taken as long.
    assert!(ask(&world, "m-6", "vm", Some("n1")).await.is_err());
}
