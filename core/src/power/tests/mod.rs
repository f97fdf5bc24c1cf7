//! The machine alone, step by step, and in a small made-up world where everything goes wrong in any order.

mod random;
mod stand;
mod steps;
