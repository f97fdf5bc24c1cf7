//! Real QEMUs, real migrations. Needs the packages of `e2e/tools/apt`; makes the guest by itself.

mod failures;
mod hops;
mod leftovers;
mod link;
mod stand;
