//! From the cluster to a [`Snapshot`](miyako_core::model::Snapshot): watches, agents' samples, Prometheus.

pub mod convert;
pub mod load;
