//! What the papers print, by the models alone. `docs/results/cost.md` tells these figures; change both.

use super::*;
use crate::generate::Dice;

/// The four benchmarks of Liu's section 7.4 as they are assumed here: dirty rate and writable working set in MB/s and MB.
/// The paper prints neither in numbers. Of its text they keep that TPC-C writes slowly over a larger set than Dbench, and that
/// Linpack has the largest set and the highest rate, SPECweb the second. Within that they were chosen so that the paper's
/// reductions come out: that they can is what is shown, not that they must.
const BENCHMARKS: [(&str, f64, f64); 4] =
    [("TPC-C", 6.5, 160.0), ("Dbench", 71.0, 61.0), ("Linpack", 129.0, 330.0), ("SPECweb2005", 127.0, 300.0)];

/// 800 MB at 800 Mb/s (sections 7.1 and 7.4).
fn benchmark(index: usize) -> Course {
    let (_, dirty, writable) = BENCHMARKS[index];
    let guest = Guest::new(Bytes::mib(800), rate(dirty), mb(writable)).unwrap();
    PreCopy::published(Bytes(50 * 4096), 29).foretell(&guest, &fixed(100.0)).unwrap()
}

/// What a choice of TPC-C saves against these numbers of picks: time, downtime, traffic, energy, in per cent.
fn reductions(picks: [u32; 4]) -> [f64; 4] {
    let energy = WiredEnergy::PUBLISHED;
    let of = |index: usize| {
        let cost = benchmark(index).cost;
        [cost.time.value(), cost.downtime.value(), cost.traffic.0 as f64, energy.of(cost.traffic).value()]
    };
    let total: u32 = picks.iter().sum();
    let guided = of(0).map(|value| value * f64::from(total));
    let random = (0..4).fold([0.0; 4], |sum, index| {
        let one = of(index);
        std::array::from_fn(|part| sum[part] + one[part] * f64::from(picks[index]))
    });
    std::array::from_fn(|part| 100.0 * (1.0 - guided[part] / random[part]))
}

const PUBLISHED_REDUCTIONS: [f64; 4] = [72.9, 93.5, 74.5, 73.6];

#[test]
fn the_model_always_chooses_tpc_c() {
    // Eight VMs, two of each benchmark, all of which relieve alike.
    let all: Vec<Candidate<usize>> = (0..8)
        .map(|vm| {
            let cores = crate::model::Cores::new(1.0).unwrap();
            Candidate::new(vm, cores, benchmark(vm / 2).cost, &WiredEnergy::PUBLISHED)
        })
        .collect();
    let order: Vec<usize> =
        ranked(&all, crate::model::Cores::ZERO, Weights::default()).into_iter().map(|one| one.key / 2).collect();
    assert_eq!(order[..4], [0, 0, 1, 1], "TPC-C, then Dbench: {order:?}");
}

#[test]
fn with_the_papers_own_picks_the_reductions_are_at_least_the_papers() {
    // "a VM running Dbench, TPC-C, Linpack, and SPECweb2005 for 4, 5, 5 and 6 times".
    let ours = reductions([5, 4, 5, 6]);
    for ((ours, published), told) in ours.iter().zip(PUBLISHED_REDUCTIONS).zip([74.6, 95.6, 74.6, 73.8]) {
        assert!(*ours >= published, "{ours} {published}");
        near(*ours, told, 0.06);
    }
}

