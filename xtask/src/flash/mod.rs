//! Writing an image to a disk, after making sure that it is the right one.

mod target;
mod write;

pub use target::{Kind, Target, examine, refusal};
pub use write::{verify, write};
