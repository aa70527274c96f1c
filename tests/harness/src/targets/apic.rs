//! A guest's local APICs: any sequence of accesses by its processors.

use crate::input::Input;
use bulkhead::arch::apic::register;
use bulkhead::guest::apic::{
    Command, Delivery, Effect, Identities, LocalApic, MAX_PROCESSORS, Mode, PageRead, Plain,
    Targets,
};

/// Registers of the hardware that a guest's writes reach, and the bits that may be set in them.
const REACHED: [(u32, u64); 8] = [
    (register::TPR, 0xFF),
    (register::EOI, 0),
    (register::ESR, 0),
    (register::SVR, 0x1FF),
    (register::LVT_TIMER, 0x3_00FF),
    (register::LVT_ERROR, 0x1_00FF),
    (register::TIMER_INITIAL, 0xFFFF_FFFF),
    (register::TIMER_DIVIDE, 0b1011),
];

/// What is sent stays inside the guest and is what a guest may send; what reaches the hardware is of its few registers;
/// modes change as in the manual's figure; and the quick ways say what the others do.
pub fn apic(data: &[u8]) -> String {
    let mut input = Input::new(data);
    let processors = input.choose(&[1, 2, 5, 17, MAX_PROCESSORS]);
    let identities = Identities::new(processors);
    let mut apics: Vec<_> = (0..processors).map(LocalApic::new).collect();
    let (mut operations, mut sent) = (0, 0);
    while !input.is_empty() {
        operations += 1;
        let id = input.u8() as usize % apics.len();
        let apic = &mut apics[id];
        let mode = apic.mode();
        let effect = match input.u8() % 6 {
            0 => write_base(apic, &mut input, &identities),
            1 => {
                let msr = 0x800 + u32::from(input.u8());
                write_x2apic(apic, msr, input.u64(), &identities)
            }
            2 => {
                let icr = u64::from(input.u8()) << 32 | u64::from(input.u32());
                write_x2apic(apic, register::ICR, icr, &identities)
            }
            3 => {
                let offset = u64::from(input.u8()) * 16 + u64::from(input.u8() % 8 / 7);
                let effect = apic.write_page(
                    offset,
                    input.choose(&[4, 4, 4, 1, 8]),
                    input.u32(),
                    &identities,
                );
                assert!(mode == Mode::XApic || effect.is_none());
                effect
            }
            4 => {
                read(apic, id as u32, &mut input);
                None
            }
            _ => {
                apic.init(&identities);
                assert_eq!(apic.mode(), mode, "INIT keeps the mode");
                None
            }
        };
        let present = apics.iter().enumerate().filter(|(_, apic)| apic.mode() != Mode::Disabled);
        let present = present.fold(0, |set, (id, _)| set | Targets::one(id as u32).0);
        assert_eq!(identities.all().0, present);
        match effect {
            Some(Effect::Register(number, value)) => {
                let reached = REACHED.iter().find(|(reached, _)| *reached == number);
                let (_, bits) = reached.expect("a register that guests reach");
                assert_eq!(value & !bits, 0, "{number:#x} {value:#x}");
            }
            Some(Effect::Interrupt(Command { delivery, targets })) => {
                sent += 1;
                assert_eq!(targets.0 & !present, 0, "it leaves the guest");
                assert!(!matches!(delivery, Delivery::Fixed(..16) | Delivery::IllegalVector(16..)));
                assert!(mode == Mode::XApic || delivery != Delivery::Refused);
            }
            Some(Effect::None | Effect::Mode(_)) | None => {}
        }
    }
    format!("{operations} operations of {processors} processors, {sent} commands")
}

fn write_base(
    apic: &mut LocalApic,
    input: &mut Input<'_>,
    identities: &Identities,
) -> Option<Effect> {
    let (mode, base) = (apic.mode(), apic.base());
    // The bits that matter, and now and then another.
    let value = base & !0xC00 | u64::from(input.u8() & 3) << 10;
    let value = value ^ input.choose(&[0, 0, 0, 1 << 8, 1 << 12, 1 << 9, 1 << 63]);
    let effect = apic.write_base(value, identities);
    let Ok(effect) = effect else {
        assert_eq!((apic.mode(), apic.base()), (mode, base), "a fault changes nothing");
        return None;
    };
    assert_eq!(apic.base(), value);
    // SDM Vol. 3A, figure 11-27.
    let way = (mode, apic.mode());
    assert!(!matches!(way, (Mode::Disabled, Mode::X2Apic) | (Mode::X2Apic, Mode::XApic)));
    let expected = if mode == apic.mode() { Effect::None } else { Effect::Mode(apic.mode()) };
    assert_eq!(effect, expected);
    Some(effect)
}

fn write_x2apic(
    apic: &mut LocalApic,
    msr: u32,
    value: u64,
    identities: &Identities,
) -> Option<Effect> {
    let mut other = apic.clone();
    let plain = other.write_plain(msr, value, identities);
    let passed = apic.lvt_passed(msr, value);
    let effect = apic.write_x2apic(msr, value, identities).ok();
    assert!(apic.mode() == Mode::X2Apic || effect.is_none(), "#GP");
    if let Some(Plain { id, vector }) = plain {
        let command = Command { delivery: Delivery::Fixed(vector), targets: Targets::one(id) };
        assert_eq!(effect, Some(Effect::Interrupt(command)));
        assert_eq!(other.read_x2apic(register::ICR), apic.read_x2apic(register::ICR));
    }
    if let Some(value) = passed {
        assert_eq!(effect, Some(Effect::Register(msr, value)));
    }
    effect
}

fn read(apic: &LocalApic, id: u32, input: &mut Input<'_>) {
    let msr = 0x800 + u32::from(input.u8());
    let value = apic.read_x2apic(msr).ok();
    assert!(apic.mode() == Mode::X2Apic || value.is_none(), "#GP");
    if let Some(quick) = apic.read_quick(msr) {
        assert_eq!(value, Some(quick.into()));
    }
    let offset = u64::from(msr - 0x800) * 16;
    let read = apic.read_page(offset, 4);
    assert!(apic.mode() == Mode::XApic || read.is_none());
    assert_eq!(apic.read_page(offset, 2), None);
    assert_eq!(apic.read_page(offset + 1, 4), None);
    if msr == register::ID {
        match apic.mode() {
            Mode::X2Apic => assert_eq!(value, Some(id.into())),
            Mode::XApic => assert_eq!(read, Some(PageRead::Value(id << 24))),
            Mode::Disabled => {}
        }
    }
    if let Some(PageRead::Register(number)) = read {
        assert_eq!(number, msr);
    }
}
