//! Tests of one processor's APIC: its modes, its registers as MSRs and as a page.

use super::*;
use crate::arch::apic::{BASE_BSP, BASE_ENABLE, BASE_X2APIC, LVT_MASKED};
use crate::memory::GuestPhysical;
use proptest::prelude::*;

const BASE: u64 = 0xFEE0_0000;

/// A guest whose processors are all in x2APIC mode.
pub fn x2apic(processors: u32) -> Identities {
    let identities = Identities::new(processors);
    for id in 0..processors {
        identities.set(id, Identity { mode: Mode::X2Apic, ..Identity::RESET });
    }
    identities
}

/// The second of four processors.
fn second() -> (LocalApic, Identities) {
    (LocalApic::new(1), Identities::new(4))
}

fn in_x2apic_mode(id: u32) -> (LocalApic, Identities) {
    let (mut apic, identities) = (LocalApic::new(id), x2apic(4));
    let entered = apic.write_base(apic.base() | BASE_X2APIC, &identities);
    assert_eq!(entered, Ok(Effect::Mode(Mode::X2Apic)));
    (apic, identities)
}

fn write(apic: &mut LocalApic, identities: &Identities, offset: u64, value: u32) -> Effect {
    apic.write_page(offset, 4, value, identities).expect("a register")
}

fn value(apic: &LocalApic, offset: u64) -> u32 {
    match apic.read_page(offset, 4) {
        Some(PageRead::Value(value)) => value,
        other => panic!("{offset:#x}: {other:?}"),
    }
}

#[test]
fn after_reset_it_is_in_xapic_mode() {
    let (apic, _) = second();
    assert_eq!(apic.base(), BASE | BASE_ENABLE);
    assert_eq!(LocalApic::new(0).base(), BASE | BASE_ENABLE | BASE_BSP);
    assert_eq!(value(&apic, 0x20), 1 << 24);
    assert_eq!(value(&apic, 0xD0), 0);
    assert_eq!(value(&apic, 0xE0), u32::MAX);
    assert_eq!([value(&apic, 0x300), value(&apic, 0x310)], [0, 0]);
    for offset in [0x2F0, 0x330, 0x340, 0x350, 0x360] {
        assert_eq!(u64::from(value(&apic, offset)), LVT_MASKED);
    }
}

#[test]
fn a_refused_base_changes_nothing() {
    let (mut apic, identities) = in_x2apic_mode(1);
    for base in [BASE | BASE_ENABLE, BASE | BASE_X2APIC, 0, u64::MAX] {
        assert_eq!(apic.write_base(base, &identities), Err(GeneralProtection));
        assert_eq!(apic.mode(), Mode::X2Apic);
    }
    assert_eq!(apic.write_base(apic.base(), &identities), Ok(Effect::None));
}

#[test]
fn going_to_x2apic_mode_keeps_the_registers_but_for_icr_high_and_ldr() {
    let (mut apic, identities) = second();
    let _ = write(&mut apic, &identities, 0xD0, 0x0800_0000);
    let _ = write(&mut apic, &identities, 0x310, 0x0300_0000);
    let _ = write(&mut apic, &identities, 0x300, 0x0004_0030);
    let _ = write(&mut apic, &identities, 0x360, 0x400);
    assert_eq!(apic.read_x2apic(register::ICR), Err(GeneralProtection));
    let base = apic.base() | BASE_X2APIC;
    assert_eq!(apic.write_base(base, &identities), Ok(Effect::Mode(Mode::X2Apic)));
    assert_eq!(apic.read_x2apic(register::ICR), Ok(0x0004_0030));
    assert_eq!(apic.read_x2apic(register::LVT_LINT1), Ok(0x400));
    assert_eq!(apic.read_x2apic(register::LDR), Ok(2));
    assert_eq!(identities.targets(Address::Bits8(2), true), Targets::one(1));
    assert_eq!(identities.targets(Address::Bits8(8), true), Targets::default());
}

