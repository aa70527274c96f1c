//! Processors that work together: memory, time, devices, and what each has for itself.

use crate::{A_WHILE, count, others};
use bulkhead_guests::apic::{self, icr};
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::console::COM1;
use bulkhead_guests::cpu::{self, cpuid, rdmsr, rdtsc, wrmsr};
use bulkhead_guests::fault::expect_fault;
use bulkhead_guests::interrupts::{self, count_all_of, count_of, vector};
use bulkhead_guests::ioapic::{self, CONSOLE_PIN};
use bulkhead_guests::smp::{self, MOST};
use bulkhead_guests::suite::{Outcome, Test, same};
use bulkhead_guests::{console, ensure, port};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub const TESTS: &[Test] = &[
    Test {
        title: "a lock that all want keeps a count right",
        what: "each processor counts 1000 times under a spin lock",
        run: lock,
    },
    Test {
        title: "a mapping that one changes is changed for all",
        what: "a page-table entry, an IPI to all, INVLPG on each (SDM Vol. 3A, 4.10.5)",
        run: shootdown,
    },
    Test {
        title: "the processors' TSCs agree",
        what: "one reads after the other, in turns: never less",
        run: time,
    },
    Test {
        title: "every processor has a timer of its own",
        what: "one-shot on each: one interrupt there, none elsewhere",
        run: timers,
    },
    Test {
        title: "a device's interrupt goes to the processor that it is routed to",
        what: "the console's transmitter through the IOAPIC to each",
        run: device,
    },
    Test {
        title: "every processor has registers of its own",
        what: "STAR, LSTAR, KERNEL_GS_BASE, FS_BASE, PAT, DR0 and CR2 with other values on each",
        run: registers,
    },
    Test {
        title: "every processor takes its own exceptions",
        what: "#UD and #GP on each at the same time",
        run: exceptions,
    },
    Test {
        title: "processors that exit at the same time get right answers",
        what: "CPUID, RDMSR and ports on all at once, 500 times each",
        run: exits,
    },
    Test {
        title: "IPIs in both directions are not lost",
        what: "two processors answer each other 500 times",
        run: answers,
    },
];

/// Has all processors do the same at the same time; fails unless each comes to an end.
fn at_once(boot: &BootParams, job: fn()) -> Outcome {
    let others = others(boot)?;
    others.clone().for_each(|number| smp::begin(number, job));
    job();
    for number in others {
        ensure!(smp::ends(number, smp::PATIENCE), "processor {number} does not end");
    }
    Ok(())
}

