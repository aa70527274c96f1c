//! Debian's Linux as a guest.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Boot, DEMO, Summary, summary};
use libtest_mimic::Trial;

use crate::{of, trial};

/// The prompt of the demo's shell.
const PROMPT: &str = "debian:/root# ";

/// What the shell said in the one boot that most of these tests look at.
struct Session {
    uname: String,
    /// Seconds since 1970 by the guest's `date`, and the host's before and after.
    date: u64,
    host: (u64, u64),
    free: String,
    interrupts: String,
    pipes: String,
    warnings: String,
    transcript: String,
}

static SESSION: LazyLock<Result<Session, String>> =
    LazyLock::new(|| session().map_err(|error| format!("{error:#}")));

fn session() -> Result<Session> {
    let now = || -> Result<u64> { Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs()) };
    let before = now()?;
    let mut console = Boot::new("linux::session", DEMO).start()?;
    console.wait_for(PROMPT)?;
    let mut shell = |command: &str| console.command(command, PROMPT);
    let uname = shell("uname -a")?;
    let date = shell("date +%s")?;
    let free = shell("free")?;
    let interrupts = shell("cat /proc/interrupts")?;
    // Two processes that start at once, many times over: each begins with vector instructions.
    let pipes = shell("for i in $(seq 40);do busybox ls -la /|busybox cat>/o;done")?;
    // Not longer than a line of the terminal, where the shell would break it.
    let warnings = shell("dmesg|grep -E 'unchecked|WARNING: CPU|BUG:|Trace:|segf';echo =$?")?;
    console.send("poweroff\n")?;
    console.expect_power_off(1)?;
    Ok(Session {
        uname,
        date: date.trim().parse().with_context(|| format!("`date +%s` says {date}"))?,
        host: (before, now()?),
        free,
        interrupts,
        pipes,
        warnings,
        transcript: console.transcript(),
    })
}

pub fn trials() -> Vec<Trial> {
    vec![
        trial("linux::is_debians_kernel", |_| {
            let uname = &of(&SESSION)?.uname;
            let expected = uname.starts_with("Linux debian ") && uname.contains("-cloud-amd64 ");
            ensure!(expected && uname.contains(" Debian "), "{uname}");
            Ok(())
        }),
        trial("linux::shows_the_hosts_date", |_| {
            // Emulated time is not real time: it may run ahead, or behind.
            const HOURS: u64 = 3 * 3600;
            let Session { date, host: (before, after), .. } = of(&SESSION)?;
            ensure!((before - HOURS..=after + HOURS).contains(date), "{date}, not {before}");
            Ok(())
        }),
        trial("linux::has_the_memory_of_its_manifest", |_| {
            // Of 128 MiB the kernel itself keeps a good part.
            let free = &of(&SESSION)?.free;
            let total = number_behind(free, "Mem:")?;
            ensure!((80 << 10..128 << 10).contains(&total), "{free}");
            Ok(())
        }),
        trial("linux::gets_interrupts_of_timer_and_serial_port", |_| {
            let interrupts = &of(&SESSION)?.interrupts;
            ensure!(number_behind(interrupts, "LOC:")? > 100, "{interrupts}");
            // All that was typed came by interrupt.
            let serial = interrupts.lines().find(|line| line.ends_with(" ttyS0"));
            let serial = serial.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
            ensure!(serial.is_some_and(|count: u32| count > 20), "{interrupts}");
            ensure!(number_behind(interrupts, "ERR:")? == 0, "{interrupts}");
            Ok(())
        }),
        trial("linux::keeps_the_registers_of_its_processes", |_| {
            // A process that finds another's registers, or none, complains or crashes.
            let pipes = &of(&SESSION)?.pipes;
            ensure!(pipes.is_empty(), "{pipes}");
            Ok(())
        }),
        trial("linux::warns_of_nothing", |_| {
            let warnings = &of(&SESSION)?.warnings;
            ensure!(warnings == "=1\n", "{warnings}");
            Ok(())
        }),
        trial("linux::turns_x2apic_mode_on", |_| {
            let transcript = &of(&SESSION)?.transcript;
            ensure!(transcript.contains("x2apic enabled"), "{transcript}");
            Ok(())
        }),
        trial("linux::powers_off_with_a_summary", |_| {
            let transcript = &of(&SESSION)?.transcript;
            let summary = summary(transcript, "debian")?;
            let Summary { ran, in_exits, exits, by_reason } = &summary;
            ensure!(by_reason.values().sum::<u64>() == *exits, "{summary:?}");
            ensure!(*in_exits > 0 && in_exits < ran, "{summary:?}");
            ensure!(summary.of("CPUID") > 0 && summary.of("I/O instruction") > 0, "{summary:?}");
            // Those that a guest has of its own, without the hypervisor.
            for reason in ["external interrupt", "HLT", "RDTSC", "PAUSE", "INVLPG"] {
                ensure!(summary.of(reason) == 0, "{reason}: {summary:?}");
            }
            Ok(())
        }),
    ]
}

/// The number behind the first word that is `label`.
fn number_behind(text: &str, label: &str) -> Result<u64> {
    let mut words = text.split_whitespace().skip_while(|word| *word != label).skip(1);
    words.next().and_then(|word| word.parse().ok()).with_context(|| format!("{label} in {text}"))
}
