//! The integration tests. `cargo xtask test` runs them, with everything built that they need.

mod attacks;
mod boot;
mod client;
mod commands;
mod consoles;
mod containment;
mod control;
mod define;
mod faults;
mod guests;
mod hardening;
mod idle;
mod kernels;
mod lifecycle;
mod linux;
mod memtest;
mod operators;
mod partitions;
mod plan;
mod random;
mod screen;
mod smp;
mod sprawl;
mod verbs;
mod xapic;

use std::sync::LazyLock;

use anyhow::anyhow;
use libtest_mimic::{Arguments, Trial};

/// More than the machines that may run at a time, as some tests wait for others' machines.
const THREADS: usize = 6;

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let trials = [
        attacks::trials(),
        boot::trials(),
        commands::trials(),
        consoles::trials(),
        containment::trials(),
        control::trials(),
        faults::trials(),
        guests::trials(),
        hardening::trials(),
        idle::trials(),
        lifecycle::trials(),
        kernels::trials(),
        linux::trials(),
        operators::trials(),
        partitions::trials(),
        smp::trials(),
        sprawl::trials(),
        verbs::trials(),
        define::trials(),
        xapic::trials(),
        plan::trials(),
        random::trials(),
        screen::trials(),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials.into_iter().flatten().collect());
    attacks::print_table();
    conclusion.exit();
}

/// A test of this name, which gets its name.
fn trial(name: &'static str, test: fn(&str) -> anyhow::Result<()>) -> Trial {
    Trial::test(name, move || test(name).map_err(|error| format!("{error:#}").into()))
}

/// What a boot gave that several tests look at; the first of them starts it.
fn of<T>(boot: &'static LazyLock<Result<T, String>>) -> anyhow::Result<&'static T> {
    boot.as_ref().map_err(|error| anyhow!("{error}"))
}
