//! Tests of the CPUID filter with made-up processors.

use super::features::{
    EXTENDED_ECX, EXTENDED_EDX, Feature, LEAF_1_ECX, LEAF_1_EDX, LEAF_7_EBX, LEAF_7_ECX, LEAF_7_EDX,
};
use super::*;

/// The second of three virtual processors.
pub(super) const GUEST: GuestCpu = GuestCpu {
    apic_id: 1,
    processors: 3,
    tsc_hz: 3_000_000_000,
    apic_timer_hz: 24_000_000,
    apic: true,
    osxsave: false,
    xcr0: 1,
    rdtscp: true,
    invpcid: true,
};

const fn result(eax: u32, ebx: u32, ecx: u32, edx: u32) -> CpuidResult {
    CpuidResult { eax, ebx, ecx, edx }
}

const ONES: CpuidResult = result(u32::MAX, u32::MAX, u32::MAX, u32::MAX);

/// A processor that has every bit of every leaf.
pub(super) fn ones(_: u32, _: u32) -> CpuidResult {
    ONES
}

/// A server processor with AVX-512, as far as the tests ask.
pub(super) fn server(leaf: u32, subleaf: u32) -> CpuidResult {
    match (leaf, subleaf) {
        (0, _) => result(0x16, 0x756E_6547, 0x6C65_746E, 0x4965_6E69), // GenuineIntel
        (1, _) => result(0x0005_0654, 0x0710_0800, 0x7FFE_FBFF, 0xBFEB_FBFF),
        (4, 0) => result(0x7C00_4121, 0x01C0_003F, 0x0000_003F, 0),
        (4, 3) => result(0x7C1F_C163, 0x0280_003F, 0x0000_4FFF, 4),
        (4, _) => NOTHING,
        (7, 0) => result(0, 0xD39F_FFFB, 0, 0xBC00_0400),
        (0xD, 0) => result(0x2FF, 0x240, 0xA88, 0),
        (0xD, 1) => result(0xF, 0x240, 0x100, 0),
        (0xD, 2) => result(0x100, 0x240, 0, 0),
        (0xD, 3) => result(0x40, 0x3C0, 0, 0), // MPX, which is not permitted
        (0xD, 5) => result(0x40, 0x440, 0, 0),
        (0xD, 6) => result(0x200, 0x480, 0, 0),
        (0xD, 7) => result(0x400, 0x680, 0, 0),
        (0xD, 9) => result(8, 0xA80, 0, 0), // PKRU, likewise
        (0x8000_0000, _) => result(0x8000_0008, 0, 0, 0),
        (0x8000_0001, _) => result(0, 0, 0x121, 0x2C10_0800),
        (0x8000_0008, _) => result(0x302E, 0, 0, 0),
        _ => NOTHING,
    }
}

fn seen(leaf: u32, subleaf: u32) -> CpuidResult {
    filter(leaf, subleaf, server, &GUEST)
}

fn mask(list: &[Feature]) -> u32 {
    list.iter().fold(0, |mask, feature| mask | 1 << feature.bit)
}

#[test]
fn lists_are_in_order_and_give_reasons() {
    for list in
        [LEAF_1_ECX, LEAF_1_EDX, LEAF_7_EBX, LEAF_7_ECX, LEAF_7_EDX, EXTENDED_ECX, EXTENDED_EDX]
    {
        assert!(list.is_sorted_by(|a, b| a.bit < b.bit));
        assert!(list.iter().all(|feature| feature.bit < 32 && !feature.reason.is_empty()));
    }
}

