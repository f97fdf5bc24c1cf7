//! What can't be is refused, and the error names the input.

use super::*;
use crate::model::Cores;

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, CostError>, field: &str) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.field, field, "{error}");
    let text = error.to_string();
    assert!(text.starts_with(field), "{text}");
    text
}

#[test]
fn guests_that_can_not_be() {
    refused(Guest::new(Bytes(0), rate(1.0), Bytes(0)), "memory");
    refused(Guest::new(mb(10.0), rate(1.0), mb(11.0)), "writable working set");
    let guest = guest(100.0, 1.0, 50.0);
    refused(guest.touching(mb(101.0)), "touched working set");
    refused(guest.touching(mb(49.0)), "touched working set");
    // NaN, infinity and negative numbers are no rates at all: the units refuse them.
    for value in [f64::NAN, f64::INFINITY, -1.0] {
        assert!(BytesPerSecond::new(value).is_err());
    }
}

#[test]
fn rates_that_send_nothing() {
    let nothing = BytesPerSecond::ZERO;
    refused(Rate::fixed(nothing), "transmission rate");
    refused(Adaptive::new(nothing, rate(1.0), rate(2.0)), "rate increment");
    refused(Adaptive::new(rate(1.0), nothing, rate(2.0)), "least transmission rate");
    refused(Adaptive::new(rate(1.0), rate(3.0), rate(2.0)), "most transmission rate");
    // Made without its constructor, it is refused where it is used.
    let (model, unchecked) = (PreCopy::qemu(secs(0.3), None), Rate::Fixed(nothing));
    refused(model.foretell(&guest(100.0, 1.0, 50.0), &unchecked), "transmission rate");
    refused(PostCopy::default().foretell(&guest(100.0, 1.0, 50.0), &unchecked), "transmission rate");
    refused(on_one_link(nothing, &[]), "link");
    let closed = |dirty, speed, threshold| closed_form(&guest(100.0, dirty, 50.0), speed, threshold, secs(0.0));
    refused(closed(1.0, nothing, mb(1.0)), "transmission rate");
    refused(closed(1.0, rate(10.0), Bytes(0)), "threshold");
    let text = refused(closed(10.0, rate(10.0), mb(1.0)), "dirty rate");
    assert!(text.contains("from 0 to 1"), "{text}");
}

#[test]
fn published_coefficients_outside_their_range() {
    let model = PreCopy::published(mb(1.0), 29);
    let text = refused(model.foretell(&guest(4000.0, 1.0, 50.0), &fixed(100.0)), "memory");
    assert!(text.contains("fit your own"), "{text}");
    refused(model.foretell(&guest(512.0, 1.0, 50.0), &fixed(100.0)), "memory");
    let within = guest(1000.0, 1.0, 50.0);
    refused(model.foretell(&within, &fixed(117.0)), "transmission rate");
    refused(model.foretell(&within, &fixed(40.0)), "transmission rate");
    let adaptive = Adaptive::published(rate(50.0), rate(125.0)).unwrap();
    refused(model.foretell(&within, &Rate::Adaptive(adaptive)), "transmission rate");
    assert!(model.foretell(&within, &fixed(50.0)).is_ok() && model.foretell(&within, &fixed(100.0)).is_ok());
    let contender = Contender { guest: within, model, begins: secs(0.0), limit: None };
    refused(on_one_link(rate(100.0), &[contender]), "skipping");
    let limited = Contender { limit: Some(BytesPerSecond::ZERO), model: PreCopy::qemu(secs(0.3), None), ..contender };
    refused(on_one_link(rate(100.0), &[limited]), "rate limit");
}

#[test]
fn weights_shares_and_coefficients() {
    refused(Weights::new(0.5, 0.5, 0.5, 0.5), "sum of the weights");
    refused(Weights::new(-0.5, 0.5, 0.5, 0.5), "weight of downtime");
    refused(Weights::new(0.5, f64::NAN, 0.5, 0.0), "weight of time");
    refused(Refined::new(0.5, 0.5), "mu");
    refused(Refined::new(f64::NAN, 0.5), "mu");
    refused(Refined::new(0.7, 1.0), "phi");
    refused(WiredEnergy::new(-0.1, 1.0), "joules per megabyte");
    refused(WiredEnergy::new(0.1, f64::INFINITY), "joules per migration");
    refused(Situation::new(1.1, 0.0), "starved share");
    refused(Situation::new(0.0, f64::NAN), "tracking share");
    refused(adaptive_share(rate(1.0), BytesPerSecond::ZERO, 0.5), "storage rate");
    refused(adaptive_share(rate(1.0), rate(1.0), 1.5), "restorable share");
    let (model, small) = (PreCopy::qemu(secs(0.3), None), guest(100.0, 1.0, 50.0));
    refused(foretell_teleport(&model, &small, &fixed(1.0), -0.1, None), "teleported share");
    refused(foretell_teleport(&model, &small, &fixed(1.0), 0.5, Some(BytesPerSecond::ZERO)), "storage rate");
    refused(wireless(Bytes(1), 0.0, 1.0), "bits per second and hertz");
    refused(wireless(Bytes(1), f64::NAN, 1.0), "bits per second and hertz");
    refused(wireless(Bytes(1), 1e6, 1.0), "bits per second and hertz");
    refused(wireless(Bytes(1), 1.0, 0.0), "noise power density");
    refused(relative_error(1.0, 0.0), "measured");
}

#[test]
fn observations_that_can_not_be_fitted() {
    let one = |place: f64, seen: f64, scale: f64| Observation { at: [place, 1.0], seen, scale };
    let good: Vec<_> = (0..8).map(|index| one(f64::from(index), f64::from(index), 1.0)).collect();
    assert!(fit(&good).is_ok());
    let with = |bad: Observation<2>| fit(&[good.as_slice(), &[bad]].concat());
    refused(fit(&good[..3]), "observations");
    refused(with(one(f64::NAN, 1.0, 1.0)), "observations");
    refused(with(one(1.0, f64::INFINITY, 1.0)), "observations");
    refused(with(one(1.0, 1.0, f64::NAN)), "observations");
    refused(with(one(1.0, 1.0, 0.0)), "scale of an observation");
    refused(fit(&vec![one(2.0, 5.0, 1.0); 9]), "observations");
    refused(fit_dirtying(&[(secs(1.0), mb(1.0)); 3]), "observations");
    refused(fit_dirtying(&[(secs(0.0), mb(1.0)); 5]), "time of an observation");
    refused(regret::<u8>(&1, &[], Cores::ZERO, Weights::default()), "chosen");
}

#[test]
fn extreme_figures_give_figures() {
    let most = BytesPerSecond::new(f64::MAX).unwrap();
    let giant = Guest::new(Bytes(u64::MAX), most, Bytes(u64::MAX)).unwrap();
    for model in [PreCopy::qemu(secs(0.3), Some(secs(60.0))), PreCopy::qemu(secs(f64::MAX), None)] {
        for speed in [BytesPerSecond::new(f64::MIN_POSITIVE).unwrap(), rate(100.0), most] {
            let course = model.foretell(&giant, &Rate::fixed(speed).unwrap()).unwrap();
            assert!(course.cost.time.value().is_finite() && course.cost.downtime.value().is_finite());
        }
    }
}
