//! A processor's answers, made once: an exit for CPUID is a look into a table.

use super::{EXTENDED, GuestCpu, MAX_BASIC, MAX_EXTENDED, NOTHING, features, filter};
use core::arch::x86_64::CpuidResult;

/// Leaves whose answer depends on ECX: those are asked for one by one. Leaf 0xD depends on XCR0, too.
const WITH_SUBLEAVES: [u32; 5] = [4, 7, 0xB, 0xD, 0x1F];

const BASIC: usize = MAX_BASIC as usize + 1;
const ROWS: usize = BASIC + (MAX_EXTENDED - EXTENDED) as usize + 1;
const _: () = assert!(ROWS <= u64::BITS as usize);

/// What CPUID says of one virtual processor, for each leaf that has one answer. Valid as long as
/// its APIC is not switched on or off.
#[derive(Clone, Debug)]
pub struct Answers {
    rows: [CpuidResult; ROWS],
    /// Which rows have an answer, a bit for each.
    known: u64,
    /// What CR4.OSXSAVE adds to ECX of leaf 1.
    osxsave: u32,
}

impl Answers {
    /// The leaf that shows CR4.OSXSAVE, which a guest changes without an exit.
    pub const SHOWS_OSXSAVE: u32 = 1;

    /// None yet: each leaf is asked for.
    pub const NONE: Self = Self { rows: [NOTHING; ROWS], known: 0, osxsave: 0 };

    /// Computes them. `guest.osxsave` does not matter.
    pub fn new(host: impl Fn(u32, u32) -> CpuidResult, guest: &GuestCpu) -> Self {
        let guest = GuestCpu { osxsave: false, ..*guest };
        let leaves = (0..=MAX_BASIC).chain(EXTENDED..=MAX_EXTENDED);
        let on = filter(Self::SHOWS_OSXSAVE, 0, &host, &GuestCpu { osxsave: true, ..guest });
        let mut answers = Self { osxsave: on.ecx & features::OSXSAVE, ..Self::NONE };
        for ((index, row), leaf) in answers.rows.iter_mut().enumerate().zip(leaves) {
            if !WITH_SUBLEAVES.contains(&leaf) {
                *row = filter(leaf, 0, &host, &guest);
                answers.known |= 1 << index;
            }
        }
        answers
    }

    /// The answer for a leaf, with CR4.OSXSAVE clear. `None` where it depends on more, or the leaf is a
    /// hypervisor's.
    #[inline(always)]
    pub fn get(&self, leaf: u32) -> Option<&CpuidResult> {
        let index = match leaf {
            ..=MAX_BASIC => leaf as usize,
            EXTENDED..=MAX_EXTENDED => (leaf.wrapping_sub(EXTENDED) as usize).wrapping_add(BASIC),
            _ => return None,
        };
        if self.known >> index & 1 != 0 { self.rows.get(index) } else { None }
    }

    /// What CR4.OSXSAVE adds to ECX of leaf [`SHOWS_OSXSAVE`](Self::SHOWS_OSXSAVE).
    #[inline(always)]
    pub const fn osxsave(&self) -> u32 {
        self.osxsave
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GUEST, ones, server};
    use super::super::{BULKHEAD, HYPERVISOR};
    use super::*;

    #[test]
    fn an_answer_is_what_the_filter_says() {
        for host in [ones, server] {
            for apic in [false, true] {
                let guest = GuestCpu { apic, ..GUEST };
                let answers = Answers::new(host, &guest);
                for leaf in (0..0x40).chain(EXTENDED - 2..EXTENDED + 0x20).chain([u32::MAX]) {
                    for (osxsave, subleaf) in [(false, 0), (true, 0), (true, 3)] {
                        let guest = GuestCpu { osxsave, xcr0: 7, ..guest };
                        if let Some(&answer) = answers.get(leaf) {
                            let shown = osxsave && leaf == Answers::SHOWS_OSXSAVE;
                            let ecx = if shown { answers.osxsave() } else { 0 };
                            let answer = CpuidResult { ecx: answer.ecx | ecx, ..answer };
                            assert_eq!(answer, filter(leaf, subleaf, host, &guest), "{leaf:#x}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_depends_on_more_is_asked_for() {
        let answers = Answers::new(server, &GUEST);
        for leaf in WITH_SUBLEAVES.into_iter().chain([MAX_BASIC + 1, HYPERVISOR, BULKHEAD]) {
            assert_eq!(answers.get(leaf), None, "{leaf:#x}");
        }
        assert!(answers.get(Answers::SHOWS_OSXSAVE).is_some());
        assert_eq!(Answers::NONE.get(0), None);
    }
}