#[test]
fn a_processor_of_all_ones_leaks_no_unlisted_bit() {
    let leak = |leaf, subleaf, allowed: CpuidResult| {
        let seen = filter(leaf, subleaf, ones, &GUEST);
        let extra = result(
            seen.eax & !allowed.eax,
            seen.ebx & !allowed.ebx,
            seen.ecx & !allowed.ecx,
            seen.edx & !allowed.edx,
        );
        assert_eq!(extra, NOTHING, "leaf {leaf:#x}.{subleaf}");
    };
    let own = 1 << 31 | mask(LEAF_1_ECX);
    leak(1, 0, result(0x0FFF_3FFF, 0x0104_FF00, own, 1 << 28 | mask(LEAF_1_EDX)));
    leak(6, 0, result(1 << 2, 0, 0, 0));
    leak(7, 0, result(0, mask(LEAF_7_EBX), mask(LEAF_7_ECX), mask(LEAF_7_EDX)));
    leak(0xD, 0, result(0xE7, u32::MAX, u32::MAX, 0));
    leak(0xD, 1, result(0b101, 0, 0, 0));
    leak(0x8000_0001, 0, result(0, 0, mask(EXTENDED_ECX), mask(EXTENDED_EDX)));
    leak(0x8000_0007, 0, result(0, 0, 0, 1 << 8));
    leak(0x8000_0008, 0, result(48 | 48 << 8, 0, 0, 0));
}

#[test]
fn leaves_that_are_not_listed_are_zero() {
    let listed = |leaf| {
        matches!(leaf, 0..=2 | 4 | 6 | 7 | 0xB | 0xD | 0x15 | 0x16 | 0x1F | 0x8000_0000..=0x8000_0004)
            || matches!(leaf, 0x8000_0006..=0x8000_0008 | 0x4000_0000 | 0x4000_0001)
            || matches!(leaf, 0x4000_0100 | 0x4000_0101)
    };
    let ranges = [0..0x200, 0x4000_0000..0x4000_0300, 0x8000_0000..0x8000_0200];
    for leaf in ranges.into_iter().flatten().chain([0x2000_0000, 0xC000_0000, u32::MAX]) {
        let subleaves = if listed(leaf) { 1_000..1_001 } else { 0..3 };
        for subleaf in subleaves {
            // Leaves with subleaves end; those without one repeat for each.
            let repeats = listed(leaf) && !matches!(leaf, 7 | 0xD);
            let seen = filter(leaf, subleaf, ones, &GUEST);
            assert!(repeats || seen == NOTHING, "leaf {leaf:#x}.{subleaf}: {seen:x?}");
        }
    }
}

#[test]
fn features_that_must_stay_hidden_are() {
    let hidden = |register: u32, bits: &[u32]| {
        assert!(bits.iter().all(|bit| register & 1 << bit == 0), "{register:#x}");
    };
    let basic = filter(1, 0, ones, &GUEST);
    // DTES64, MONITOR, DS-CPL, VMX, SMX, EST, TM2, CNXT-ID, SDBG, xTPR, PDCM, DCA, TSC-deadline, OSXSAVE
    hidden(basic.ecx, &[2, 3, 4, 5, 6, 7, 8, 10, 11, 14, 15, 18, 24, 27]);
    // MCE, MTRR, MCA, PSN, DS, ACPI, TM, PBE
    hidden(basic.edx, &[7, 12, 14, 18, 21, 22, 29, 31]);
    let leaf_7 = filter(7, 0, ones, &GUEST);
    // SGX, HLE, RTM, PQM, MPX, PQE, PT
    hidden(leaf_7.ebx, &[2, 4, 11, 12, 14, 15, 25]);
    // PKU, OSPKE, WAITPKG, CET_SS, LA57, KL, ENQCMD, SGX_LC, PKS
    hidden(leaf_7.ecx, &[3, 4, 5, 7, 16, 23, 29, 30, 31]);
    // HYBRID, PCONFIG, LBR, IBT, AMX, IBRS, STIBP, L1D_FLUSH, ARCH_CAPABILITIES, CORE_CAPABILITIES, SSBD
    hidden(leaf_7.edx, &[15, 18, 19, 20, 22, 24, 25, 26, 27, 28, 29, 30, 31]);
}

#[test]
fn a_bare_processor_gets_nothing_added_but_the_hypervisors_own() {
    let seen = filter(1, 0, |_, _| NOTHING, &GUEST);
    // No x2APIC, no XSAVE: just the hypervisor bit, the count and the ID.
    assert_eq!(seen, result(0, 0x0104_0000, 1 << 31, 1 << 28));
    assert_eq!(filter(0xD, 0, |_, _| NOTHING, &GUEST), NOTHING);
    assert_eq!(filter(0x8000_0001, 0, |_, _| NOTHING, &GUEST), NOTHING);
}

