//! Our programs with one another and with Prometheus, without a cluster.

mod prometheus;
mod waker;
mod wire;
