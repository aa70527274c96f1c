//! Three guests at once, each on cores and memory of its own: Debian with two processors, Debian with
//! one, and a heart that must not miss a beat.

use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Boot, Console, TENURE, program};
use libtest_mimic::Trial;

use crate::{of, trial};

const PROMPT: &str = "debian:/root# ";
/// A minute of emulated time, at the rate of 10 MHz that Bochs is given.
const MINUTE: u64 = 60 * 10_000_000;
/// Of the heart, in ticks, and what it may be late: as beside storms.
const PERIOD: u64 = 1_000_000;
const BEATS: u64 = 2000;
const LATE: u64 = 100;

/// What was seen in the one boot that these tests look at.
struct Seen {
    /// `nproc` of both Linuxes.
    processors: [String; 2],
    /// The two processors' time in user mode, before and after each was given work.
    user: [[u64; 2]; 2],
    /// Exits in an idle minute, and in one in which all processors compute: of both Linuxes.
    idle: Minute,
    busy: Minute,
    /// Timer interrupts of the first in the busy minute.
    timer: u64,
    warnings: [String; 2],
    heart: String,
    /// What the hypervisor said when both Linuxes were to stop.
    asked: Vec<String>,
}

/// A minute in which nobody types: exits of both Linuxes, and what they said.
struct Minute {
    exits: [u64; 2],
    said: [String; 2],
}

static SEEN: LazyLock<Result<Seen, String>> =
    LazyLock::new(|| seen().map_err(|error| format!("{error:#}")));

/// Work that is bound to no processor goes to the first. Else it goes to any that sleeps, by an IPI, which
/// is an exit: an idle Linux flushes the statistics of its control groups every few seconds. The timer of
/// that may be one that wakes nobody, so this is said before there is other work, which lets it expire.
const WORK_ON_FIRST: &str = "echo 1 >/sys/devices/virtual/workqueue/cpumask";

const LINUXES: [&str; 2] = ["two", "one"];

fn boot() -> Result<Boot> {
    let demo = xtask::workspace::root().join("demo/init");
    // Linux's own watchdog wakes each processor every 16 seconds, which then asks the other to look at
    // its share of the load: two IPIs, and two exits.
    let linux = |name: &str, cores: u32| {
        format!(
            "[[guest]]\nname = \"{name}\"\ncores = {cores}\nmemory = \"160 MiB\"\n\
             kernel = {{ debian = \"linux-image-cloud-amd64\" }}\ninitrd = {{ busybox = '{}', modules = [\"button\", \"evdev\"] }}\n\
             cmdline = \"console=ttyS0 cryptomgr.notests nowatchdog\"\n{TENURE}\n",
            demo.display()
        )
    };
    let heart = format!(
        "[[guest]]\nname = \"heart\"\ncores = 1\nmemory = \"16 MiB\"\nkernel = '{}'\n\
         cmdline = \"period={PERIOD} beats={BEATS}\"\n{TENURE}",
        program("heartbeat")?.display()
    );
    let text = linux(LINUXES[0], 2) + &linux(LINUXES[1], 1) + &heart;
    let mut boot = Boot::of_text_with_operator("partitions", &text)?;
    boot.machine.cores = 5;
    Ok(boot)
}

fn seen() -> Result<Seen> {
    let mut console = boot()?.start()?;
    for name in LINUXES {
        console.guest(name)?.wait_for(PROMPT)?;
    }
    console.guest("two")?.command(WORK_ON_FIRST, PROMPT)?;
    let processors = both(&mut console, "nproc")?;
    let before = user(&mut console)?;
    let work = |mask: u32| {
        format!("(taskset {mask} sh -c 'i=0;while [ $i -lt 9999 ];do i=$((i+1));done') &")
    };
    for mask in [1, 2] {
        console.guest("two")?.command(&work(mask), PROMPT)?;
    }
    console.guest("two")?.command("wait", PROMPT)?;
    let user = [before, user(&mut console)?];
    let idle = minute(&mut console)?;
    let timer = interrupts(&mut console)?;
    for name in ["two", "two", "one"] {
        console.guest(name)?.command("(while :;do :;done) &", PROMPT)?;
    }
    let busy = minute(&mut console)?;
    let timer = interrupts(&mut console)? - timer;
    let found = "dmesg|grep -E 'unchecked|WARNING: CPU|BUG:|Trace:|segf';echo =$?";
    let warnings = both(&mut console, found)?;
    let mut heart = console.guest("heart")?;
    heart.wait_for("intervals: ")?;
    let heart = heart.wait_for("\r\n")?;
    // What runs in them has to end first, and they obey all the same.
    let mut asked = Vec::new();
    for name in LINUXES {
        asked.push(console.control(&format!("stop {name}"))?);
        console.wait_for(&format!("guest {name}: powered off"))?;
    }
    console.expect_power_off(3)?;
    Ok(Seen { processors, user, idle, busy, timer, warnings, heart, asked })
}

