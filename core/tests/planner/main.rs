//! The planner and its checker on made-up clusters.

mod convergence;
mod mutants;
mod passes;
mod safety;
