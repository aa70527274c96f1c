//! Checks a manifest and packs guests into a bundle.
//!
//! A manifest is read in two steps. [`Manifest::parse`] (or [`Manifest::read`] for a file) checks everything that its text
//! alone can tell: syntax, keys, types, ranges, unique names. [`pack()`] then reads the files that it names, checks that each
//! kernel is one, and encodes the bundle that the hypervisor reads. In between, [`Manifest::check_machine`] compares it
//! with a machine whose size is known.
//!
//! Every problem has the manifest's line and column, the guest, the key, the value, and what would be right. As many as can
//! be found at once are reported at once.
#![forbid(unsafe_code)]

mod error;
mod kernel_file;
mod manifest;
mod pack;

pub use error::{ManifestError, Place, Problem};
pub use kernel_file::{NotAKernel, recognise};
pub use manifest::{Guest, Input, Manifest, Modules, Source};
pub use pack::{pack, packed, writer};