#[test]
fn leaves_that_the_processor_lacks_are_not_asked_for() {
    // Intel processors answer for the highest basic leaf instead.
    let old = |leaf: u32, _| match leaf {
        0 => result(5, 1, 2, 3),
        0x8000_0000 => result(0x8000_0001, 0, 0, 0),
        _ => ONES,
    };
    assert_eq!(filter(7, 0, old, &GUEST), NOTHING);
    assert_eq!(filter(0xD, 0, old, &GUEST), NOTHING);
    assert_eq!(filter(0x8000_0002, 0, old, &GUEST), NOTHING);
    let without_avx = filter(1, 0, old, &GUEST);
    assert_eq!(without_avx.ecx & (1 << 28 | 1 << 26 | 1 << 12), 0);
    // What is made up does not depend on it.
    assert_eq!(filter(0, 0, old, &GUEST), result(0x1F, 1, 2, 3));
    assert_eq!(filter(0x15, 0, old, &GUEST), result(1, 125, 24_000_000, 0));
}

#[test]
fn vector_features_follow_what_xcr0_may_hold() {
    let with_xcr0 = |xcr0: u32| {
        move |leaf, subleaf| match (leaf, subleaf) {
            (0xD, 0) => result(xcr0, 0, 0, 0),
            _ => ONES,
        }
    };
    const AVX2: u32 = 1 << 5;
    const AVX512F: u32 = 1 << 16;
    for (xcr0, avx, avx512, permitted) in [
        (0xE7, true, true, 0xE7),
        (0x67, true, false, 0x07), // ZMM16-31 missing
        (0xE3, false, false, 0x03),
        (0xE6, false, false, 0x00), // no x87: nothing can be enabled
    ] {
        let host = with_xcr0(xcr0);
        let leaf_7 = filter(7, 0, host, &GUEST);
        assert_eq!((leaf_7.ebx & AVX2 != 0, leaf_7.ebx & AVX512F != 0), (avx, avx512));
        assert_eq!(filter(1, 0, host, &GUEST).ecx & 1 << 28 != 0, avx);
        assert_eq!(filter(1, 0, host, &GUEST).ecx & 1 << 26 != 0, permitted != 0);
        assert_eq!(permitted_xcr0(host), permitted);
    }
}

#[test]
fn xcr0_takes_what_xsetbv_takes() {
    for value in [0x1, 0x3, 0x7, 0xE7] {
        assert!(valid_xcr0(value, 0xE7), "{value:#x}");
    }
    // Nothing; no x87; AVX without SSE; half of AVX-512; AVX-512 without AVX; MPX; PKRU.
    for value in [0, 0x2, 0x6, 0x5, 0x27, 0xE3, 0x1F, 0x207, 1 << 63 | 1] {
        assert!(!valid_xcr0(value, 0xE7), "{value:#x}");
    }
    assert!(!valid_xcr0(0xE7, 0x7));
}

#[test]
fn xsave_areas_hold_the_permitted_components() {
    let with = |xcr0| GuestCpu { xcr0, ..GUEST };
    let leaf = |subleaf, xcr0| filter(0xD, subleaf, server, &with(xcr0));
    // The host has 0xA88 bytes with PKRU; up to ZMM16-31 it is 0xA80.
    assert_eq!(leaf(0, 0x1), result(0xE7, 0x240, 0xA80, 0));
    assert_eq!(leaf(0, 0x7), result(0xE7, 0x340, 0xA80, 0));
    assert_eq!(leaf(0, 0xE7), result(0xE7, 0xA80, 0xA80, 0));
    assert_eq!(leaf(1, 0xE7), result(0b101, 0, 0, 0));
    assert_eq!(leaf(2, 0x7), result(0x100, 0x240, 0, 0));
    assert_eq!(leaf(3, 0x7), NOTHING);
    assert_eq!(leaf(9, 0x7), NOTHING);
    assert_eq!(leaf(64, 0x7), NOTHING);
}

#[test]
fn an_apic_that_is_off_is_not_shown() {
    const APIC: u32 = 1 << 9;
    let edx = |apic| filter(1, 0, server, &GuestCpu { apic, ..GUEST }).edx;
    assert_eq!(edx(true) ^ edx(false), APIC);
    assert_eq!(edx(false) & APIC, 0);
}

