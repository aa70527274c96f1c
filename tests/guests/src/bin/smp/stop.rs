//! INIT to processors that run: each goes back to waiting, and leaves nothing behind.

use crate::{A_WHILE, ASLEEP, DEAF, DEAF_ASLEEP, Job, SPINNING, occupy, others, release, rounds};
use bulkhead_guests::apic::{self, icr, register};
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::cpu::{self, rdmsr, wrmsr};
use bulkhead_guests::interrupts::{self, count_all_of, count_of, vector};
use bulkhead_guests::smp::{self, starts};
use bulkhead_guests::suite::{Outcome, Test, same};
use bulkhead_guests::{ensure, fail};
use core::sync::atomic::{AtomicU64, Ordering};

pub const TESTS: &[Test] = &[
    Test {
        title: "INIT stops a processor whatever it is doing",
        what: "spinning and asleep, with interrupts on and off, in an NMI's handler, with a timer of one tick",
        run: stops,
    },
    Test {
        title: "a processor starts again after INIT, many times",
        what: "INIT and a start-up IPI while it spins: it comes up as often as it is started",
        run: many_times,
    },
    Test {
        title: "IPIs and NMIs to a processor that waits are lost",
        what: "fixed and NMI between INIT and the start-up IPI: nothing comes when it runs",
        run: lost,
    },
    Test {
        title: "INIT leaves the APIC as after reset",
        what: "SDM Vol. 3A, 11.4.7.3 and 11.12.5: TPR, SVR, LVT, timer, IRR, ISR; the ID stays",
        run: apic_reset,
    },
    Test {
        title: "a processor that is not the first stops and starts others",
        what: "INIT and start-up IPI sent by processor 1 to the last one",
        run: by_another,
    },
];

/// In an NMI's handler for ever.
const IN_NMI: Job = ("in an NMI's handler", || {
    interrupts::handle(vector::NMI, |_| crate::spin());
    apic::command(icr::to(smp::number() as u32) | icr::NMI | icr::ASSERT);
    smp::delay(A_WHILE);
});

/// With a timer that interrupts again before its interrupt can be served, and interrupts off.
const FAST_TIMER: Job = ("with a timer without pause", || {
    const VECTOR: u8 = 0x66;
    cpu::disable_interrupts();
    apic::start_periodic(VECTOR, 1);
    crate::spin();
});

fn stops(boot: &BootParams) -> Outcome {
    for number in others(boot)? {
        for job in [SPINNING, DEAF, ASLEEP, DEAF_ASLEEP, IN_NMI, FAST_TIMER] {
            others(boot)?;
            occupy(number, job);
            smp::stop(number);
            interrupts::handle(vector::NMI, |_| {});
            let before = rounds();
            // What would wake it, if it were not for INIT.
            release();
            smp::delay(A_WHILE);
            same(format_args!("{}: rounds after INIT", job.0), rounds() - before, 0)?;
            let up = smp::start_stopped(number, apic::enable);
            ensure!(up.is_some(), "{}: {number} does not start again", job.0);
            ensure!(smp::run(number, || {}), "{}: {number} does not work again", job.0);
        }
    }
    Ok(())
}

fn many_times(boot: &BootParams) -> Outcome {
    const TIMES: u64 = 50;
    for number in others(boot)? {
        let before = starts(number);
        for time in 0..TIMES {
            occupy(number, SPINNING);
            let up = smp::start(number, apic::enable);
            ensure!(up.is_some(), "{number} does not come up, the {time}th time");
            ensure!(smp::ends(number, smp::PATIENCE), "{number} does not get ready");
        }
        same("starts", starts(number) - before, TIMES)?;
    }
    release();
    Ok(())
}

fn lost(boot: &BootParams) -> Outcome {
    const VECTOR: u64 = 0x62;
    for number in others(boot)? {
        let came = || count_all_of(number) + count_of(number, vector::NMI);
        let before = came();
        smp::stop(number);
        let target = icr::to(number as u32);
        apic::command(target | icr::ASSERT | VECTOR);
        apic::command(target | icr::ASSERT | icr::NMI);
        smp::delay(A_WHILE);
        let up = smp::start_stopped(number, apic::enable);
        ensure!(up.is_some(), "processor {number} does not come up");
        ensure!(smp::ends(number, smp::PATIENCE), "processor {number} does not get ready");
        // It lets interrupts in now.
        smp::delay(A_WHILE);
        same(format_args!("what comes to {number}"), came() - before, 0)?;
    }
    Ok(())
}