#[test]
fn disabling_forgets_all_and_hides_the_processor() {
    for x2apic in [false, true] {
        let (mut apic, identities) = second();
        let _ = write(&mut apic, &identities, 0xD0, 0x0800_0000);
        let _ = write(&mut apic, &identities, 0xE0, 0);
        let _ = write(&mut apic, &identities, 0x300, 0x30);
        let _ = write(&mut apic, &identities, 0x350, 0x700);
        if x2apic {
            let _ = apic.write_base(apic.base() | BASE_X2APIC, &identities);
        }
        assert_eq!(apic.write_base(BASE, &identities), Ok(Effect::Mode(Mode::Disabled)));
        assert_eq!(identities.targets(Address::Bits8(1), false), Targets::default());
        assert_eq!(apic.read_page(0x20, 4), None);
        assert_eq!(apic.write_page(0xB0, 4, 0, &identities), None);
        assert_eq!(apic.read_x2apic(register::ID), Err(GeneralProtection));
        assert_eq!(apic.write_x2apic(register::ICR, 0x30, &identities), Err(GeneralProtection));
        let enabled = apic.write_base(BASE | BASE_ENABLE, &identities);
        assert_eq!(enabled, Ok(Effect::Mode(Mode::XApic)));
        assert_eq!(identities.targets(Address::Bits8(1), false), Targets::one(1));
        assert_eq!([value(&apic, 0xD0), value(&apic, 0xE0)], [0, u32::MAX]);
        assert_eq!([value(&apic, 0x300), value(&apic, 0x350)], [0, LVT_MASKED as u32]);
    }
}

#[test]
fn init_keeps_the_mode_alone() {
    let (mut apic, identities) = in_x2apic_mode(1);
    let _ = apic.write_x2apic(register::ICR, 0x30, &identities);
    apic.init(&identities);
    assert_eq!(apic.mode(), Mode::X2Apic);
    assert_eq!(apic.read_x2apic(register::ICR), Ok(0));
    let (mut apic, identities) = second();
    let _ = write(&mut apic, &identities, 0xD0, 0x0800_0000);
    apic.init(&identities);
    assert_eq!((apic.mode(), value(&apic, 0xD0), value(&apic, 0x20)), (Mode::XApic, 0, 1 << 24));
    assert_eq!(identities.targets(Address::Bits8(8), true), Targets::default());
}

#[test]
fn ids_are_virtual() {
    let (apic, _) = in_x2apic_mode(1);
    assert_eq!(apic.read_x2apic(register::ID), Ok(1));
    assert_eq!(apic.read_x2apic(register::LDR), Ok(2));
}

#[test]
fn kept_entries_read_back_and_do_nothing() {
    let (mut apic, identities) = in_x2apic_mode(0);
    let mut write = |msr, value| apic.write_x2apic(msr, value, &identities);
    assert_eq!(write(register::LVT_LINT1, 0x400), Ok(Effect::None));
    let timer = Effect::Register(register::LVT_TIMER, 0xEC);
    assert_eq!(write(register::LVT_TIMER, 0xEC), Ok(timer));
    assert_eq!(write(register::LVT_TIMER, 0x400), Err(GeneralProtection), "NMI");
    let sent = Command { delivery: Delivery::Fixed(0x30), targets: Targets::one(0) };
    assert_eq!(write(register::ICR, 0x4_0030), Ok(Effect::Interrupt(sent)));
    assert_eq!(write(register::ICR, 0x200), Err(GeneralProtection), "SMI");
    assert_eq!(apic.read_x2apic(register::ICR), Ok(0x4_0030), "what faulted was not kept");
    assert_eq!(apic.read_x2apic(register::LVT_LINT1), Ok(0x400));
}

