//! What is written down of a node's sleep: in its NodePower, and on the Node itself.

mod marks;
mod pace;
mod record;
mod restless;
mod waker;

pub use marks::{NodeCondition, NodeMarks};
pub use pace::Pace;
pub use record::{AgentWord, Ask, Desired, NoAgent, Order, PowerRecord, Purpose, RecordedEnergy, Request};
pub use restless::Restless;
pub use waker::{Wakeable, WakerOutcome, WakerWord};
