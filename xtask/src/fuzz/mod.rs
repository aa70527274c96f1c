//! `cargo xtask fuzz parsers`: libFuzzer makes up inputs for parsers and device models, on the host.
//!
//! What the targets do with them is in `tests/harness`, the targets are in `fuzz/`, where cargo-fuzz looks for them. A stable
//! compiler is enough, as nothing there needs a sanitizer: there is no `unsafe` code behind a target.

mod corpus;
mod progress;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{process, workspace};
use progress::{Outcome, watch};
pub use tools::{cargo_fuzz_is_there, command};

/// Seconds after which an input hangs.
const HANGS: u32 = 10;
/// Most bytes of an input. A bundle is longer than a page, as its files begin at multiples of one.
const LONGEST: u32 = 16 << 10;

/// What is to be done.
#[derive(Debug)]
pub struct Wanted {
    /// The targets; none are all.
    pub targets: Vec<String>,
    /// Seconds for each.
    pub seconds: u32,
    /// Write what covers more into the repository's corpus.
    pub keep: bool,
}

/// The targets that there are, by their files.
pub fn targets() -> Result<Vec<String>> {
    let folder = workspace::root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if let Some(name) = path.file_stem().filter(|_| path.extension().is_some_and(|e| e == "rs"))
        {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Fuzzes one target after the other. Gives the exit status: 1 when an input was found that fails.
pub fn parsers(wanted: &Wanted) -> Result<u8> {
    let targets = chosen(&wanted.targets, targets()?)?;
    let tools = tools::find()?;
    build(&tools, &targets)?;
    let mut failed = 0u8;
    for target in &targets {
        let folders = Folders::of(target)?;
        corpus::unpack(target, &folders.found)?;
        let outcome = watch(target, wanted.seconds, &mut fuzzer(target, &folders, wanted.seconds))?;
        println!("{target}: {outcome}");
        match outcome {
            Outcome::Failed { input, .. } => {
                failed = 1;
                println!("  what does not hold is above; the input is {}", shown(input.as_deref()));
                if let Some(input) = input {
                    let input = workspace::shown(&input);
                    println!("  once more: cargo xtask fuzz parsers {target} --replay {input}");
                }
            }
            Outcome::Passed { .. } if wanted.keep => corpus::keep(&folders, target)?,
            Outcome::Passed { .. } => {}
        }
    }
    Ok(failed)
}

/// Runs a target with one input, without libFuzzer. Gives the exit status.
pub fn replay(targets: &[String], input: &Path) -> Result<u8> {
    let [target] = targets else {
        bail!("--replay takes one target: the one that the input is for")
    };
    let status =
        corpus::harness("replay", target, input).status().context("starting the harness")?;
    Ok(u8::from(!status.success()))
}

/// The targets that are asked for.
fn chosen(wanted: &[String], there: Vec<String>) -> Result<Vec<String>> {
    if let Some(unknown) = wanted.iter().find(|name| !there.contains(name)) {
        bail!("`{unknown}` is no target; they are {}", there.join(", "));
    }
    Ok(if wanted.is_empty() { there } else { wanted.to_vec() })
}

fn shown(input: Option<&Path>) -> String {
    input.map_or_else(|| "not there: the fuzzer itself has ended".into(), workspace::shown)
}

/// Where a target's inputs are while it is fuzzed.
#[derive(Debug)]
struct Folders {
    /// What covers more than what was there before, from run to run.
    found: PathBuf,
    /// What fails.
    failures: PathBuf,
    /// The least that covers all.
    least: PathBuf,
}

impl Folders {
    fn of(target: &str) -> Result<Self> {
        let folder = workspace::target().join("fuzz").join("inputs").join(target);
        let folders = Self {
            found: folder.join("corpus"),
            failures: folder.join("failures"),
            least: folder.join("least"),
        };
        for folder in [&folders.found, &folders.failures] {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        Ok(folders)
    }
}

/// Builds the targets with what counts their branches.
fn build(tools: &tools::Tools, targets: &[String]) -> Result<()> {
    let one = if let [target] = targets { Some(target) } else { None };
    let mut cargo = process::cargo();
    cargo.args(["fuzz", "build", "--fuzz-dir", "fuzz", "--sanitizer", "none"]);
    // One unit for each crate, the default, takes twice as long.
    cargo.args(["--codegen-units", "16", "--target-dir"]).arg(fuzz_target());
    cargo.args(one).env("PATH", &tools.path);
    eprintln!("Building the fuzz targets; the first time that takes minutes");
    process::run(&mut cargo, "building the fuzz targets")
}

/// Cargo's target folder for them.
fn fuzz_target() -> PathBuf {
    workspace::target().join("fuzz").join("build")
}

fn program(target: &str) -> Command {
    Command::new(fuzz_target().join("x86_64-unknown-linux-gnu/release").join(target))
}

/// A target that is fuzzed for so many seconds.
fn fuzzer(target: &str, folders: &Folders, seconds: u32) -> Command {
    let mut fuzzer = program(target);
    fuzzer.arg(&folders.found);
    fuzzer.arg(format!("-max_total_time={}", seconds.max(1)));
    fuzzer.arg(format!("-artifact_prefix={}/", folders.failures.display()));
    fuzzer.arg(format!("-timeout={HANGS}")).arg(format!("-max_len={LONGEST}"));
    fuzzer.arg("-rss_limit_mb=1024").env("RUST_BACKTRACE", "0");
    fuzzer.stdin(Stdio::null());
    fuzzer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_known_by_their_files() {
        let targets = targets().unwrap();
        assert!(targets.iter().any(|name| name == "manifest"), "{targets:?}");
        assert_eq!(chosen(&[], targets.clone()).unwrap(), targets);
        assert_eq!(chosen(&["uart".into()], targets.clone()).unwrap(), ["uart"]);
        let error = chosen(&["urat".into()], targets).unwrap_err().to_string();
        assert!(error.starts_with("`urat` is no target; they are acpi, "), "{error}");
    }
}