#[test]
fn a_plain_interrupt_needs_x2apic_mode_and_reads_back() {
    let (mut apic, identities) = second();
    assert_eq!(apic.write_plain(register::ICR, 0x30, &identities), None);
    let (mut apic, identities) = in_x2apic_mode(1);
    assert_eq!(apic.write_plain(register::LVT_TIMER, 0x30, &identities), None);
    let plain = apic.write_plain(register::ICR, 2 << 32 | 0x30, &identities);
    assert_eq!(plain, Some(Plain { id: 2, vector: 0x30 }));
    assert_eq!(apic.read_x2apic(register::ICR), Ok(2 << 32 | 0x30));
}

#[test]
fn registers_of_the_page_are_those_of_the_hardware() {
    let (apic, _) = second();
    for (offset, msr) in [
        (0x30, register::VERSION),
        (0x80, register::TPR),
        (0xA0, register::PPR),
        (0xF0, register::SVR),
        (0x100, register::ISR),
        (0x170, register::ISR + 7),
        (0x180, register::TMR),
        (0x270, register::IRR + 7),
        (0x280, register::ESR),
        (0x320, register::LVT_TIMER),
        (0x370, register::LVT_ERROR),
        (0x380, register::TIMER_INITIAL),
        (0x390, register::TIMER_CURRENT),
        (0x3E0, register::TIMER_DIVIDE),
    ] {
        assert_eq!(apic.read_page(offset, 4), Some(PageRead::Register(msr)), "{offset:#x}");
    }
    assert_eq!([0x90, 0xB0, 0xC0].map(|offset| value(&apic, offset)), [0; 3]);
}

/// All ones: whatever is passed on must be valid for the hardware, where a reserved bit would
/// fault in root mode.
#[test]
fn reserved_bits_do_not_reach_the_hardware() {
    let (mut apic, identities) = second();
    for (offset, msr, passed) in [
        (0x80, register::TPR, 0xFF),
        (0xB0, register::EOI, 0),
        (0xF0, register::SVR, 0x1FF),
        (0x280, register::ESR, 0),
        (0x320, register::LVT_TIMER, 0x300FF),
        (0x370, register::LVT_ERROR, 0x100FF),
        (0x380, register::TIMER_INITIAL, u64::from(u32::MAX)),
        (0x3E0, register::TIMER_DIVIDE, 0b1011),
    ] {
        let effect = write(&mut apic, &identities, offset, u32::MAX);
        assert_eq!(effect, Effect::Register(msr, passed), "{offset:#x}");
    }
    assert_eq!(write(&mut apic, &identities, 0x310, u32::MAX), Effect::None);
    assert_eq!(value(&apic, 0x310), 0xFF00_0000);
    let _ = write(&mut apic, &identities, 0x300, u32::MAX);
    assert_eq!(value(&apic, 0x300), 0x000C_CFFF);
}

#[test]
fn read_only_registers_ignore_writes() {
    let (mut apic, identities) = second();
    let before = value(&apic, 0x20);
    for offset in [0x20, 0x30, 0x90, 0xA0, 0xC0, 0x100, 0x1F0, 0x270, 0x390] {
        assert_eq!(write(&mut apic, &identities, offset, u32::MAX), Effect::None, "{offset:#x}");
    }
    assert_eq!(value(&apic, 0x20), before);
}

#[test]
fn the_lower_half_of_the_command_sends() {
    let (mut apic, identities) = second();
    assert_eq!(write(&mut apic, &identities, 0x310, 3 << 24), Effect::None);
    let sent = Command { delivery: Delivery::Fixed(0x41), targets: Targets::one(3) };
    assert_eq!(write(&mut apic, &identities, 0x300, 0x4041), Effect::Interrupt(sent));
    assert_eq!([value(&apic, 0x300), value(&apic, 0x310)], [0x4041, 3 << 24]);
    // Again, to the same.
    assert_eq!(write(&mut apic, &identities, 0x300, 0x4041), Effect::Interrupt(sent));
}

