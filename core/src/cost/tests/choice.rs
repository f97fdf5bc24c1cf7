use super::*;
use crate::generate::Dice;
use crate::model::Cores;

fn cores(value: f64) -> Cores {
    Cores::new(value).unwrap()
}

fn candidate(key: &'static str, relieves: f64, time: f64, down: f64, traffic: f64) -> Candidate<&'static str> {
    let cost = Cost { time: secs(time), downtime: secs(down), degraded: Seconds::ZERO, traffic: mb(traffic) };
    Candidate::new(key, cores(relieves), cost, &WiredEnergy::PUBLISHED)
}

#[test]
fn eq_21_is_a_weighted_sum_of_shares_of_the_most() {
    let all = [candidate("a", 1.0, 10.0, 0.2, 1000.0), candidate("b", 1.0, 40.0, 0.1, 500.0)];
    let costs = synthetic_costs(&all, Weights::new(0.4, 0.3, 0.2, 0.1).unwrap());
    let energy = (0.512 * 500.0 + 20.165) / (0.512 * 1000.0 + 20.165);
    near(costs[0], 0.4 + 0.3 * 0.25 + 0.2 + 0.1, 1e-12);
    near(costs[1], 0.4 * 0.5 + 0.3 + 0.2 * 0.5 + 0.1 * energy, 1e-12);
    // Nothing costs nothing: no division by the most that is zero.
    let free = [candidate("a", 1.0, 0.0, 0.0, 0.0)];
    near(synthetic_costs(&free, Weights::new(0.5, 0.5, 0.0, 0.0).unwrap())[0], 0.0, 0.0);
}

#[test]
fn the_cheapest_per_core_relieved_is_chosen_among_those_that_relieve() {
    let all = [
        candidate("small", 0.2, 5.0, 0.05, 500.0),
        candidate("large", 2.0, 20.0, 0.1, 2000.0),
        candidate("idle", 0.0, 1.0, 0.01, 100.0),
        candidate("middle", 1.0, 19.0, 0.1, 1900.0),
    ];
    let chosen = |needed: f64| cheapest(&all, cores(needed), Weights::default()).unwrap().key;
    assert_eq!(chosen(0.5), "large", "half as dear per core as the middle one; the small one alone does not do");
    assert_eq!(chosen(3.0), "large", "nobody alone does: the cheapest per core");
    let ranked: Vec<&str> = ranked(&all, cores(0.1), Weights::default()).into_iter().map(|one| one.key).collect();
    assert_eq!(ranked.len(), 3, "who relieves nothing is no candidate: {ranked:?}");
    assert!(cheapest::<&str>(&[], cores(1.0), Weights::default()).is_none());
    // Equals go by their key, whatever their order.
    let twins = [candidate("b", 1.0, 1.0, 0.0, 1.0), candidate("a", 1.0, 1.0, 0.0, 1.0)];
    assert_eq!(cheapest(&twins, cores(1.0), Weights::default()).unwrap().key, "a");
}

/// Candidates as they are foretold from noisy figures, and as they turn out.
fn scene(seed: u64, noise: f64) -> (Vec<Candidate<usize>>, Vec<Candidate<usize>>) {
    let mut dice = Dice::new(seed);
    let model = PreCopy::qemu(secs(0.3), None);
    let energy = WiredEnergy::PUBLISHED;
    let (mut foretold, mut hindsight) = (Vec::new(), Vec::new());
    for key in 0..8 {
        let memory = dice.between(1000.0, 8000.0);
        let (dirty, writable) = (dice.between(1.0, 70.0), dice.between(50.0, 900.0));
        let relieves = cores(dice.between(0.3, 2.0));
        let mut seen = |value: f64| value * dice.between(1.0 - noise, 1.0 + noise);
        let thought = guest(memory, seen(dirty), seen(writable));
        let speed = fixed(seen(117.0));
        let cost = |guest: &Guest, rate: &Rate| model.foretell(guest, rate).unwrap().cost;
        foretold.push(Candidate::new(key, relieves, cost(&thought, &fixed(117.0)), &energy));
        hindsight.push(Candidate::new(key, relieves, cost(&guest(memory, dirty, writable), &speed), &energy));
    }
    (foretold, hindsight)
}

#[test]
fn the_regret_against_hindsight_is_below_five_per_cent() {
    let needed = cores(0.5);
    let (mut sum, mut random) = (0.0, 0.0);
    for seed in 0..200 {
        let (foretold, hindsight) = scene(seed, 0.15);
        let chosen = cheapest(&foretold, needed, Weights::default()).unwrap().key;
        sum += regret(&chosen, &hindsight, needed, Weights::default()).unwrap();
        let relieving: Vec<usize> = foretold.iter().filter(|one| one.relieves >= needed).map(|one| one.key).collect();
        let any = *Dice::new(seed + 500).pick(&relieving);
        random += regret(&any, &hindsight, needed, Weights::default()).unwrap();
    }
    let (mean, random) = (sum / 200.0, random / 200.0);
    assert!((0.0..=0.05).contains(&mean), "{mean}");
    assert!(random > 0.5, "by chance it is far more: {random}");
    // With true figures there is none.
    let (foretold, hindsight) = scene(1, 0.0);
    let chosen = cheapest(&foretold, needed, Weights::default()).unwrap().key;
    near(regret(&chosen, &hindsight, needed, Weights::default()).unwrap(), 0.0, 1e-12);
}

/// Both modes as KubeVirt has them: post-copy switches after a second for each GiB.
fn modes(guest: &Guest) -> (Course, HybridCourse) {
    let pre_copy = PreCopy::qemu(secs(0.3), Some(secs(600.0)));
    let switch_after = secs(guest.memory().0 as f64 / 1_073_741_824.0);
    let hybrid = Hybrid { pre_copy, post_copy: PostCopy::default(), switch_after };
    (pre_copy.foretell(guest, &fixed(117.0)).unwrap(), hybrid.foretell(guest, &fixed(117.0)).unwrap())
}

#[test]
fn write_heavy_guests_go_by_post_copy_and_read_mostly_ones_by_pre_copy() {
    let calm = Situation::new(0.0, 0.03).unwrap();
    let crowded = Situation::new(0.4, 0.03).unwrap();
    // Reads 1.5 GB and writes next to nothing.
    let reader = guest(2000.0, 2.0, 50.0).touching(mb(1500.0)).unwrap();
    let (pre, post) = modes(&reader);
    for situation in [calm, crowded] {
        assert!(matches!(auto(&pre, Some(&post), &situation), Auto::PreCopy { other: Some(_), .. }), "{situation:?}");
    }
    // Writes to 300 MB nearly as fast as is sent: pre-copy takes far longer, and on a crowded node that is lost work.
    let writer = guest(2000.0, 100.0, 1800.0).touching(mb(1800.0)).unwrap();
    let (pre, post) = modes(&writer);
    let choice = auto(&pre, Some(&post), &crowded);
    assert!(matches!(choice, Auto::PostCopy { other: Some(_), .. }), "{choice:?}");
    // A busy loop that touches little, on a crowded node: every second there counts.
    let (pre, post) = modes(&guest(2000.0, 5.0, 20.0));
    assert!(matches!(auto(&pre, Some(&post), &crowded), Auto::PostCopy { .. }));
    // The same on a calm node: pre-copy, which can be cancelled, loses its downtime.
    let Auto::PreCopy { loss, .. } = auto(&pre, Some(&post), &Situation::new(0.0, 0.0).unwrap()) else { panic!() };
    assert_eq!(loss, pre.cost.downtime);
    assert!(loss <= secs(0.32), "the permitted downtime and the resume: {loss}");
}

#[test]
fn the_losses_are_l1_and_l2() {
    let situation = Situation::new(0.4, 0.1).unwrap();
    let (pre, post) = modes(&guest(2000.0, 5.0, 20.0));
    let HybridCourse::Switched(post) = post else { panic!() };
    let (time, down) = (pre.cost.time.value(), pre.cost.downtime.value());
    near(situation.loss_of_pre_copy(&pre).unwrap().value(), down + (time - down) * 0.46, 1e-9);
    let wanted = post.before.value() * 0.46 + post.cost.downtime.value() + post.waiting.value();
    near(situation.loss_of_post_copy(&post).value(), wanted, 1e-9);
}

#[test]
fn a_pre_copy_that_does_not_converge_is_never_begun() {
    let situation = Situation::new(0.0, 0.0).unwrap();
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let (memory, dirty) = (dice.between(500.0, 8000.0), dice.between(0.0, 250.0));
        let guest = guest(memory, dirty, dice.between(10.0, memory));
        let (pre, post) = modes(&guest);
        for allowed in [None, Some(&post)] {
            match auto(&pre, allowed, &situation) {
                Auto::PreCopy { .. } => assert!(pre.converges(), "seed {seed}: {pre:?}"),
                Auto::PostCopy { .. } => assert!(allowed.is_some()),
                Auto::Neither => assert!(!pre.converges() && allowed.is_none(), "seed {seed}"),
            }
        }
    }
}
