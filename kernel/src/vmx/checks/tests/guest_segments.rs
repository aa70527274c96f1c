//! 27.3.1.2: segment registers.

use super::*;

const SECTION: &str = "27.3.1.2";
const UPPER_HALF: &str = "must be 0, above 32 bits";

const NAMES: [&str; 6] = ["CS", "SS", "DS", "ES", "FS", "GS"];
const UNUSABLE: u64 = 1 << 16;

fn name(segment: usize, field: &str) -> std::string::String {
    std::format!("guest {} {field}", NAMES[segment])
}

/// A 64-bit guest without "unrestricted guest".
fn restricted() -> FakeVmcs {
    guest_64().with(&[(SECONDARY, Minus(UNRESTRICTED))])
}

#[test]
fn selectors() {
    const TI: &str = "must be 0: the TI flag";
    each(
        &guest_real(),
        &skylake(),
        SECTION,
        &[
            (&[(guest::TR_SELECTOR, To(4))], "guest TR selector", TI),
            (&[(guest::LDTR_SELECTOR, To(4))], "guest LDTR selector", TI),
        ],
    );
    expect_valid(&guest_64().with(&[(guest::LDTR_SELECTOR, To(4))]), &skylake());
    // SS's RPL must also be its DPL, and CS's DPL that of SS.
    let vmcs = restricted().with(&[(guest::CS_SELECTOR, Plus(3))]);
    let rule = "must have the RPL of the CS selector";
    expect(&vmcs, &skylake(), &[(SECTION, "guest SS selector", rule)]);
    expect_valid(&guest_64().with(&[(guest::CS_SELECTOR, Plus(3))]), &skylake());
}

#[test]
fn bases() {
    for (segment, field) in SEGMENT_BASES.into_iter().enumerate() {
        let name = name(segment, "base");
        if segment < 4 {
            let vmcs = guest_64().with(&[(field, To(1 << 32))]);
            expect(&vmcs, &skylake(), &[(SECTION, &name, UPPER_HALF)]);
            let unusable = vmcs.with(&[(SEGMENT_RIGHTS[segment], Plus(UNUSABLE))]);
            if segment > 0 {
                expect_valid(&unusable, &skylake());
            } else {
                expect(&unusable, &skylake(), &[(SECTION, &name, UPPER_HALF)]);
            }
        } else {
            let vmcs = guest_64().with(&[(field, To(1 << 47))]);
            for vmcs in [vmcs.clone(), vmcs.with(&[(SEGMENT_RIGHTS[segment], Plus(UNUSABLE))])] {
                expect(&vmcs, &skylake(), &[(SECTION, &name, "must be canonical")]);
            }
        }
    }
    each(
        &guest_real(),
        &skylake(),
        SECTION,
        &[
            (&[(guest::TR_BASE, To(1 << 47))], "guest TR base", "must be canonical"),
            (&[(guest::LDTR_BASE, To(1 << 47))], "guest LDTR base", "must be canonical"),
        ],
    );
    expect_valid(&guest_64().with(&[(guest::LDTR_BASE, To(1 << 47))]), &skylake());
}

#[test]
fn virtual_8086_mode() {
    for segment in 0..6 {
        for (field, value, part, rule) in [
            (
                SEGMENT_BASES[segment],
                0x1_2350,
                "base",
                "must be the selector times 16 in virtual-8086 mode",
            ),
            (SEGMENT_LIMITS[segment], 0xFFFE, "limit", "must be 0xffff in virtual-8086 mode"),
            (SEGMENT_RIGHTS[segment], 0x93, "access rights", "must be 0xf3 in virtual-8086 mode"),
        ] {
            let vmcs = guest_8086().with(&[(field, To(value))]);
            expect(&vmcs, &skylake(), &[(SECTION, &name(segment, part), rule)]);
        }
    }
}

