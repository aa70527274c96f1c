//! `cargo xtask test`: the unit tests of all crates on the host, then the integration tests in the
//! emulators, counted together.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::hypervisor::{self, Variant};
use crate::toolchain::Toolchain;
use crate::{guests, image, packages, process};

/// Tells the integration tests which program `cargo xtask` is.
pub const XTASK: &str = "BULKHEAD_XTASK";

/// How many operations the test `random::*` does, and out of which seed, when [`fuzz`] runs it.
pub const FUZZ_OPERATIONS: &str = "BULKHEAD_FUZZ_OPERATIONS";
/// See [`FUZZ_OPERATIONS`].
pub const FUZZ_SEED: &str = "BULKHEAD_FUZZ_SEED";

/// Passed and failed tests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
}

/// Runs all tests whose names contain the filter. Gives the exit status.
pub fn run(filter: Option<&str>) -> Result<u8> {
    let mut counts = Counts::default();
    count("the unit tests", unit_tests().args(after_dashes(filter)), &mut counts)?;
    // With a filter that leaves no integration test, nothing has to be built for them.
    if !names(&mut integration_tests(), filter)?.is_empty() {
        prepare()?;
        let mut tests = integration_tests();
        count("the integration tests", tests.args(after_dashes(filter)), &mut counts)?;
    }
    if let Some(filter) = filter.filter(|_| counts.passed + counts.failed == 0) {
        bail!("no test's name contains `{filter}`; `cargo xtask test --list` shows their names");
    }
    println!("{} passed, {} failed", counts.passed, counts.failed);
    Ok(u8::from(counts.failed > 0))
}

/// Has guests do so many operations out of a seed. Gives the exit status.
pub fn fuzz(operations: u64, seed: u64) -> Result<u8> {
    prepare()?;
    eprintln!(
        "{operations} operations, seed {seed}; how far it is: target/tests/random-*/serial.log"
    );
    let mut tests = integration_tests();
    tests.env(FUZZ_OPERATIONS, operations.to_string()).env(FUZZ_SEED, seed.to_string());
    let mut counts = Counts::default();
    count("the random guests", tests.args(after_dashes(Some("random::"))), &mut counts)?;
    Ok(u8::from(counts.failed > 0 || counts.passed == 0))
}

/// Lists all tests whose names contain the filter. Gives the exit status.
pub fn list(filter: Option<&str>) -> Result<u8> {
    for mut command in [unit_tests(), integration_tests()] {
        for name in names(&mut command, filter)? {
            println!("{name}");
        }
    }
    Ok(0)
}

fn unit_tests() -> Command {
    let mut cargo = process::cargo();
    // Those of the test guests run in the guests.
    cargo.args(["test", "--quiet", "--workspace", "--no-fail-fast"]);
    cargo.args(["--exclude", "bulkhead-guests", "--exclude", "bulkhead-tests"]);
    cargo.args(["--lib", "--bins", "--tests"]);
    cargo
}

fn integration_tests() -> Command {
    let mut cargo = process::cargo();
    cargo.args(["test", "--quiet", "--package", "bulkhead-tests", "--no-fail-fast"]);
    cargo.args(["--lib", "--tests"]);
    if let Ok(xtask) = std::env::current_exe() {
        cargo.env(XTASK, xtask);
    }
    cargo
}

fn after_dashes(filter: Option<&str>) -> Vec<&str> {
    std::iter::once("--").chain(filter).collect()
}

/// Builds what the integration tests use, where its progress can be seen.
fn prepare() -> Result<()> {
    packages::ensure(&[packages::BOCHS, packages::QEMU, packages::OVMF].concat())?;
    let toolchain = Toolchain::find()?;
    for variant in [Variant::Testing, Variant::Plain] {
        hypervisor::build(&toolchain, variant)?;
    }
    guests::build_test_guests(&toolchain)?;
    image::build_writer(&toolchain).map(|_| ())
}

fn names(command: &mut Command, filter: Option<&str>) -> Result<Vec<String>> {
    command.args(after_dashes(filter)).arg("--list");
    let listed = process::capture(command, "listing the tests")?;
    let tests = listed.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(tests.map(String::from).collect())
}

/// Runs tests, shows what they print and adds up their results.
fn count(what: &str, command: &mut Command, counts: &mut Counts) -> Result<()> {
    eprintln!("Running {what}");
    command.stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| process::line(command))?;
    let mut found = Counts::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            // Not `println!`: what a test prints need not be text.
            let mut out = std::io::stdout().lock();
            out.write_all(&line)
                .and_then(|()| out.write_all(b"\n"))
                .context("showing the tests")?;
            if let Some(result) = result(&String::from_utf8_lossy(&line)) {
                found.passed += result.passed;
                found.failed += result.failed;
            }
        }
    }
    if !child.wait()?.success() && found.failed == 0 {
        // They did not compile, or ended without a result.
        found.failed = 1;
    }
    counts.passed += found.passed;
    counts.failed += found.failed;
    Ok(())
}

/// The counts in the line that ends the tests of one program.
fn result(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let mut counts = Counts::default();
    for part in rest.split("; ") {
        match part.split_once(' ') {
            Some((number, "passed")) => counts.passed = number.parse().ok()?,
            Some((number, "failed")) => counts.failed = number.parse().ok()?,
            _ => {}
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_from_their_line() {
        let line = "test result: ok. 24 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; \
                    finished in 0.21s";
        assert_eq!(result(line), Some(Counts { passed: 24, failed: 0 }));
        let line = "test result: FAILED. 1 passed; 2 failed; 0 ignored";
        assert_eq!(result(line), Some(Counts { passed: 1, failed: 2 }));
        assert_eq!(result("running 24 tests"), None);
    }

    #[test]
    fn tests_that_do_not_compile_count_as_one_failure() {
        let mut counts = Counts::default();
        count("nothing", Command::new("sh").args(["-c", "exit 101"]), &mut counts).unwrap();
        assert_eq!(counts, Counts { passed: 0, failed: 1 });
    }
}