#[test]
fn osxsave_is_the_guests_own() {
    let ecx = |osxsave| filter(1, 0, server, &GuestCpu { osxsave, ..GUEST }).ecx;
    assert_eq!(ecx(true) ^ ecx(false), 1 << 27);
    assert_eq!(ecx(false) & 1 << 27, 0);
    let none = filter(1, 0, |_, _| NOTHING, &GuestCpu { osxsave: true, ..GUEST });
    assert_eq!(none.ecx & 1 << 27, 0);
}

#[test]
fn instructions_that_need_a_control_are_hidden_without_it() {
    let guest = GuestCpu { rdtscp: false, invpcid: false, ..GUEST };
    let changed = |leaf| {
        let (with, without) = (filter(leaf, 0, ones, &GUEST), filter(leaf, 0, ones, &guest));
        (with.ebx ^ without.ebx, with.ecx ^ without.ecx, with.edx ^ without.edx)
    };
    assert_eq!(changed(7), (1 << 10, 1 << 22, 0));
    assert_eq!(changed(0x8000_0001), (0, 0, 1 << 27));
}

#[test]
fn each_virtual_processor_is_a_core_of_one_package() {
    let leaf_1 = seen(1, 0);
    assert_eq!(leaf_1.ebx, 1 << 24 | 4 << 16 | 0x0800);
    for leaf in [0xB, 0x1F] {
        assert_eq!(seen(leaf, 0), result(0, 1, 0x100, 1));
        assert_eq!(seen(leaf, 1), result(2, 3, 0x201, 1));
        assert_eq!(seen(leaf, 2), result(0, 0, 2, 1));
    }
    let alone = GuestCpu { apic_id: 0, processors: 1, ..GUEST };
    assert_eq!(filter(1, 0, ones, &alone).edx & 1 << 28, 0);
    assert_eq!(filter(0xB, 1, ones, &alone), result(0, 1, 0x201, 0));
    for processors in [0, 255, 256, u32::MAX] {
        let many = GuestCpu { processors, ..GUEST };
        for leaf in [1, 4, 0xB] {
            filter(leaf, 1, ones, &many);
        }
    }
}

#[test]
fn caches_are_shared_by_the_guests_own_processors() {
    // L1: own; L3: of the 4 IDs that 3 processors take; 4 cores in the package.
    assert_eq!(seen(4, 0), result(0x0C00_0121, 0x01C0_003F, 0x3F, 0));
    assert_eq!(seen(4, 3), result(0x0C00_C163, 0x0280_003F, 0x4FFF, 4));
    assert_eq!(seen(4, 4), NOTHING);
}

#[test]
fn the_hypervisor_is_kvm_to_linux_and_bulkhead_to_who_asks() {
    let name = |leaf| {
        let leaf = seen(leaf, 0);
        let words = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes);
        (leaf.eax, words.concat())
    };
    assert_eq!(name(0x4000_0000), (0x4000_0001, b"KVMKVMKVM\0\0\0".to_vec()));
    assert_eq!(seen(0x4000_0001, 0), NOTHING, "no feature, no hint");
    assert_eq!(name(0x4000_0100), (0x4000_0101, b"BulkheadHV\0\0".to_vec()));
    let version = seen(0x4000_0101, 0).eax.to_be_bytes();
    let version = alloc::format!("{}.{}.{}", version[1], version[2], version[3]);
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
}

#[test]
fn identity_and_widths_are_the_hosts_within_limits() {
    assert_eq!(seen(0, 0), result(0x1F, 0x756E_6547, 0x6C65_746E, 0x4965_6E69));
    assert_eq!(seen(1, 0).eax, 0x0005_0654);
    assert_eq!(seen(0x8000_0000, 0), result(0x8000_0008, 0, 0, 0));
    assert_eq!(seen(0x8000_0001, 0), result(0, 0, 0x121, 0x2C10_0800));
    assert_eq!(seen(0x8000_0008, 0).eax, 0x302E);
    assert_eq!(seen(0x16, 0), result(3000, 3000, 0, 0));
    let wide = |leaf, _| if leaf == 0x8000_0008 { result(0x3934, 0, 0, 0) } else { ONES };
    assert_eq!(filter(0x8000_0008, 0, wide, &GUEST).eax, 0x3030);
}
