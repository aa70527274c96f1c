//! What `cargo xtask` says to bad input, and `flash`.

use std::ffi::OsStr;
use std::fs;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, ensure};
use bulkhead_tests::{Boot, Finished, Guest, Permit, Terminal, xtask};
use libtest_mimic::Trial;

use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("manifest::an_unknown_key_is_named", |_| {
            let unknown =
                "guests.toml:3:1: guest \"one\": unknown key \"coers\" (did you mean \"cores\"?)";
            refused(&GOOD.replace("cores", "coers"), unknown)
        }),
        trial("manifest::a_missing_kernel_file_is_named", |_| {
            let missing =
                "guests.toml:5:10: guest \"one\": kernel = \"missing.elf\": there is no file";
            refused(GOOD, missing)
        }),
        trial("manifest::zero_cores_are_refused", |_| {
            let zero = "guests.toml:3:9: guest \"one\": cores = 0: must be a whole number of cores";
            refused(&GOOD.replace("cores = 1", "cores = 0"), zero)
        }),
        trial("manifest::two_guests_of_one_name_are_refused", |_| {
            let twice = "guests.toml:12:8: guest \"one\": the guest in line 2 has this name too";
            refused(&format!("{GOOD}\n{GOOD}"), twice)
        }),
        trial("manifest::a_kernel_that_is_none_is_refused", |_| {
            refused(
                &GOOD.replace("missing.elf", "/etc/passwd"),
                "a bzImage, an ELF64 executable, a PVH kernel or a Multiboot kernel is needed",
            )
        }),
        trial("manifest::a_manifest_that_is_not_there_is_named", |_| {
            let run = xtask(&["run", "/nonexistent/guests.toml"], "")?;
            run.expect(1, &["/nonexistent/guests.toml"])
        }),
        trial("run::ends_with_0_when_its_guest_powers_off", |name| {
            let run = run(name, Guest::new("hello"))?;
            run.expect(0, &["Emulator: Bochs"])?;
            ensure!(run.output.contains("hello from a hand-written guest"), "{}", run.output);
            Ok(())
        }),
        trial("run::ends_with_1_when_a_guest_faults", |name| {
            let run = run(name, Guest::new("triple_fault"))?;
            run.expect(1, &[])?;
            ensure!(run.output.contains("stopped: triple fault"), "{}", run.output);
            Ok(())
        }),
        trial("run::ends_with_1_when_the_hypervisor_refuses", |name| {
            let guests = [Guest::new("hello")];
            let boot = Boot::of_guests(name, &guests)?;
            let run = run_with(&boot, &["--cores".as_ref(), "1".as_ref()])?;
            run.expect(1, &[])?;
            ensure!(run.output.contains("refused: this machine has one core"), "{}", run.output);
            Ok(())
        }),
        trial("run::without_a_terminal_lines_have_their_guests_names", |name| {
            let guests = ["one", "two"].map(|name| Guest::new("hello").named(name));
            let run = run_with(&Boot::of_guests(name, &guests)?, &[])?;
            run.expect(0, &[])?;
            for guest in ["one", "two"] {
                let line = format!("{guest}: hello from a hand-written guest\r\n");
                ensure!(run.output.contains(&line), "{}", run.output);
            }
            ensure!(!run.output.contains('\x1d'), "{}", run.output);
            Ok(())
        }),
        trial("run::keys_switch_between_consoles", switch),
        trial("flash::a_file_is_written_only_after_yes", flash),
        trial("flash::a_null_device_is_refused", |_| {
            let flash = xtask(&["flash", "--image", "/etc/passwd", "/dev/null"], "yes\n")?;
            flash.expect(1, &["/dev/null is not a disk"])
        }),
    ]
}

/// A manifest in which nothing is wrong but that its kernel is not there.
const GOOD: &str = "[[guest]]\nname = \"one\"\ncores = 1\nmemory = \"16 MiB\"\n\
                    kernel = \"missing.elf\"\nowner = \"tests\"\npurpose = \"a test\"\n\
                    classification = \"test\"\nexpires = \"never\"\n";

/// `cargo xtask image` refuses a manifest with this message, and writes no image.
fn refused(manifest: &str, message: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("guests.toml");
    fs::write(&path, manifest)?;
    let image = folder.path().join("out.img");
    let arguments = ["image".as_ref(), path.as_os_str(), "-o".as_ref(), image.as_os_str()];
    xtask(&arguments, "")?.expect(1, &[message])?;
    ensure!(!image.exists(), "an image was written");
    Ok(())
}

