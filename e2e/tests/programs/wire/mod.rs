//! Agent, waker and operator, each as it is, on both ends of one wire: over TLS on the loopback interface, and over
//! in-memory streams under paused time.

mod identity;
mod meters;
mod paused;
mod scene;
mod tls;
