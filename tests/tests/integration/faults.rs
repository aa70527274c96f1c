//! Guests that are stopped for a fault, and what becomes of the others.

use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Boot, End, Guest, said_of, summary};
use libtest_mimic::{Failed, Trial};

use crate::{of, trial};

/// What a guest does that it cannot go on from, and what the hypervisor says of it.
struct Case {
    /// The guest's name, and its `fault=` where it is the guest `faults`.
    fault: &'static str,
    /// Why it was stopped.
    stopped: &'static str,
    /// The exit: its reason and what belongs to it.
    exit: &'static [&'static str],
    /// How the bytes of the instruction begin that it happened at.
    bytes: &'static str,
}

const NOT_EMULATED: &str = "access to a device: instruction is not one that is emulated on MMIO";
const STRUCTURE: &str = "page table or stack of an event where there is no RAM";
const UNREADABLE: &str = "not readable";

const CASES: [Case; 11] = [
    Case {
        fault: "fetch",
        stopped: "instruction fetch from where there is no RAM",
        exit: &["48 (EPT violation)", "guest-physical 0xfed00000", "guest-linear 0xfed00000"],
        bytes: UNREADABLE,
    },
    Case {
        fault: "page-table",
        stopped: STRUCTURE,
        exit: &["48 (EPT violation)", "guest-physical 0xd0000000", "guest-linear 0x8000000000"],
        // mov al, [rcx]
        bytes: "[8a, 01",
    },
    Case {
        fault: "page-root",
        stopped: STRUCTURE,
        exit: &["48 (EPT violation)", "guest-physical 0xd0000000"],
        bytes: UNREADABLE,
    },
    Case {
        fault: "stack",
        stopped: STRUCTURE,
        exit: &["48 (EPT violation)", "guest-physical 0xd0000ff8", "guest-linear 0xd0000ff8"],
        // int3
        bytes: "[cc",
    },
    Case {
        fault: "interrupt-table",
        stopped: STRUCTURE,
        // The entry of vector 3.
        exit: &["48 (EPT violation)", "guest-physical 0xd0000030"],
        bytes: "[cc",
    },
    Case {
        fault: "undecodable",
        stopped: NOT_EMULATED,
        exit: &["48 (EPT violation)", "guest-physical 0xfed00000"],
        // lock cmpxchg [rcx], rdx
        bytes: "[f0, 48, 0f, b1, 11",
    },
    Case {
        fault: "string",
        stopped: NOT_EMULATED,
        exit: &["48 (EPT violation)", "guest-physical 0xfed00000"],
        // rep movsb
        bytes: "[f3, a4",
    },
    Case {
        fault: "vector",
        stopped: NOT_EMULATED,
        exit: &["48 (EPT violation)", "guest-physical 0xfed00000"],
        // movups xmm0, [rax]
        bytes: "[0f, 10, 00",
    },
    Case {
        fault: "task-switch",
        stopped: "unexpected exit",
        // By JMP, to the selector 0x28.
        exit: &["9 (task switch)", "qualification 0x80000028"],
        bytes: "[ea, 00, 00, 00, 00, 28, 00",
    },
    Case {
        fault: "triple",
        stopped: "triple fault",
        exit: &["2 (triple fault)"],
        // ud2
        bytes: "[0f, 0b",
    },
    Case {
        fault: "triple-fault",
        stopped: "triple fault",
        exit: &["2 (triple fault)"],
        bytes: "[0f, 0b",
    },
];

/// So many of the guests that fault share a boot: with the service core and the witness they
/// take the eight cores that Bochs has.
const AT_A_TIME: usize = 6;

/// What was said in each of the boots with all cases.
static BOOTS: [LazyLock<Result<String, String>>; CASES.len().div_ceil(AT_A_TIME)] = [
    LazyLock::new(|| boot(0).map_err(|error| format!("{error:#}"))),
    LazyLock::new(|| boot(1).map_err(|error| format!("{error:#}"))),
];

fn boot(number: usize) -> Result<String> {
    let cases = || CASES.iter().skip(number * AT_A_TIME).take(AT_A_TIME);
    let guests = cases().map(|case| match case.fault {
        "triple-fault" => Guest::new("triple_fault"),
        fault => Guest::new("faults").named(fault).with(&format!("fault={fault}")),
    });
    let guests: Vec<_> = guests.chain([witness()]).collect();
    let mut console = Boot::of_guests(&format!("faults::boot_{number}"), &guests)?.start()?;
    let end = console.wait_for_end()?;
    let expected = End::Stopped { powered_off: 1, faulted: u32::try_from(cases().count())? };
    ensure!(end == expected, "{end:?}, not {expected:?}:\n{}", console.transcript());
    Ok(console.transcript())
}

/// A guest that works beside those that fault, and outlives them all.
fn witness() -> Guest {
    Guest::new("idle").named("witness").with("period=100000 ticks=1000")
}