/// `cargo xtask run` with a guest, in Bochs, with nothing typed.
fn run(name: &str, guest: Guest) -> Result<Finished> {
    run_with(&Boot::of_guests(name, &[guest])?, &[])
}

/// There is one folder for `run`: only one at a time can use it.
pub static ONE: Mutex<()> = Mutex::new(());

fn run_with(boot: &Boot, more: &[&OsStr]) -> Result<Finished> {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let _permit = Permit::wait();
    let arguments = ["run".as_ref(), "--emulator".as_ref(), "bochs".as_ref()];
    xtask(&[&arguments, more, &[boot.manifest().as_os_str()]].concat(), "")
}

/// `cargo xtask run --plain` on a terminal, with two guests.
fn switch(name: &str) -> Result<()> {
    const CLEARED: &str = "\x1b[H";
    let guests =
        ["one", "two"].map(|name| Guest::new("echo").named(name).with(&format!("name={name}")));
    let boot = Boot::of_guests(name, &guests)?;
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let _permit = Permit::wait();
    let run = ["run", "--plain", "--emulator", "bochs"].map(OsStr::new);
    let run = [run.as_slice(), &[boot.manifest().as_os_str()]].concat();
    let mut terminal = Terminal::start(&run, (80, 24))?;
    terminal.wait_for("The keys go to guest one now")?;
    // The log, then the first guest's console alone.
    terminal.wait_for("plan: guest two")?;
    terminal.wait_for("one: ready")?;
    terminal.press("first\r")?;
    let shown = terminal.wait_for("one: got \"first\"")?;
    ensure!(!shown.contains("two"), "{shown}");

    terminal.press("\x1dn")?;
    terminal.wait_for("[bulkhead: keys go to one; q quit, c continue, ? help] ")?;
    terminal.wait_for(CLEARED)?;
    // What it has said before is shown again.
    terminal.wait_for("two: ready")?;
    terminal.press("second\r")?;
    let shown = terminal.wait_for("two: got \"second\"")?;
    ensure!(!shown.contains("one"), "{shown}");

    terminal.press("\x1da")?;
    for line in [
        "one:\x1b[0m one: ready",
        "one:\x1b[0m one: got \"first\"",
        "two:\x1b[0m two: got \"second\"",
    ] {
        terminal.wait_for(line)?;
    }
    terminal.press("\x1dl")?;
    terminal.wait_for(CLEARED)?;
    terminal.wait_for("guest two: starting on core 2")?;

    terminal.press("\x1d1quit\r")?;
    terminal.wait_for("guest one: powered off")?;
    // The keys now go where they can be seen.
    terminal.wait_for("input goes to guest two: guest one has stopped")?;
    terminal.press("quit\r")?;
    terminal.wait_for("two: got \"quit\"")?;
    terminal.wait_for("all guests stopped: 2 powered off, 0 faulted")?;
    let status = terminal.wait()?;
    ensure!(status == 0, "exit status {status}");
    Ok(())
}

fn flash(_: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (image, device) = (folder.path().join("image"), folder.path().join("device"));
    fs::write(&image, vec![0x5a; 5 << 20])?;
    fs::write(&device, vec![0; 8 << 20])?;
    let arguments = |extra: &'static [&'static str]| {
        let mut arguments = vec!["flash".as_ref(), "--image".as_ref(), image.as_os_str()];
        arguments.extend(extra.iter().map(|word| std::ffi::OsStr::new(*word)));
        arguments.push(device.as_os_str());
        arguments
    };
    xtask(&arguments(&[]), "yes\n")?.expect(1, &["--allow-loop"])?;
    xtask(&arguments(&["--allow-loop"]), "no\n")?.expect(1, &["Nothing was written"])?;
    ensure!(fs::read(&device)?.iter().all(|&byte| byte == 0), "it was written without leave");
    xtask(&arguments(&["--allow-loop"]), "yes\n")?.expect(0, &["This is on it"])?;
    let now = fs::read(&device)?;
    ensure!(now.len() == 8 << 20 && now[..5 << 20].iter().all(|&byte| byte == 0x5a));
    ensure!(now[5 << 20..].iter().all(|&byte| byte == 0), "more was written than the image");
    Ok(())
}
