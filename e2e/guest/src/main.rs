//! The only program of a lab guest.

fn main() {}
