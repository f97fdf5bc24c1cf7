//! The models against their papers, against themselves, and against bad input.

mod bad_input;
mod calibration;
mod choice;
mod lab;
mod papers;
mod postcopy;
mod precopy;
mod running;
mod sharing;

use super::*;
use crate::model::{Bytes, BytesPerSecond, Seconds};

fn mb(count: f64) -> Bytes {
    Bytes::nearest(count * 1e6)
}

fn rate(megabytes: f64) -> BytesPerSecond {
    BytesPerSecond::new(megabytes * 1e6).unwrap()
}

fn secs(value: f64) -> Seconds {
    Seconds::new(value).unwrap()
}

fn fixed(megabytes: f64) -> Rate {
    Rate::fixed(rate(megabytes)).unwrap()
}

fn guest(memory: f64, dirty: f64, writable: f64) -> Guest {
    Guest::new(mb(memory), rate(dirty), mb(writable)).unwrap()
}

#[track_caller]
fn near(ours: f64, wanted: f64, tolerance: f64) {
    assert!((ours - wanted).abs() <= tolerance, "{ours} is not {wanted} ± {tolerance}");
}
