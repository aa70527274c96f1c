//! `cargo xtask bench`: what Bulkhead costs, beside what KVM costs on the same emulated processor.
//!
//! `cases` is the list of what is measured, `linux` makes the Linux that is booted and KVM's host, `runs` starts
//! the machines, `heard` reads what they say, `source` counts lines. What comes out are `Figures`, which are
//! shown by `table` and `chart`, put into the documentation by `page`, and compared by `check`.

pub mod cases;
mod chart;
pub mod check;
pub mod figures;
pub mod heard;
mod linux;
mod page;
mod runs;
mod source;
pub mod table;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::workspace;
pub use figures::{Figures, Kind};

/// Which machines are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    Everything,
    /// Those in which Bulkhead runs, and what they are compared with but for KVM.
    WithoutKvm,
}

/// On what they are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// Bochs, in which ticks are instructions.
    Bochs,
    /// QEMU with KVM and nested VT-x: ticks are time, as silicon has it, and every exit is two of the outer
    /// KVM's at least.
    Silicon,
}

/// Where the committed figures are.
pub fn committed() -> PathBuf {
    workspace::root().join("docs/performance.json")
}

/// Reads the committed figures.
pub fn read_committed() -> Result<Figures> {
    let path = committed();
    let text = fs::read_to_string(&path)
        .with_context(|| format!("reading {}", workspace::shown(&path)))?;
    Figures::from_json(&text).with_context(|| workspace::shown(&path))
}

/// Measures.
pub fn measure(scope: Scope, on: On) -> Result<Figures> {
    let _lock = workspace::lock(&workspace::target().join("bench"))?;
    runs::all(scope, on)
}

/// Writes figures to the documentation: JSON, chart, and the table in the text.
pub fn write(figures: &Figures) -> Result<Vec<PathBuf>> {
    let docs = workspace::root().join("docs");
    let (chart, page) = (docs.join("performance.svg"), docs.join("performance.md"));
    let text = fs::read_to_string(&page)
        .with_context(|| format!("reading {}", workspace::shown(&page)))?;
    let files = [
        (committed(), figures.to_json()?),
        (chart, chart::chart(figures)),
        (page, page::with_table(&text, figures)?),
    ];
    let mut written = Vec::new();
    for (path, content) in files {
        fs::write(&path, content)
            .with_context(|| format!("writing {}", workspace::shown(&path)))?;
        written.push(path);
    }
    Ok(written)
}
