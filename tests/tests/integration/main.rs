//! The integration tests. `cargo xtask test` runs them, with everything built that they need.

mod boot;
mod commands;
mod linux;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let mut arguments = Arguments::from_args();
    // Each of them keeps a core busy: more at a time would only be slower, each of them.
    arguments.test_threads.get_or_insert(2);
    let trials = [boot::trials(), commands::trials(), linux::trials()];
    libtest_mimic::run(&arguments, trials.into_iter().flatten().collect()).exit();
}

/// A test of this name, which gets its name.
fn trial(name: &'static str, test: fn(&str) -> anyhow::Result<()>) -> Trial {
    Trial::test(name, move || test(name).map_err(|error| format!("{error:#}").into()))
}