/// What is the same for all six; the limit is 4 GiB but for a guest in real mode.
#[test]
fn access_rights_of_code_and_data() {
    const NOT_PAGES: &str = "must be 0: G, as the limit's bits 11:0 are not all 1";
    const PAGES: &str = "must be 1: G, as the limit's bits 31:20 are not all 0";
    for segment in 0..6 {
        let (rights, limit) = (SEGMENT_RIGHTS[segment], SEGMENT_LIMITS[segment]);
        let cases: [(u32, Change, &str); 8] = [
            (rights, Minus(1 << 4), "must be 1: S, a code or data segment"),
            (rights, Minus(1 << 7), "must be 1: P, present"),
            (rights, Plus(1 << 8), "must be 0, as reserved"),
            (rights, Plus(1 << 11), "must be 0, as reserved"),
            (rights, Plus(1 << 17), "must be 0, as reserved"),
            (rights, Plus(1 << 31), "must be 0, as reserved"),
            (rights, Minus(1 << 15), PAGES),
            (limit, Minus(1 << 31 | 1), NOT_PAGES),
        ];
        for (field, change, rule) in cases {
            let vmcs = guest_64().with(&[(field, change)]);
            let wanted = [(SECTION, &*name(segment, "access rights"), rule)];
            expect(&vmcs, &skylake(), &wanted);
            // CS is checked whether usable or not, the others only if they are.
            let unusable = vmcs.with(&[(rights, Plus(UNUSABLE))]);
            expect(&unusable, &skylake(), if segment == 0 { &wanted } else { &[] });
        }
        // With a limit below 1 MiB that ends in ones, either is right.
        let small = guest_real().with(&[(rights, Plus(1 << 15))]);
        expect_valid(&small, &skylake());
    }
}

const CS_NAME: &str = "guest CS access rights";
const SS_NAME: &str = "guest SS access rights";
const CS: u32 = guest::CS_ACCESS_RIGHTS;
const SS: u32 = guest::SS_ACCESS_RIGHTS;

#[test]
fn code() {
    const NOT_CONFORMING: &str = "must have SS's DPL, as the segment is not conforming";
    const CONFORMING: &str = "must have a DPL that is not above SS's, as the segment is conforming";
    each(
        &guest_64(),
        &skylake(),
        SECTION,
        &[
            (&[(CS, To(0xA09A))], CS_NAME, "must have type 3, 9, 11, 13 or 15"),
            (&[(CS, To(0xA097))], CS_NAME, "must have type 3, 9, 11, 13 or 15"),
            (&[(CS, To(0xA0FB))], CS_NAME, NOT_CONFORMING),
            (&[(CS, To(0xA0F9))], CS_NAME, NOT_CONFORMING),
            (&[(SS, To(0xC0F3))], CS_NAME, NOT_CONFORMING),
            (&[(CS, To(0xA0BF))], CS_NAME, CONFORMING),
            (&[(CS, To(0xA0BD))], CS_NAME, CONFORMING),
            (&[(CS, Plus(1 << 14))], CS_NAME, "must be 0: D, as L is 1"),
        ],
    );
    each(
        &guest_real(),
        &skylake(),
        SECTION,
        &[(&[(CS, To(0xF3))], CS_NAME, "must have DPL 0, as the type is 3")],
    );
    each(
        &restricted(),
        &skylake(),
        SECTION,
        &[
            (&[(CS, To(0xA093))], CS_NAME, "must have type 9, 11, 13 or 15"),
            (&[(CS, To(0xA098))], CS_NAME, "must have type 9, 11, 13 or 15"),
        ],
    );
    expect_valid(&guest_real().with(&[(CS, To(0x93))]), &skylake());
    // A conforming segment may have any DPL up to SS's, and D may go with L outside IA-32e mode.
    expect_valid(&guest_64().with(&[(CS, To(0xA09F)), (SS, To(0xC0F3))]), &skylake());
    expect_valid(&guest_pae().with(&[(CS, To(0xE09B))]), &skylake());
}

#[test]
fn stack() {
    each(
        &guest_64(),
        &skylake(),
        SECTION,
        &[
            (&[(SS, To(0xC091))], SS_NAME, "must have type 3 or 7"),
            (&[(SS, To(0xC092))], SS_NAME, "must have type 3 or 7"),
            (&[(SS, To(0xC09B))], SS_NAME, "must have type 3 or 7"),
            (&[(SS, To(0xC0F3)), (CS, To(0xA093))], SS_NAME, "must have DPL 0, as CS's type is 3"),
        ],
    );
    each(
        &guest_real(),
        &skylake(),
        SECTION,
        &[
            (&[(SS, To(0xF3)), (CS, To(0xFB))], SS_NAME, "must have DPL 0, as CR0.PE is 0"),
            (
                &[(SS, To(UNUSABLE | 0x60)), (CS, To(0xFB))],
                SS_NAME,
                "must have DPL 0, as CR0.PE is 0",
            ),
        ],
    );
    each(
        &restricted(),
        &skylake(),
        SECTION,
        &[(
            &[(SS, To(0xC0F3)), (CS, To(0xA0FB))],
            SS_NAME,
            "must have the DPL that the SS selector has as RPL",
        )],
    );
    expect_valid(&guest_64().with(&[(SS, To(0xC097))]), &skylake());
    expect_valid(&guest_64().with(&[(SS, To(UNUSABLE))]), &skylake());
}