#[test]
fn a_logical_id_is_what_others_find() {
    let (mut apic, identities) = second();
    let flat = |to| identities.targets(Address::Bits8(to), true);
    let _ = write(&mut apic, &identities, 0xD0, 0x1234_5678);
    assert_eq!(value(&apic, 0xD0), 0x1200_0000);
    assert_eq!([flat(0x10), flat(0x02)], [Targets::one(1); 2]);
    let _ = write(&mut apic, &identities, 0xE0, 0x0FFF_FFFF);
    assert_eq!(value(&apic, 0xE0), 0x0FFF_FFFF);
    assert_eq!([flat(0x10), flat(0x02)], [Targets::default(); 2]);
    assert_eq!(flat(0x13), Targets::one(1), "cluster 1, member 2");
}

#[test]
fn what_is_no_register_is_as_absent_memory() {
    let (mut apic, identities) = second();
    for offset in [0x00, 0x10, 0x40, 0x70, 0x290, 0x2E0, 0x3A0, 0x3D0, 0x3F0, 0x400, 0xFF0] {
        assert_eq!(apic.read_page(offset, 4), None, "{offset:#x}");
        assert_eq!(apic.write_page(offset, 4, 0, &identities), None, "{offset:#x}");
    }
    for (offset, size) in [(0x20, 1), (0x20, 2), (0x20, 8), (0x21, 4), (0x24, 4), (0x28, 8)] {
        assert_eq!(apic.read_page(offset, size), None, "{size} bytes at {offset:#x}");
        assert_eq!(apic.write_page(offset, size, 0, &identities), None);
    }
    let (mut apic, identities) = in_x2apic_mode(0);
    assert_eq!(apic.read_page(0x20, 4), None);
    assert_eq!(apic.write_page(0xB0, 4, 0, &identities), None);
}

#[test]
fn the_page_has_4_kib() {
    let offset = |at| page_offset(GuestPhysical::new(at));
    assert_eq!(offset(BASE - 1), None);
    assert_eq!(offset(BASE), Some(0));
    assert_eq!(offset(BASE + 0xFFF), Some(0xFFF));
    assert_eq!(offset(BASE + 0x1000), None);
}

proptest! {
    /// Any accesses in any mode: no panic, and nothing that is #GP in the hardware.
    #[test]
    fn whatever_is_written_is_valid_for_the_hardware(
        writes in prop::collection::vec((0u64..0x1000, any::<u32>(), 0u8..4), 1..50),
    ) {
        let (mut apic, identities) = second();
        for (offset, value, way) in writes {
            let effect = match way {
                0 => apic.write_base(apic.base() ^ u64::from(value & 0xC00), &identities).ok(),
                1 => apic.write_x2apic(0x800 + offset as u32 / 16, value.into(), &identities).ok(),
                _ => apic.write_page(offset & !0xF, 4, value, &identities),
            };
            match effect {
                Some(Effect::Register(register::LVT_TIMER, value)) => {
                    prop_assert_eq!(value & !0x300FF, 0);
                }
                Some(Effect::Register(register::LVT_ERROR, value)) => {
                    prop_assert_eq!(value & !0x100FF, 0);
                }
                Some(Effect::Register(register::TPR, value)) => prop_assert!(value <= 0xFF),
                Some(Effect::Register(register::SVR, value)) => prop_assert!(value <= 0x1FF),
                Some(Effect::Register(register::EOI | register::ESR, value)) => {
                    prop_assert_eq!(value, 0);
                }
                Some(Effect::Register(register::TIMER_DIVIDE, value)) => {
                    prop_assert_eq!(value & !0b1011, 0);
                }
                Some(Effect::Register(register::TIMER_INITIAL, value)) => {
                    prop_assert!(value <= u64::from(u32::MAX));
                }
                Some(Effect::Register(msr, _)) => prop_assert!(false, "{:#x}", msr),
                Some(Effect::Interrupt(command)) => prop_assert!(command.targets.0 < 1 << 4),
                Some(Effect::Mode(mode)) => prop_assert_eq!(mode, apic.mode()),
                Some(Effect::None) | None => {}
            }
        }
    }
}
