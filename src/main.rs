//! miyako
fn main() {}