/// What a command says in each of the Linuxes.
fn both(console: &mut Console, command: &str) -> Result<[String; 2]> {
    let mut of = |name| console.guest(name)?.command(command, PROMPT);
    Ok([of(LINUXES[0])?.trim().into(), of(LINUXES[1])?.trim().into()])
}

/// Time of both processors of the first Linux in user mode, in hundredths of a second.
fn user(console: &mut Console) -> Result<[u64; 2]> {
    let said = console.guest("two")?.command("grep cpu[01] /proc/stat", PROMPT)?;
    let of = |cpu: &str| -> Result<u64> {
        let line = said.lines().find_map(|line| line.strip_prefix(cpu));
        let word = line.and_then(|line| line.split_whitespace().next());
        word.and_then(|word| word.parse().ok()).with_context(|| format!("no {cpu} in {said}"))
    };
    Ok([of("cpu0 ")?, of("cpu1 ")?])
}

/// Interrupts of the timers of both processors of the first Linux.
fn interrupts(console: &mut Console) -> Result<u64> {
    let said = console.guest("two")?.command("grep LOC: /proc/interrupts", PROMPT)?;
    let counts = said.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok());
    Ok(counts.sum())
}

/// Lets a minute pass in which nobody types.
fn minute(console: &mut Console) -> Result<Minute> {
    // What was typed last has its end.
    console.let_pass(MINUTE / 6)?;
    let said = |console: &mut Console| -> Result<[String; 2]> {
        Ok([console.guest(LINUXES[0])?.transcript(), console.guest(LINUXES[1])?.transcript()])
    };
    let (exits_before, said_before) = (exits(console)?, said(console)?);
    console.let_pass(MINUTE)?;
    let (exits, said) = (exits(console)?, said(console)?);
    let new = |index: usize| said[index][said_before[index].len()..].to_string();
    Ok(Minute {
        exits: [exits[0] - exits_before[0], exits[1] - exits_before[1]],
        said: [new(0), new(1)],
    })
}

fn exits(console: &mut Console) -> Result<[u64; 2]> {
    let mut of = |name: &str| -> Result<u64> {
        let answer = console.control(&format!("info {name} --json"))?;
        let info: serde_json::Value = serde_json::from_str(&answer).context(answer.clone())?;
        info["exits"].as_u64().context(answer)
    };
    Ok([of(LINUXES[0])?, of(LINUXES[1])?])
}

pub fn trials() -> Vec<Trial> {
    vec![
        trial("partitions::each_linux_has_the_processors_of_its_manifest", |_| {
            let processors = &of(&SEEN)?.processors;
            ensure!(processors == &["2", "1"], "{processors:?}");
            Ok(())
        }),
        trial("partitions::linux_works_on_both_processors", |_| {
            let [before, after] = of(&SEEN)?.user;
            let worked = [after[0] - before[0], after[1] - before[1]];
            ensure!(worked.iter().all(|&time| time >= 20), "{worked:?} hundredths of a second");
            Ok(())
        }),
        trial("partitions::an_idle_linux_does_not_exit_for_a_minute", |_| {
            let idle = &of(&SEEN)?.idle;
            ensure!(idle.exits == [0, 0], "{:?} exits; said: {:?}", idle.exits, idle.said);
            Ok(())
        }),
        trial("partitions::a_linux_that_computes_does_not_exit_for_a_minute", |_| {
            let Seen { busy, timer, .. } = of(&SEEN)?;
            ensure!(busy.exits == [0, 0], "{:?} exits; said: {:?}", busy.exits, busy.said);
            // Both processors had their ticks: 250 a second each.
            ensure!(*timer > 2 * 60 * 200, "{timer} timer interrupts");
            Ok(())
        }),
        trial("partitions::a_heart_beside_linux_misses_no_beat", |_| {
            let heart = &of(&SEEN)?.heart;
            let largest = heart.split_once("largest ").map(|(_, rest)| rest);
            let largest: u64 = largest
                .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
                .with_context(|| format!("no largest interval in {heart}"))?;
            ensure!(heart.contains("missed beats: 0"), "{heart}");
            ensure!(largest <= PERIOD + LATE, "{heart}");
            Ok(())
        }),
        trial("partitions::linux_powers_off_when_it_is_to_stop", |_| {
            let asked = &of(&SEEN)?.asked;
            let expected = LINUXES.map(|name| {
                format!(
                    "guest {name} is asked to power itself off, and is stopped in 30 s otherwise"
                )
            });
            ensure!(asked[..] == expected, "{asked:?}");
            Ok(())
        }),
        trial("partitions::linux_warns_of_nothing", |_| {
            let warnings = &of(&SEEN)?.warnings;
            ensure!(warnings == &["=1", "=1"], "{warnings:?}");
            Ok(())
        }),
    ]
}
