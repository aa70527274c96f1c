//! The bare-metal entry.
fn main() {}
