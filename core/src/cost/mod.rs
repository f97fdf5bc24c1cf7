//! What a migration costs: time, downtime, traffic and energy, before it is begun; and what follows from it: whom to move,
//! how, how fast, and when to give up.
//!
//! Each formula cites its paper. `Liu` is Liu et al., Performance and energy modeling for live migration of virtual machines
//! (2013); `thesis` is Akiyama's, chapter 5; what is ours is called ours. Quantities are of `model`'s unit types. What
//! can't be is refused with the name of the input. Nothing here decides for the planner yet: these are functions of plain
//! values.
//!
//! * What it costs: [`closed_form`], [`PreCopy`], [`PostCopy`], [`Hybrid`], [`foretell_reuse`], [`foretell_teleport`],
//!   [`on_one_link`], [`WiredEnergy`], [`wireless`].
//! * With which figures: [`Refined`] (a VM's dirty rate over its migrations), [`fit_dirtying`], [`Observations`] (one's own
//!   hardware), [`Adaptive`] (the rate).
//! * What follows: [`cheapest`] (whom), [`auto`] (how), [`verdict`] (whether it will end).

mod adaptive;
mod calibrate;
mod choose;
mod closed;
mod converge;
mod dirtying;
mod energy;
mod input;
mod least_squares;
mod mode;
mod postcopy;
mod precopy;
mod refined;
mod reuse;
mod rounds;
mod share;
mod skipping;
mod teleport;
#[cfg(test)]
mod tests;

pub use adaptive::{Adaptive, megabits};
pub use calibrate::{Belief, ClassPair, Observations, Observed, Origin, Pace, Published, skipping};
pub use choose::{Candidate, Weights, cheapest, ranked, regret, synthetic_costs};
pub use closed::{ClosedForm, closed_form};
pub use converge::{Look, Patience, Verdict, outrun, overdue_after, verdict};
pub use dirtying::{Dirtying, fit_dirtying};
pub use energy::{ROOM_NOISE, WiredEnergy, wireless};
pub use input::{Cost, CostError, Guest, MEGABYTE, Problem, Rate};
pub use least_squares::{Fit, Interval, Observation, fit};
pub use mode::{Auto, Situation, auto};
pub use postcopy::{Hybrid, HybridCourse, PostCopy, PostCopyCourse};
pub use precopy::{Course, Ended, PUBLISHED_RESUME, PreCopy, Round, StopRule, Threshold};
pub use refined::{Refined, mean_dirty_rate, relative_error};
pub use reuse::{PUBLISHED_PREPARATION, Stretch, foretell_reuse, reusable, updated};
pub use share::{Contender, on_one_link};
pub use skipping::{FitRange, Skipping};
pub use teleport::{TeleportCourse, adaptive_share, foretell_teleport};
