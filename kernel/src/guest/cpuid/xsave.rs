//! XSAVE: which state components a guest may enable, and how large they are (leaf 0xD; SDM
//! Vol. 1, chapter 13).

use super::{CpuidResult, GuestCpu, NOTHING};

/// Leaf 1 ECX: the processor has XSAVE.
pub(super) const XSAVE: u32 = 1 << 26;
/// XCR0: x87 state.
const X87: u64 = 1 << 0;
/// XCR0: SSE state.
const SSE: u64 = 1 << 1;
/// XCR0: upper halves of the YMM registers.
pub(super) const AVX: u64 = 1 << 2;
/// XCR0: opmasks, upper halves of ZMM0-15, ZMM16-31.
pub(super) const AVX_512: u64 = 0b111 << 5;
/// State components with an offset and size of their own: from 2 on.
const FIRST_EXTENDED: u32 = 2;
/// One more than the highest component that is ever permitted.
const END: u32 = 8;
/// Bytes of the legacy region and the header (SDM Vol. 1, 13.4).
const LEGACY_AND_HEADER: u32 = 512 + 64;

/// The XCR0 bits that guests may set: x87, SSE, AVX and AVX-512, as far as the processor has them
/// in the combinations that XSETBV takes. Zero without XSAVE.
pub fn permitted_xcr0(host: impl Fn(u32, u32) -> CpuidResult) -> u64 {
    const LEAF: u32 = 0xD;
    if host(1, 0).ecx & XSAVE == 0 || host(0, 0).eax < LEAF {
        return 0;
    }
    let has = host(LEAF, 0);
    let has = u64::from(has.edx) << u32::BITS | u64::from(has.eax);
    let mut permitted = 0;
    for (component, needed) in [(X87 | SSE, 0), (AVX, X87 | SSE), (AVX_512, AVX)] {
        if has & component == component && permitted & needed == needed {
            permitted |= component;
        }
    }
    permitted
}

/// Whether XSETBV may set XCR0 to this value (SDM Vol. 1, 13.3); otherwise it is #GP.
pub const fn valid_xcr0(value: u64, permitted: u64) -> bool {
    let avx_has_sse = value & AVX == 0 || value & SSE != 0;
    let avx_512 = value & AVX_512;
    let avx_512_is_whole = avx_512 == 0 || (avx_512 == AVX_512 && value & AVX != 0);
    value & !permitted == 0 && value & X87 != 0 && avx_has_sse && avx_512_is_whole
}

/// A subleaf of leaf 0xD.
pub(super) fn leaf(
    subleaf: u32,
    host: &impl Fn(u32, u32) -> CpuidResult,
    guest: &GuestCpu,
) -> CpuidResult {
    /// XSAVEOPT, and XGETBV with ECX = 1. Not XSAVES, whose MSR no guest has. Not XSAVEC: with it,
    /// and without XSAVES, Linux in Bochs loses vector registers when it switches processes.
    const INSTRUCTIONS: u32 = 0b101;
    /// ECX: the component is aligned in the compacted format.
    const ALIGNED: u32 = 1 << 1;
    let permitted = permitted_xcr0(host);
    if permitted == 0 {
        return NOTHING;
    }
    match subleaf {
        0 => CpuidResult {
            eax: permitted as u32,
            ebx: standard_size(guest.xcr0 & permitted, host),
            ecx: standard_size(permitted, host),
            edx: (permitted >> u32::BITS) as u32,
        },
        1 => CpuidResult { eax: host(0xD, 1).eax & INSTRUCTIONS, ..NOTHING },
        FIRST_EXTENDED..END if permitted & 1 << subleaf != 0 => {
            let component = host(0xD, subleaf);
            CpuidResult { ecx: component.ecx & ALIGNED, edx: 0, ..component }
        }
        _ => NOTHING,
    }
}

fn components(xcr0: u64) -> impl Iterator<Item = u32> {
    (FIRST_EXTENDED..END).filter(move |component| xcr0 & 1 << component != 0)
}

/// Bytes of the area that XSAVE writes: each component has its place.
fn standard_size(xcr0: u64, host: &impl Fn(u32, u32) -> CpuidResult) -> u32 {
    let end = |component| {
        let component = host(0xD, component);
        component.ebx.saturating_add(component.eax)
    };
    components(xcr0).map(end).fold(LEGACY_AND_HEADER, u32::max)
}