fn lock(boot: &BootParams) -> Outcome {
    const TIMES: u64 = 1000;
    static LOCK: AtomicBool = AtomicBool::new(false);
    /// Counted by a load and a store, which the lock must keep together.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.store(0, Ordering::SeqCst);
    at_once(boot, || {
        for _ in 0..TIMES {
            while LOCK.swap(true, Ordering::Acquire) {
                core::hint::spin_loop();
            }
            COUNT.store(COUNT.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            LOCK.store(false, Ordering::Release);
        }
    })?;
    same("the count", COUNT.load(Ordering::SeqCst), TIMES * count(boot) as u64)
}

/// Three levels of page tables, and two pages to map in turn.
#[repr(C, align(4096))]
struct Frames([[u64; 512]; 3], [[u64; 512]; 2]);

static mut FRAMES: Frames = Frames([[0; 512]; 3], [[0; 512]; 2]);

/// Where the page is mapped: at the beginning of the second entry of the top-level table.
const MAPPED: u64 = 1 << 39;
/// Of a page-table entry: present and writable.
const PRESENT: u64 = 0b11;
const FLUSH_VECTOR: u8 = 0x64;

fn read_mapped() -> u64 {
    // SAFETY: `shootdown` has mapped it.
    unsafe { (MAPPED as *const u64).read_volatile() }
}

fn shootdown(boot: &BootParams) -> Outcome {
    static SEEN: [AtomicU64; MOST] = [const { AtomicU64::new(0) }; MOST];
    fn look() {
        SEEN[smp::number()].store(read_mapped(), Ordering::SeqCst);
    }
    let frames = &raw mut FRAMES;
    // SAFETY: nothing else uses the frames, nor the entry of the loader's top-level table, which was
    // empty; all is mapped one to one.
    let leaf = unsafe {
        let tables = (&raw mut (*frames).0).cast::<[u64; 512]>();
        let root = cpu::read_cr3() as *mut u64;
        root.add(1).write_volatile(tables as u64 | PRESENT);
        for level in 0..2 {
            let table = tables.add(level).cast::<u64>();
            table.write_volatile(tables.add(level + 1) as u64 | PRESENT);
        }
        tables.add(2).cast::<u64>()
    };
    interrupts::handle(FLUSH_VECTOR, |_| cpu::invalidate(MAPPED));
    for value in [1, 2, 3, 4] {
        let others = others(boot)?;
        // SAFETY: as above; the page that is not mapped now is written where it is one to one.
        unsafe {
            let page = (&raw mut (*frames).1).cast::<[u64; 512]>().add(value as usize % 2);
            page.cast::<u64>().write_volatile(value);
            leaf.write_volatile(page as u64 | PRESENT);
        }
        cpu::invalidate(MAPPED);
        let before: [u64; MOST] = core::array::from_fn(|number| count_of(number, FLUSH_VECTOR));
        apic::command(icr::OTHERS | icr::ASSERT | u64::from(FLUSH_VECTOR));
        for number in others {
            let done = || count_of(number, FLUSH_VECTOR) > before[number];
            ensure!(smp::wait(smp::PATIENCE, done), "{number} does not take the IPI");
        }
        at_once(boot, look)?;
        for (number, seen) in SEEN.iter().enumerate().take(count(boot)) {
            let seen = seen.load(Ordering::SeqCst);
            same(format_args!("what {number} sees"), seen, value)?;
        }
    }
    Ok(())
}

fn time(boot: &BootParams) -> Outcome {
    const TURNS: u64 = 1000;
    /// Whose turn it is, and when it was taken last.
    static TURN: AtomicU64 = AtomicU64::new(0);
    static LAST: AtomicU64 = AtomicU64::new(0);
    static BACKWARDS: AtomicU64 = AtomicU64::new(0);
    fn take(parity: u64) {
        for turn in 0..TURNS {
            while TURN.load(Ordering::SeqCst) != 2 * turn + parity {
                core::hint::spin_loop();
            }
            let (before, now) = (LAST.load(Ordering::SeqCst), rdtsc());
            BACKWARDS.fetch_max(before.saturating_sub(now), Ordering::SeqCst);
            LAST.store(now, Ordering::SeqCst);
            TURN.fetch_add(1, Ordering::SeqCst);
        }
    }
    for number in others(boot)? {
        for value in [&TURN, &LAST, &BACKWARDS] {
            value.store(0, Ordering::SeqCst);
        }
        let start = rdtsc();
        smp::begin(number, || take(1));
        take(0);
        ensure!(smp::ends(number, smp::PATIENCE), "processor {number} does not end");
        same(format_args!("ticks back on {number}"), BACKWARDS.load(Ordering::SeqCst), 0)?;
        let (last, end) = (LAST.load(Ordering::SeqCst), rdtsc());
        ensure!((start..=end).contains(&last), "{number}: {last} is not in {start}..{end}");
    }
    Ok(())
}

fn timers(boot: &BootParams) -> Outcome {
    const VECTOR: u8 = 0x65;
    const TICKS: u32 = 100_000;
    for number in others(boot)? {
        let all: [u64; MOST] = core::array::from_fn(count_all_of);
        let ran = smp::run(number, || apic::start_one_shot(VECTOR, TICKS));
        ensure!(ran, "processor {number} does not answer");
        let before = count_of(number, VECTOR);
        interrupts::wait_for(A_WHILE, || count_of(number, VECTOR) > before);
        interrupts::let_in_for(u64::from(TICKS));
        for (other, before) in all.into_iter().enumerate().take(count(boot)) {
            let came = count_all_of(other) - before;
            same(format_args!("{number}'s timer at {other}"), came, u64::from(other == number))?;
        }
    }
    Ok(())
}

fn device(boot: &BootParams) -> Outcome {
    const VECTOR: u8 = 0x66;
    const INTERRUPT_ENABLE: u16 = COM1 + 1;
    const IDENTIFICATION: u16 = COM1 + 2;
    const MODEM_CONTROL: u16 = COM1 + 4;
    /// Interrupt enable: transmitter empty. Modem control: DTR, RTS, OUT2.
    const THRE: u8 = 1 << 1;
    const CONNECTED: u8 = 0b1011;
    /// Redirection entry: the destination is logical.
    const LOGICAL: u32 = 1 << 11;
    let all = 0..others(boot)?.end;
    for to in all.clone() {
        for (destination, mode) in [(to as u8, 0), (1 << to, LOGICAL)] {
            let before: [u64; MOST] = core::array::from_fn(|number| count_of(number, VECTOR));
            console::wait_until_ready();
            ioapic::route(CONSOLE_PIN, destination, mode | u32::from(VECTOR));
            port::write(MODEM_CONTROL, CONNECTED);
            port::write(INTERRUPT_ENABLE, THRE);
            interrupts::wait_for(smp::PATIENCE, || count_of(to, VECTOR) > before[to]);
            interrupts::let_in_for(A_WHILE);
            port::write(INTERRUPT_ENABLE, 0u8);
            port::read::<u8>(IDENTIFICATION);
            ioapic::route(CONSOLE_PIN, 0, ioapic::MASKED);
            for number in all.clone() {
                let came = count_of(number, VECTOR) - before[number];
                let what = format_args!("mode {mode:#x} to {to}: the count at {number}");
                same(what, came, u64::from(number == to))?;
            }
        }
    }
    Ok(())
}

fn registers(boot: &BootParams) -> Outcome {
    /// STAR, LSTAR, FS_BASE, KERNEL_GS_BASE.
    const MSRS: [u32; 4] = [0xC000_0081, 0xC000_0082, 0xC000_0100, 0xC000_0102];
    const PAT: u32 = 0x277;
    /// All uncached; and as after reset.
    const UNCACHED: u64 = 0;
    const PAT_RESET: u64 = 0x0007_0406_0007_0406;
    static WRONG: AtomicU64 = AtomicU64::new(0);
    fn own() -> u64 {
        0x1000 * (smp::number() as u64 + 1)
    }
    fn set() {
        let pat = if smp::number() == 1 { UNCACHED } else { PAT_RESET };
        // SAFETY: no code here uses these registers; memory is cached or not, and the same.
        unsafe {
            MSRS.iter().for_each(|&msr| wrmsr(msr, own()));
            wrmsr(PAT, pat);
            cpu::write_dr0(own());
            cpu::write_cr2(own());
        }
    }
    fn check() {
        let pat = if smp::number() == 1 { UNCACHED } else { PAT_RESET };
        let values = MSRS.map(rdmsr).into_iter().chain([cpu::read_dr0(), cpu::read_cr2()]);
        let wrong = values.filter(|&value| value != own()).count();
        WRONG.fetch_add(wrong as u64 + u64::from(rdmsr(PAT) != pat), Ordering::SeqCst);
    }
    fn clear() {
        // SAFETY: as after reset.
        unsafe {
            MSRS.iter().for_each(|&msr| wrmsr(msr, 0));
            wrmsr(PAT, PAT_RESET);
            cpu::write_dr0(0);
            cpu::write_cr2(0);
        }
    }
    WRONG.store(0, Ordering::SeqCst);
    at_once(boot, set)?;
    at_once(boot, check)?;
    at_once(boot, clear)?;
    same("registers that are wrong", WRONG.load(Ordering::SeqCst), 0)
}

fn exceptions(boot: &BootParams) -> Outcome {
    const TIMES: u64 = 20;
    const NO_MSR: u32 = 0x12345;
    static RIGHT: AtomicU64 = AtomicU64::new(0);
    RIGHT.store(0, Ordering::SeqCst);
    at_once(boot, || {
        for _ in 0..TIMES {
            let undefined = expect_fault(cpu::undefined);
            let protected = expect_fault(|| {
                rdmsr(NO_MSR);
            });
            let came = [undefined, protected].map(|fault| fault.map(|fault| fault.vector));
            let expected = [vector::INVALID_OPCODE, vector::GENERAL_PROTECTION].map(Some);
            RIGHT.fetch_add(u64::from(came == expected), Ordering::SeqCst);
        }
    })?;
    same("the right ones", RIGHT.load(Ordering::SeqCst), TIMES * count(boot) as u64)
}

fn exits(boot: &BootParams) -> Outcome {
    const TIMES: u64 = 500;
    /// CPUID leaf 0xB: EDX is the APIC ID.
    const TOPOLOGY: u32 = 0xB;
    const ABSENT_PORT: u16 = 0x80;
    static RIGHT: AtomicU64 = AtomicU64::new(0);
    RIGHT.store(0, Ordering::SeqCst);
    at_once(boot, || {
        let own = smp::number() as u64;
        for _ in 0..TIMES {
            let id = u64::from(cpuid(TOPOLOGY, 0).edx);
            let apic_id = rdmsr(apic::register::ID);
            let nothing = port::read::<u8>(ABSENT_PORT);
            let right = id == own && apic_id == own && nothing == u8::MAX;
            RIGHT.fetch_add(u64::from(right), Ordering::SeqCst);
        }
    })?;
    same("the right ones", RIGHT.load(Ordering::SeqCst), TIMES * count(boot) as u64)
}

fn answers(boot: &BootParams) -> Outcome {
    const TIMES: u64 = 500;
    const CALL: u8 = 0x67;
    const ANSWER: u8 = 0x68;
    others(boot)?;
    interrupts::handle(CALL, |_| {
        apic::command(icr::to(0) | icr::ASSERT | u64::from(ANSWER));
    });
    let (calls, answers) = (count_of(1, CALL), count_of(0, ANSWER));
    for time in 1..=TIMES {
        apic::command(icr::to(1) | icr::ASSERT | u64::from(CALL));
        let came = interrupts::wait_for(smp::PATIENCE, || count_of(0, ANSWER) == answers + time);
        ensure!(came, "no answer to call {time}");
    }
    interrupts::ignore(CALL);
    same("calls", count_of(1, CALL) - calls, TIMES)
}
