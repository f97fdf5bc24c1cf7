//! Between our moments and the API's.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use miyako_core::model::Timestamp;

/// A moment as the API writes it, to the millisecond; a moment beyond the calendar becomes the epoch.
#[must_use]
pub fn to_api(moment: Timestamp) -> Time {
    Time(k8s_openapi::jiff::Timestamp::from_millisecond(moment.millis()).unwrap_or_default())
}

/// A moment that the API wrote.
#[must_use]
pub fn from_api(time: &Time) -> Timestamp {
    Timestamp::from_millis(time.0.as_millisecond())
}
