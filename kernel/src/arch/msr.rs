//! Model-specific registers, by the manual's names (SDM Vol. 4, table 2-2).

use core::arch::asm;

/// A register that every processor with VT-x and 64-bit mode has, so that
/// reading it cannot fault. Only this module makes them, except through
/// [`Msr::claimed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msr(u32);

impl Msr {
    /// The time-stamp counter.
    pub const TSC: Self = Self(0x10);
    /// What was added to the time-stamp counter. Only where CPUID.7.0:EBX.TSC_ADJUST is set.
    pub const TSC_ADJUST: Self = Self(0x3B);
    /// Base, x2APIC and BSP bits of the local APIC.
    pub const APIC_BASE: Self = Self(0x1B);
    /// Whether VMXON is allowed, and whether that is locked. Only where CPUID.1:ECX.VMX is set.
    pub const FEATURE_CONTROL: Self = Self(0x3A);
    /// Controls of speculation. Only where CPUID.7.0:EDX\[26\] is set.
    pub const SPEC_CTRL: Self = Self(0x48);
    /// Commands to the branch predictors, write only. Only where CPUID.7.0:EDX\[26\] is set.
    pub const PRED_CMD: Self = Self(0x49);
    /// Commands to the L1 data cache, write only. Only where CPUID.7.0:EDX\[28\] is set.
    pub const FLUSH_CMD: Self = Self(0x10B);
    /// What the processor is not prone to. Only where CPUID.7.0:EDX\[29\] is set.
    pub const ARCH_CAPABILITIES: Self = Self(0x10A);
    /// SYSENTER's code segment.
    pub const SYSENTER_CS: Self = Self(0x174);
    /// SYSENTER's stack pointer.
    pub const SYSENTER_ESP: Self = Self(0x175);
    /// SYSENTER's instruction pointer.
    pub const SYSENTER_EIP: Self = Self(0x176);
    /// Page attribute table.
    pub const PAT: Self = Self(0x277);
    /// Miscellaneous features of Intel's, fast strings among them.
    pub const MISC_ENABLE: Self = Self(0x1A0);
    /// VMCS revision, region size, memory type.
    pub const VMX_BASIC: Self = Self(0x480);
    /// Bits of CR0 that must be 1 in VMX operation.
    pub const VMX_CR0_FIXED0: Self = Self(0x486);
    /// Bits of CR0 that may be 1 in VMX operation.
    pub const VMX_CR0_FIXED1: Self = Self(0x487);
    /// Bits of CR4 that must be 1 in VMX operation.
    pub const VMX_CR4_FIXED0: Self = Self(0x488);
    /// Bits of CR4 that may be 1 in VMX operation.
    pub const VMX_CR4_FIXED1: Self = Self(0x489);
    /// Long mode, NX, SYSCALL.
    pub const EFER: Self = Self(0xC000_0080);
    /// SYSCALL's segments.
    pub const STAR: Self = Self(0xC000_0081);
    /// SYSCALL's entry from 64-bit code.
    pub const LSTAR: Self = Self(0xC000_0082);
    /// SYSCALL's entry from compatibility mode.
    pub const CSTAR: Self = Self(0xC000_0083);
    /// RFLAGS bits that SYSCALL clears.
    pub const FMASK: Self = Self(0xC000_0084);
    /// Base of FS.
    pub const FS_BASE: Self = Self(0xC000_0100);
    /// Base of GS.
    pub const GS_BASE: Self = Self(0xC000_0101);
    /// What SWAPGS exchanges with GS's base.
    pub const KERNEL_GS_BASE: Self = Self(0xC000_0102);
    /// What RDTSCP returns in ECX.
    pub const TSC_AUX: Self = Self(0xC000_0103);

    /// A register that the caller knows to exist, from a capability it has checked.
    pub const fn claimed(number: u32) -> Self {
        Self(number)
    }

    /// The number that RDMSR takes in ECX.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Reads the register.
    pub fn read(self) -> u64 {
        let (low, high): (u32, u32);
        // SAFETY: reading the registers named here has no side effect, and they exist on every
        // processor that passed the capability check; one made by `claimed` has been promised to.
        unsafe {
            asm!("rdmsr", in("ecx") self.0, out("eax") low, out("edx") high,
                options(nomem, nostack, preserves_flags));
        }
        u64::from(high) << 32 | u64::from(low)
    }

    /// Writes the register.
    ///
    /// # Safety
    /// The value must be valid for the register, and the caller answers for what it changes.
    pub unsafe fn write(self, value: u64) {
        // SAFETY: the caller's contract.
        unsafe {
            asm!("wrmsr", in("ecx") self.0, in("eax") value as u32, in("edx") (value >> 32) as u32,
                options(nostack, preserves_flags));
        }
    }
}