#[test]
fn data() {
    for segment in 2..6 {
        let (rights, name) = (SEGMENT_RIGHTS[segment], name(segment, "access rights"));
        for (value, rule) in [
            (0xC092, "must be 1: accessed"),
            (0xC099, "must be 1: readable, as it is a code segment"),
        ] {
            let vmcs = guest_64().with(&[(rights, To(value))]);
            expect(&vmcs, &skylake(), &[(SECTION, &name, rule)]);
        }
        let rpl_3 = [(SEGMENT_SELECTORS[segment], Plus(3))];
        let rule = "must have a DPL that is not below the selector's RPL";
        expect(&restricted().with(&rpl_3), &skylake(), &[(SECTION, &name, rule)]);
        expect_valid(&guest_64().with(&rpl_3), &skylake());
        for valid in [0xC0F3, 0xC09F, 0xC0FB, UNUSABLE] {
            expect_valid(&restricted().with(&rpl_3).with(&[(rights, To(valid))]), &skylake());
        }
    }
}

#[test]
fn task_register_and_local_table() {
    const TR: u32 = guest::TR_ACCESS_RIGHTS;
    const TR_NAME: &str = "guest TR access rights";
    const LDTR: u32 = guest::LDTR_ACCESS_RIGHTS;
    const LDTR_NAME: &str = "guest LDTR access rights";
    const SYSTEM: &str = "must be 0: S, a system segment";
    const PRESENT: &str = "must be 1: P, present";
    const RESERVED: &str = "must be 0, as reserved";
    const NOT_PAGES: &str = "must be 0: G, as the limit's bits 11:0 are not all 1";
    const PAGES: &str = "must be 1: G, as the limit's bits 31:20 are not all 0";
    each(
        &guest_real(),
        &skylake(),
        SECTION,
        &[
            (&[(TR, To(0x89))], TR_NAME, "must have type 3 or 11, a busy TSS"),
            (&[(TR, Plus(1 << 4))], TR_NAME, SYSTEM),
            (&[(TR, Minus(1 << 7))], TR_NAME, PRESENT),
            (&[(TR, Plus(1 << 9))], TR_NAME, RESERVED),
            (&[(TR, Plus(1 << 20))], TR_NAME, RESERVED),
            (&[(TR, Plus(1 << 15)), (guest::TR_LIMIT, To(0x67))], TR_NAME, NOT_PAGES),
            (&[(guest::TR_LIMIT, To(0x10_0FFF))], TR_NAME, PAGES),
            (&[(TR, Plus(UNUSABLE))], TR_NAME, "must be 0: TR must be usable"),
            (&[(LDTR, To(0x83))], LDTR_NAME, "must have type 2, an LDT"),
            (&[(LDTR, Plus(1 << 4))], LDTR_NAME, SYSTEM),
            (&[(LDTR, Minus(1 << 7))], LDTR_NAME, PRESENT),
            (&[(LDTR, Plus(1 << 10))], LDTR_NAME, RESERVED),
            (&[(LDTR, Plus(1 << 30))], LDTR_NAME, RESERVED),
            (&[(LDTR, Plus(1 << 15)), (guest::LDTR_LIMIT, To(7))], LDTR_NAME, NOT_PAGES),
            (&[(guest::LDTR_LIMIT, To(0x10_0FFF))], LDTR_NAME, PAGES),
        ],
    );
    each(
        &guest_64(),
        &skylake(),
        SECTION,
        &[(&[(TR, To(0x83))], TR_NAME, "must have type 11, a busy 64-bit TSS")],
    );
    expect_valid(&guest_real().with(&[(TR, To(0x83))]), &skylake());
    expect_valid(&guest_real().with(&[(LDTR, To(u64::from(u32::MAX)))]), &skylake());
}
