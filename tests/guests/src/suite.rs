//! Tests that run in a guest, and how their results are printed:
//!
//! ```text
//! test TITLE ... ok
//! test TITLE ... skipped: REASON
//! test TITLE ... FAILED: REASON (WHAT IT TRIES)
//! 12 passed, 1 failed, 1 skipped
//! ```

use crate::boot::BootParams;
use crate::fault::{Fault, expect_fault, name};
use crate::{power, print, println};
use core::fmt::{self, Write};
use heapless::String;

/// A test.
#[derive(Clone, Copy)]
pub struct Test {
    /// What has to hold.
    pub title: &'static str,
    /// What is tried to see whether it does.
    pub what: &'static str,
    /// Tries it.
    pub run: fn(&BootParams) -> Outcome,
}

/// Why a test did not pass.
#[derive(Clone, Debug)]
pub enum Shortfall {
    /// What should hold does not.
    Failed(Reason),
    /// What it needs is not there, and need not be.
    Skipped(Reason),
}

/// Most bytes of a reason; the rest is cut off.
const REASON_LENGTH: usize = 104;

/// A reason, in words.
#[derive(Clone, Debug, Default)]
pub struct Reason(String<REASON_LENGTH>);

impl Reason {
    /// From `format_args!`.
    pub fn new(arguments: fmt::Arguments<'_>) -> Self {
        let mut reason = Self::default();
        // Cannot fail but for a `Display` that does.
        let _ = reason.write_fmt(arguments);
        reason
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Write for Reason {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            if self.0.push(letter).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// What a test comes to.
pub type Outcome = Result<(), Shortfall>;

/// Ends a test: it failed, for a reason given as to `format!`.
#[macro_export]
macro_rules! fail {
    ($($argument:tt)*) => {
        return Err($crate::suite::Shortfall::Failed($crate::suite::Reason::new(
            ::core::format_args!($($argument)*),
        )))
    };
}

/// Ends a test: it cannot be run here, for a reason given as to `format!`.
#[macro_export]
macro_rules! skip {
    ($($argument:tt)*) => {
        return Err($crate::suite::Shortfall::Skipped($crate::suite::Reason::new(
            ::core::format_args!($($argument)*),
        )))
    };
}

/// Fails a test unless a condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($argument:tt)*) => {
        if !$condition {
            $crate::fail!($($argument)*);
        }
    };
}

/// Fails unless a number, named by what comes first, is the one expected.
pub fn same(what: impl fmt::Display, got: u64, expected: u64) -> Outcome {
    ensure!(got == expected, "{what} is {got:#x}, not {expected:#x}");
    Ok(())
}

/// Fails unless `attempt` raises the exception `vector` with an error code of 0.
pub fn faults(what: impl fmt::Display, vector: u8, attempt: impl FnOnce()) -> Outcome {
    match expect_fault(attempt) {
        Some(Fault { vector: came, error_code: 0, .. }) if came == vector => Ok(()),
        Some(fault) => fail!("{what}: {fault}, not {}", name(vector)),
        None => fail!("{what}: no {}", name(vector)),
    }
}

/// Fails if `attempt` raises an exception.
pub fn works(what: impl fmt::Display, attempt: impl FnOnce()) -> Outcome {
    match expect_fault(attempt) {
        Some(fault) => fail!("{what}: {fault}"),
        None => Ok(()),
    }
}

/// Runs the tests whose titles have the text that `test=` on the command line names in them, all
/// without it; then powers off.
pub fn run(boot: &BootParams, groups: &[&[Test]]) -> ! {
    let filter = boot.option("test").unwrap_or("");
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for test in groups.iter().copied().flatten().filter(|test| test.title.contains(filter)) {
        // Printed before, so that the console shows which one did not come back.
        print!("test {} ... ", test.title);
        match run_one(test, boot) {
            Ok(()) => {
                passed += 1;
                println!("ok");
            }
            Err(Shortfall::Skipped(Reason(reason))) => {
                skipped += 1;
                println!("skipped: {reason}");
            }
            Err(Shortfall::Failed(Reason(reason))) => {
                failed += 1;
                println!("FAILED: {reason} ({})", test.what);
            }
        }
    }
    match skipped {
        0 => println!("{passed} passed, {failed} failed"),
        _ => println!("{passed} passed, {failed} failed, {skipped} skipped"),
    }
    power::power_off()
}

/// An exception that a test does not expect is its failure, and not the guest's end.
fn run_one(test: &Test, boot: &BootParams) -> Outcome {
    let mut outcome = Ok(());
    match expect_fault(|| outcome = (test.run)(boot)) {
        Some(fault) => fail!("unexpected {fault}"),
        None => outcome,
    }
}
