//! The plan: `cargo xtask plan` says what a boot will do, and both refuse what cannot be had.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Boot, Finished, Guest, TENURE, xtask};
use libtest_mimic::Trial;

use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("plan::a_boot_does_what_the_host_planned", |name| {
            let mut boot = boot_of(name, &["1", "[1]", "1"])?;
            (boot.machine.cores, boot.machine.memory_mib) = (5, 600);
            same_plan(boot, &[("g0", "core 2 "), ("g1", "core 1 "), ("g2", "core 3 ")])
        }),
        trial("plan::hyper_threads_of_a_core_stay_with_one_guest", |name| {
            let mut boot = boot_of(name, &["1", "[5]", "1"])?;
            (boot.machine.cores, boot.machine.threads) = (8, 2);
            same_plan(boot, &[("g0", "core 2 "), ("g1", "core 5 "), ("g2", "core 6 ")])
        }),
        trial("plan::a_core_that_is_not_there_is_refused_at_boot", |name| {
            let mut boot = boot_of(name, &["[7]"])?;
            boot.machine.cores = 3;
            boot.start()?.expect_refusal(&[
                "guest \"g0\": cores = [7]: core 7 is not there; this machine's cores for guests are 1 to 2",
            ])
        }),
        trial("plan::a_core_that_is_not_there_is_refused", |_| {
            refused(
                &["[7]"],
                "guest \"g0\": cores = [7]: core 7 is not there; this machine's cores",
            )
        }),
        trial("plan::the_service_core_is_refused", |_| {
            let own = "guests.toml:12:9: guest \"g1\": cores = [0, 1]: must be a list of core numbers, each 1 to 63 \
                       and there once, for example [1, 2]; core 0 is the hypervisor's own";
            refused(&["1", "[0, 1]"], own)
        }),
        trial("plan::a_core_for_two_guests_is_refused", |_| {
            let both = "guests.toml:12:9: guest \"g1\": cores = [2, 1]: core 1 is named by guest \"g0\" in line 3 too; \
                        a core belongs to one guest";
            refused(&["[1]", "[2, 1]"], both)
        }),
        trial("plan::more_cores_than_there_are_are_refused", |_| {
            let sum = "the guests need 4 cores (g0 1, g1 3) besides the service core's, this machine has 3";
            refused(&["1", "3"], sum)
        }),
        trial("plan::half_a_physical_core_is_refused", |_| {
            let message = "guest \"g1\": cores = [3]: core 3 is a hyper-thread of the same physical core as core 2, \
                           which is guest \"g0\"'s";
            plan_of(&["[2]", "[3]"], &["--cores", "4", "--threads", "2"])?.expect(1, &[message])
        }),
        trial("plan::a_log_without_a_machine_is_named", |_| {
            let arguments = ["--machine", "/etc/passwd"];
            plan_of(&["1"], &arguments)?.expect(1, &["/etc/passwd: no line \"machine: cores …\""])
        }),
    ]
}

/// The manifest with guests `g0`, `g1` and so on that have these cores.
fn manifest(cores: &[&str], kernel: &str) -> String {
    let guest = |(index, cores): (usize, &&str)| {
        format!(
            "[[guest]]\nname = \"g{index}\"\ncores = {cores}\nmemory = \"16 MiB\"\nkernel = \"{kernel}\"\n{TENURE}"
        )
    };
    cores.iter().enumerate().map(guest).collect()
}

/// The guest *hello* as often as there are `cores`.
fn boot_of(name: &str, cores: &[&str]) -> Result<Boot> {
    let boot = Boot::of_guests(name, &[Guest::new("hello")])?;
    let text = fs::read_to_string(boot.manifest())?;
    let kernel = text.split('\'').nth(1).context("the kernel's path")?;
    fs::write(boot.manifest(), manifest(cores, kernel))?;
    Ok(boot)
}

/// `cargo xtask plan` with guests that have these cores.
fn plan_of(cores: &[&str], arguments: &[&str]) -> Result<Finished> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("guests.toml");
    // Nobody looks at the kernel for a plan.
    fs::write(&path, manifest(cores, "missing.elf"))?;
    let arguments: Vec<_> = arguments.iter().map(OsStr::new).collect();
    plan(&path, &folder.path().join("plan.svg"), &arguments)
}

fn plan(manifest: &Path, picture: &Path, arguments: &[&OsStr]) -> Result<Finished> {
    let first = ["plan".as_ref(), manifest.as_os_str(), "-o".as_ref(), picture.as_os_str()];
    xtask(&[&first, arguments].concat(), "")
}

/// There is no plan of guests with these cores on a machine with three, for this reason.
fn refused(cores: &[&str], message: &str) -> Result<()> {
    plan_of(cores, &["--cores", "3"])?.expect(1, &[message])
}

/// The guests get these cores, and the boot's log says of them what was printed on the host before.
fn same_plan(boot: Boot, expected: &[(&str, &str)]) -> Result<()> {
    let machine = boot.machine.clone();
    let manifest = boot.manifest().to_owned();
    let picture = machine.folder.join("plan.svg");
    let [cores, threads, memory] =
        [machine.cores, machine.threads, machine.memory_mib].map(|number| number.to_string());
    let size = ["--cores", &cores, "--threads", &threads, "--memory", &memory].map(OsStr::new);
    let planned = plan(&manifest, &picture, &size)?;
    planned.expect(0, &["plan.svg"])?;
    for (guest, core) in expected {
        let line = format!("\nguest {guest}: {core}");
        ensure!(planned.output.contains(&line), "{line} is not in {}", planned.output);
    }
    ensure!(fs::read_to_string(&picture)?.contains("g0: 16 MiB, "), "the picture lacks g0");

    let mut console = boot.start()?;
    console.expect_power_off(u32::try_from(expected.len())?)?;
    let transcript = console.transcript();
    let logged: Vec<_> =
        transcript.lines().filter_map(|line| Some(line.split_once("] plan: ")?.1)).collect();
    // What is free is known only at boot, as it depends on the length of the bundle: in the first line, and at the end of
    // the last.
    let known = |line: &str| {
        let start = line.split(", free ").next().unwrap_or(line);
        match line.strip_prefix("left over: ").and_then(|rest| rest.rsplit_once(", ")) {
            Some((cores, _)) => cores.to_string(),
            None => start.to_string(),
        }
    };
    let both: [Vec<_>; 2] =
        [planned.output.lines().map(known).collect(), logged.iter().copied().map(known).collect()];
    ensure!(both[0] == both[1], "planned: {:#?}\nlogged: {:#?}", both[0], both[1]);

    // Of the machine that the log describes the plan is the same to the byte.
    let log = machine.folder.join("boot.log");
    fs::write(&log, &transcript)?;
    let again = plan(&manifest, &picture, &["--machine".as_ref(), log.as_os_str()])?;
    again.expect(0, &[])?;
    let again: Vec<_> = again.output.lines().collect();
    ensure!(again == logged, "planned: {again:#?}\nlogged: {logged:#?}");
    Ok(())
}
