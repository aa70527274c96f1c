//! The corpus: text in the repository, files while a target is fuzzed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::{Folders, program};
use crate::process;

/// The harness's program, which knows the corpus's text.
pub fn harness(what: &str, target: &str, path: &Path) -> Command {
    let mut cargo = process::cargo();
    cargo.args(["run", "--quiet", "--package", "bulkhead-harness", "--", what, target]).arg(path);
    cargo
}

/// Adds the cases that are kept to a folder.
pub fn unpack(target: &str, folder: &Path) -> Result<()> {
    process::run(&mut harness("unpack", target, folder), "unpacking the corpus")
}

/// Adds to the text what covers branches that its cases do not.
pub fn keep(folders: &Folders, target: &str) -> Result<()> {
    // Of an earlier time, before the text was changed.
    if folders.least.exists() {
        fs::remove_dir_all(&folders.least).context("removing earlier inputs")?;
    }
    unpack(target, &folders.least)?;
    let mut merge = program(target);
    // How often a branch is taken would keep ten times as many.
    merge.args(["-merge=1", "-use_counters=0"]).arg(&folders.least).arg(&folders.found);
    merge.stdout(Stdio::null()).stderr(Stdio::null());
    process::run(&mut merge, "merging the inputs")?;
    process::run(&mut harness("pack", target, &folders.least), "packing the corpus")
}