/// APIC registers with what they are after INIT.
const AFTER_INIT: [(&str, u32, u64); 11] = [
    ("TPR", register::TPR, 0),
    ("PPR", register::PPR, 0),
    ("SVR", register::SVR, 0xFF),
    ("ESR", register::ESR, 0),
    ("LVT timer", register::LVT_TIMER, apic::LVT_MASKED),
    ("LVT LINT0", register::LVT_LINT0, apic::LVT_MASKED),
    ("LVT LINT1", register::LVT_LINT1, apic::LVT_MASKED),
    ("LVT error", register::LVT_ERROR, apic::LVT_MASKED),
    ("initial count", register::TIMER_INITIAL, 0),
    ("current count", register::TIMER_CURRENT, 0),
    ("divider", register::TIMER_DIVIDE, 0),
];

/// What a processor found in them, and of IRR and ISR any bit.
static SEEN: [AtomicU64; AFTER_INIT.len() + 2] =
    [const { AtomicU64::new(u64::MAX) }; AFTER_INIT.len() + 2];

fn look() {
    let registers = AFTER_INIT.iter().map(|&(_, msr, _)| rdmsr(msr));
    let vectors = [register::ISR, register::IRR].map(apic::any_vector).map(u64::from);
    for (place, value) in SEEN.iter().zip(registers.chain(vectors)) {
        place.store(value, Ordering::SeqCst);
    }
    apic::enable();
}

/// Leaves the APIC with all in use.
fn use_apic() {
    const VECTOR: u8 = 0x63;
    interrupts::handle(VECTOR, |_| {
        // In service from here on; another one waits.
        apic::interrupt_self(VECTOR);
        apic::start_periodic(VECTOR + 1, 1 << 30);
        // SAFETY: entries that interrupt nobody, as nothing raises them.
        unsafe {
            wrmsr(register::LVT_LINT0, u64::from(VECTOR));
            wrmsr(register::LVT_LINT1, icr::NMI);
            wrmsr(register::LVT_ERROR, u64::from(VECTOR));
        }
        apic::set_task_priority(0x20);
        crate::spin();
    });
    apic::interrupt_self(VECTOR);
    cpu::enable_interrupts();
    smp::delay(A_WHILE);
}

fn apic_reset(boot: &BootParams) -> Outcome {
    for number in others(boot)? {
        occupy(number, ("with its APIC in use", use_apic));
        ensure!(smp::start(number, look).is_some(), "processor {number} does not come up");
        ensure!(smp::ends(number, smp::PATIENCE), "processor {number} does not get ready");
        for (&(name, _, expected), seen) in AFTER_INIT.iter().zip(&SEEN) {
            same(format_args!("{name} of {number}"), seen.load(Ordering::SeqCst), expected)?;
        }
        for (name, seen) in ["ISR", "IRR"].into_iter().zip(&SEEN[AFTER_INIT.len()..]) {
            ensure!(seen.load(Ordering::SeqCst) == 0, "{name} of {number} has a bit");
        }
    }
    release();
    Ok(())
}

fn by_another(boot: &BootParams) -> Outcome {
    static LAST: AtomicU64 = AtomicU64::new(0);
    static CAME: AtomicU64 = AtomicU64::new(0);
    let last = others(boot)?.end - 1;
    if last == 1 {
        bulkhead_guests::skip!("there are two processors");
    }
    LAST.store(last as u64, Ordering::SeqCst);
    CAME.store(0, Ordering::SeqCst);
    let restarted = smp::run(1, || {
        let last = LAST.load(Ordering::SeqCst) as usize;
        let up = smp::start(last, apic::enable).is_some();
        CAME.store(u64::from(up), Ordering::SeqCst);
    });
    if !restarted || CAME.load(Ordering::SeqCst) == 0 {
        fail!("processor {last} does not come up");
    }
    Ok(())
}