pub fn trials() -> Vec<Trial> {
    let case = |(index, case): (usize, &'static Case)| {
        Trial::test(format!("faults::{}", case.fault.replace('-', "_")), move || {
            reported(index, case).map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    let others = [
        trial("faults::stop_nobody_else", |_| {
            BOOTS.iter().try_for_each(|boot| unharmed(of(boot)?))
        }),
        trial("faults::a_failed_entry_names_the_field", failed_entry),
        trial("faults::a_panic_stops_its_own_guest_alone", panic),
        trial("faults::a_full_stack_is_a_fault_and_no_corruption", full_stack),
    ];
    CASES.iter().enumerate().map(case).chain(others).collect()
}

/// The report has all that it takes to find out what happened.
fn reported(index: usize, case: &Case) -> Result<()> {
    let transcript = of(&BOOTS[index / AT_A_TIME])?;
    let said: Vec<_> = said_of(transcript, case.fault).collect();
    let said_what = |start: &str| -> Result<&str> {
        let line = said.iter().find_map(|line| line.strip_prefix(start));
        line.with_context(|| format!("no `{start}` in {said:#?}"))
    };
    let stopped = said_what("stopped: ")?;
    ensure!(stopped == case.stopped, "stopped: {stopped}");
    let exit = said_what("exit reason ")?;
    ensure!(case.exit.iter().all(|part| exit.contains(part)), "{exit}");
    // Other exits have no address, and an earlier one's is not shown.
    ensure!(exit.contains("guest-physical") == exit.contains("(EPT violation)"), "{exit}");
    let bytes = said_what("instruction bytes: ")?;
    ensure!(bytes.starts_with(case.bytes), "{bytes}");
    let rip = said_what("rip ")?.get(..16).unwrap_or_default();
    let rip = u64::from_str_radix(rip, 16).with_context(|| format!("rip {rip}"))?;
    let code = if case.fault == "fetch" { 0xfed0_0000..0xfed0_0001 } else { 2 << 20..3 << 20 };
    ensure!(code.contains(&rip), "rip {rip:#x}");
    for start in ["rax ", "rbp ", "r9  ", "r13 ", "cr0 "] {
        said_what(start)?;
    }
    let summary = summary(transcript, case.fault)?;
    ensure!(summary.exits == summary.by_reason.values().sum::<u64>(), "{summary:?}");
    // Nothing was printed after the fault but the report.
    ensure!(!transcript.contains("survived"), "a guest went on");
    Ok(())
}

/// The witness went on, and powered itself off when all others were gone.
fn unharmed(transcript: &str) -> Result<()> {
    let ended = transcript.find("guest witness: powered off").context("the witness did not end")?;
    ensure!(transcript.contains("heartbeat: 1000 ticks\r\n"), "it missed beats");
    ensure!(transcript.rfind(": stopped: ").is_some_and(|last| last < ended), "too early to tell");
    Ok(())
}

/// What was said where a hypervisor was asked to fail.
static INJECTED: LazyLock<Result<String, String>> =
    LazyLock::new(|| injected().map_err(|error| format!("{error:#}")));

fn injected() -> Result<String> {
    let guests = [
        Guest::new("faults").named("panic").with("fault=panic"),
        Guest::new("faults").named("entry").with("fault=entry"),
        witness(),
        Guest::new("faults").named("overflow").with("fault=overflow"),
    ];
    let mut console = Boot::of_guests("faults::injected", &guests)?.under_test().start()?;
    console.expect_panic();
    let end = console.wait_for_end()?;
    let expected = End::Stopped { powered_off: 1, faulted: 3 };
    ensure!(end == expected, "{end:?}, not {expected:?}:\n{}", console.transcript());
    Ok(console.transcript())
}

/// A failed VM entry: the report names the field that it failed for.
fn failed_entry(_: &str) -> Result<()> {
    let transcript = of(&INJECTED)?;
    let said: Vec<_> = said_of(transcript, "entry").collect();
    ensure!(said.contains(&"stopped: failed VM entry"), "{said:#?}");
    let invalid = said.iter().any(|line| line.starts_with("invalid: ") && line.contains("RFLAGS"));
    ensure!(invalid, "{said:#?}");
    let reason = "exit reason 33 (VM-entry failure: invalid guest state)";
    ensure!(said.iter().any(|line| line.starts_with(reason)), "{said:#?}");
    Ok(())
}

/// A stack that grows without an end meets its guard page, even in steps that are larger than that: the core below, whose
/// stack is next, goes on.
fn full_stack(_: &str) -> Result<()> {
    let transcript = of(&INJECTED)?;
    unharmed(transcript)?;
    let panic = transcript.split_once("panic: core 4: ").context("no panic")?.1;
    let message = panic.lines().next().unwrap_or_default();
    let start = "double fault (vector 8) in the hypervisor: the stack is full: ";
    ensure!(message.starts_with(start), "{message}");
    let said: Vec<_> = said_of(transcript, "overflow").collect();
    ensure!(said.contains(&"stopped: the hypervisor failed on its core 4"), "{said:#?}");
    Ok(())
}

/// A defect of the hypervisor's own: it is told where it is, and costs the guest that was served.
fn panic(_: &str) -> Result<()> {
    let transcript = of(&INJECTED)?;
    unharmed(transcript)?;
    let panic = transcript.split_once("panic: core 1: ").context("no panic")?.1;
    let message = panic.lines().next().unwrap_or_default();
    ensure!(message.starts_with("a panic was asked for at kernel/src/guest/vcpu/"), "{message}");
    let (_, backtrace) = panic.split_once("backtrace: ").context("no backtrace")?;
    // The functions behind the addresses, innermost first, and inlined ones among them. A guest's
    // words may stand between the lines.
    let place = |part: &str| {
        let mut lines = backtrace.lines();
        let place = lines.position(|line| line.starts_with("      ") && line.contains(part));
        place.with_context(|| format!("no `{part}` in {backtrace}"))
    };
    let served = place("serve at kernel/src/guest/vcpu/mod.rs:")?;
    let exited = place("bulkhead::arch::switch::exit_entry")?;
    ensure!(served < exited, "{backtrace}");
    let said: Vec<_> = said_of(transcript, "panic").collect();
    ensure!(said.contains(&"stopped: the hypervisor failed on its core 1"), "{said:#?}");
    Ok(())
}