#[test]
fn with_twenty_random_picks_of_seed_9_they_are_at_least_the_papers_too() {
    let picks = |seed: u64| {
        let mut dice = Dice::new(seed);
        (0..20).fold([0_u32; 4], |mut picks, _| {
            picks[dice.below(8) / 2] += 1;
            picks
        })
    };
    let of_seed = reductions(picks(SEED));
    assert_eq!(picks(SEED), [7, 3, 7, 3]);
    for ((ours, published), told) in of_seed.iter().zip(PUBLISHED_REDUCTIONS).zip([75.7, 96.7, 75.7, 74.9]) {
        assert!(*ours >= published, "{of_seed:?}");
        near(*ours, told, 0.06);
    }
    // It is a lucky one: the mean over a thousand seeds is two per cent less, for time, traffic and energy less than the
    // paper's by that much too.
    let mean = (0..1000)
        .map(picks)
        .map(reductions)
        .fold([0.0; 4], |sum, one| std::array::from_fn(|part| sum[part] + one[part] / 1000.0));
    for (ours, told) in mean.iter().zip([72.5, 94.9, 72.5, 71.7]) {
        near(*ours, told, 0.06);
    }
}

const SEED: u64 = 9;

#[test]
fn the_papers_saving_of_energy_follows_from_its_saving_of_traffic() {
    // Eq. 17 over 800 MiB and little more for TPC-C, and a mean of the random choice that is 1/(1 − 0.745) of it.
    for sent in [839.0, 900.0, 1000.0] {
        let guided = WiredEnergy::PUBLISHED.of(mb(sent)).value();
        let random = WiredEnergy::PUBLISHED.of(mb(sent / (1.0 - 0.745))).value();
        near(100.0 * (1.0 - guided / random), 73.6, 0.3);
    }
}

#[test]
fn the_text_of_lius_figures_10_to_12_holds() {
    let [tpc_c, dbench, linpack, spec] = [0, 1, 2, 3].map(|index| benchmark(index).cost);
    let guest = Guest::new(Bytes::mib(800), rate(1.0), mb(20.0)).unwrap();
    let idle = PreCopy::published(Bytes(50 * 4096), 29).foretell(&guest, &fixed(100.0)).unwrap().cost;
    // "For an idle Linux and TPC-C, most of the network traffic is the VM memory image".
    let memory = Bytes::mib(800).0 as f64;
    for calm in [idle, tpc_c] {
        assert!(calm.traffic.0 as f64 <= 1.2 * memory, "{calm:?}");
    }
    // "Its slower memory dirtying rate leads to smaller total network traffic than Dbench".
    assert!(idle.traffic < tpc_c.traffic && tpc_c.traffic < dbench.traffic);
    // Not so: "the total network traffic of Linpack is even smaller than SPECweb" because more of it is hot. In eq. 10 as
    // it was fitted γ falls with the rate, so of two guests the one that writes more, to more memory, sends more.
    assert!(linpack.traffic > spec.traffic, "{linpack:?} {spec:?}");
    // "Linpack and SPECweb exhibit much longer migration downtime than the other workloads".
    for (busy, calm) in [(linpack, tpc_c), (spec, tpc_c), (linpack, dbench), (spec, dbench)] {
        assert!(busy.downtime.value() > 5.0 * calm.downtime.value(), "{busy:?} {calm:?}");
    }
}

#[test]
fn the_refined_model_is_nearer_than_the_base_model_and_within_ten_per_cent() {
    // A made-up guest like SPECweb ("more widespread dispersion"): its rate varies from round to round, and a sample of
    // half a second sees one of them. Truth is algorithm 1 over the varying rates.
    let model = PreCopy {
        skipping: Skipping { fitted: None, ..Skipping::PUBLISHED },
        ..PreCopy::published(Bytes(204_800), 29)
    };
    let (mut base, mut better, mut count) = (0.0, 0.0, 0.0);
    for seed in 0..20 {
        let mut dice = Dice::new(seed);
        let mean = dice.between(10.0, 60.0);
        let mut refined = Refined::default();
        for migration in 0..30 {
            let trace: Vec<_> = (0..40).map(|_| rate(mean * dice.between(0.7, 1.3))).collect();
            let truth = model.foretell_trace(&guest(1000.0, mean, 400.0), &fixed(100.0), &trace).unwrap();
            let sample = rate(mean * dice.between(0.5, 1.5));
            let time = |dirty: BytesPerSecond| {
                let guest = Guest::new(mb(1000.0), dirty, mb(400.0)).unwrap();
                let foretold = model.foretell(&guest, &fixed(100.0)).unwrap().cost.time;
                relative_error(foretold.value(), truth.cost.time.value()).unwrap()
            };
            if migration > 4 {
                (base, better, count) = (base + time(sample), better + time(refined.estimate(sample)), count + 1.0);
            }
            let rounds: Vec<_> = trace.iter().zip(&truth.rounds).map(|(rate, round)| (*rate, round.took)).collect();
            refined.observe(mean_dirty_rate(&rounds).unwrap(), sample);
        }
    }
    let (base, better) = (base / count, better / count);
    near(base, 0.083, 0.001);
    near(better, 0.046, 0.001);
    assert!(better < 0.10 && better < 0.8 * base, "{base} {better}");
}

