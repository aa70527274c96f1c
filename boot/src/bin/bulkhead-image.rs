//! Writes a disk image.
fn main() {}
