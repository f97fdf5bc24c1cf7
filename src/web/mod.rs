//! Health, metrics and the page.

mod explain;
mod page;
mod probes;
mod server;
mod speed;
mod state;
mod stream;

pub use probes::Ready;
pub use server::{Site, serve};
pub use speed::Speed;