#[test]
fn thesis_figure_5_4() {
    // 1 GB at 1 Gb/s (thesis, Table 3.1), W, D and T as there: 48 points. x is the simulated time without a preparation,
    // y = 0.953x + 3.6487 what the thesis measured on the mean, and ours is x + 2.5.
    let model = PreCopy::qemu(secs(0.03), None);
    let mut worst = 0.0_f64;
    let mut points = Vec::new();
    for working_set in [128.0, 256.0, 512.0, 1024.0] {
        for dirty in [2.0, 4.0, 8.0] {
            for ran in [10.0, 30.0, 60.0, 300.0] {
                let memory = Bytes::gib(1);
                let set = mb(working_set);
                let guest = Guest::new(memory, rate(dirty), set).unwrap();
                let written = updated(rate(dirty), set, secs(ran));
                let reused = memory.saturating_sub(written);
                let time = |preparation: f64| {
                    let course = foretell_reuse(&model, &guest, &fixed(117.0), reused, secs(preparation)).unwrap();
                    course.cost.time.value()
                };
                let (plain, ours) = (time(0.0), time(PUBLISHED_PREPARATION));
                near(ours, plain + 2.5, 1e-9);
                let published = 0.953 * plain + 3.6487;
                worst = worst.max((ours - published).abs());
                points.push(plain);
            }
        }
    }
    assert_eq!(points.len(), 48);
    let (least, most) = points.iter().fold((f64::MAX, 0.0_f64), |(least, most), x| (least.min(*x), most.max(*x)));
    near(most, 9.39, 0.01);
    // The line lies 1.1487 − 0.047·x above ours: at most by what the thesis' intercept has beyond its own 2.5 s.
    assert!(worst <= 3.6487 - 2.5, "{worst}");
    // And it is the model the thesis is: what is sent is what was written, so 12 of the points lie at their working set.
    near(least, 20.0 / 117.0, 0.01);
}

#[test]
fn thesis_energy_differs_from_lius_by_a_slip() {
    // Eq. 5.2 prints 20.512 for 20.165: 0.35 J a migration, below a thousandth of one of 4 GB.
    let (liu, thesis) = (WiredEnergy::PUBLISHED, WiredEnergy::new(0.512, 20.512).unwrap());
    let (ours, slip) = (liu.of(mb(4000.0)).value(), thesis.of(mb(4000.0)).value());
    near(slip - ours, 0.347, 1e-9);
    assert!((slip - ours) / ours < 1e-3);
}

#[test]
fn reactive_clouds_migration_is_far_below_lius_energy_model() {
    // "approximately 50 seconds … only 3 W or less" at each end, given as 0.07 Wh (252 J; with the figures, 0.083 Wh) for
    // 1.7 GB. Liu's fit of older servers says 890 J: fit your own.
    let liu = WiredEnergy::PUBLISHED.of(mb(1700.0)).value();
    near(liu, 890.6, 0.1);
    assert!(liu > 3.0 * 0.07 * 3600.0);
}
