use super::*;

fn contender(memory: f64, dirty: f64, begins: f64) -> Contender {
    let model = PreCopy::qemu(secs(0.3), None);
    Contender { guest: guest(memory, dirty, 200.0_f64.min(memory)), model, begins: secs(begins), limit: None }
}

#[test]
fn one_alone_has_all_of_the_link() {
    let one = contender(1000.0, 20.0, 5.0);
    let alone = one.model.foretell(&one.guest, &fixed(100.0)).unwrap();
    let shared = on_one_link(rate(100.0), &[one]).unwrap();
    near(shared[0].cost.time.value(), alone.cost.time.value(), 1e-6);
    near(shared[0].cost.traffic.0 as f64, alone.cost.traffic.0 as f64, 5.0);
}

#[test]
fn two_get_half_each_and_the_rest_when_the_other_is_done() {
    // Both at half speed until the first is done at 20 s; the second has 500 MB left then.
    let both = on_one_link(rate(100.0), &[contender(1000.0, 0.0, 0.0), contender(1500.0, 0.0, 0.0)]).unwrap();
    near(both[0].cost.time.value(), 20.0, 1e-6);
    near(both[1].cost.time.value(), 25.0, 1e-6);
    // One that begins later finds the other half sent.
    let later = on_one_link(rate(100.0), &[contender(1000.0, 0.0, 5.0), contender(1000.0, 0.0, 0.0)]).unwrap();
    near(later[1].cost.time.value(), 15.0, 1e-6);
    near(later[0].cost.time.value(), 15.0, 1e-6);
}

#[test]
fn what_one_may_not_take_goes_to_the_others() {
    let limited = Contender { limit: Some(rate(10.0)), ..contender(100.0, 0.0, 0.0) };
    let all = on_one_link(rate(100.0), &[contender(900.0, 0.0, 0.0), limited]).unwrap();
    near(all[0].cost.time.value(), 10.0, 1e-6);
    near(all[1].cost.time.value(), 10.0, 1e-6);
}

#[test]
fn sharing_a_link_costs_more_than_one_after_the_other() {
    // Why one migration at a time is the rule: a slower round is one in which more is written.
    let one = contender(1000.0, 40.0, 0.0);
    let alone = one.model.foretell(&one.guest, &fixed(100.0)).unwrap();
    let both = on_one_link(rate(100.0), &[one, one]).unwrap();
    assert!(both.iter().all(|course| course.cost.traffic > alone.cost.traffic), "{both:?}");
    // And with a third, at 40 MB/s against a third of the link, nobody converges.
    let three = on_one_link(rate(100.0), &[one, one, one]).unwrap();
    assert!(three.iter().all(|course| !course.converges()), "{three:?}");
}
