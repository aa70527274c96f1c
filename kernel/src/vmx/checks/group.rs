//! The groups of controls, and the controls that the checks look at.

use super::{Field, Limits, Vmcs};
use x86::vmx::vmcs::control::{
    self, EntryControls, ExitControls, PinbasedControls, PrimaryControls, SecondaryControls,
};

/// A field that holds controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Pin,
    Primary,
    Secondary,
    Tertiary,
    VmFunctions,
    Exit,
    SecondaryExit,
    Entry,
}

/// What there is to say of a group: the field, what makes it count, the section with its checks.
type Row = (Group, Field, Option<Control>, &'static str);

/// In an order in which each group comes after the one that activates it.
pub(super) const GROUPS: [Row; Group::COUNT] = [
    (
        Group::Pin,
        Field::new(control::PINBASED_EXEC_CONTROLS, "pin-based controls"),
        None,
        "27.2.1.1",
    ),
    (
        Group::Primary,
        Field::new(control::PRIMARY_PROCBASED_EXEC_CONTROLS, "primary processor-based controls"),
        None,
        "27.2.1.1",
    ),
    (
        Group::Secondary,
        Field::new(
            control::SECONDARY_PROCBASED_EXEC_CONTROLS,
            "secondary processor-based controls",
        ),
        Some(SECONDARY_CONTROLS),
        "27.2.1.1",
    ),
    (
        Group::Tertiary,
        Field::new(TERTIARY_PROCBASED_EXEC_CONTROLS, "tertiary processor-based controls"),
        Some(TERTIARY_CONTROLS),
        "27.2.1.1",
    ),
    (
        Group::VmFunctions,
        Field::new(control::VM_FUNCTION_CONTROLS_FULL, "VM-function controls"),
        Some(VM_FUNCTIONS),
        "27.2.1.1",
    ),
    (Group::Exit, Field::new(control::VMEXIT_CONTROLS, "VM-exit controls"), None, "27.2.1.2"),
    (
        Group::SecondaryExit,
        Field::new(SECONDARY_VMEXIT_CONTROLS, "secondary VM-exit controls"),
        Some(SECONDARY_EXIT_CONTROLS),
        "27.2.1.2",
    ),
    (Group::Entry, Field::new(control::VMENTRY_CONTROLS, "VM-entry controls"), None, "27.2.1.3"),
];

const _: () = {
    let mut index = 0;
    while index < GROUPS.len() {
        assert!(GROUPS[index].0 as usize == index, "a row is where its group's number says");
        index += 1;
    }
};

/// Encodings that the `x86` crate lacks (SDM Vol. 3D, table B-4).
const TERTIARY_PROCBASED_EXEC_CONTROLS: u32 = 0x2034;
const SECONDARY_VMEXIT_CONTROLS: u32 = 0x2044;

impl Group {
    pub const COUNT: usize = Self::Entry as usize + 1;

    /// The field that holds the group.
    pub fn field(self) -> Field {
        GROUPS[self as usize].1
    }

    /// The section with the group's checks.
    pub fn section(self) -> &'static str {
        GROUPS[self as usize].3
    }
}

/// One control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Control {
    pub group: Group,
    pub bit: u64,
}

const fn pin(bit: PinbasedControls) -> Control {
    Control { group: Group::Pin, bit: bit.bits() as u64 }
}

const fn primary(bit: PrimaryControls) -> Control {
    Control { group: Group::Primary, bit: bit.bits() as u64 }
}

const fn secondary(bit: SecondaryControls) -> Control {
    Control { group: Group::Secondary, bit: bit.bits() as u64 }
}

const fn exit(bit: ExitControls) -> Control {
    Control { group: Group::Exit, bit: bit.bits() as u64 }
}

const fn entry(bit: EntryControls) -> Control {
    Control { group: Group::Entry, bit: bit.bits() as u64 }
}

pub(super) const EXTERNAL_INTERRUPT_EXITING: Control =
    pin(PinbasedControls::EXTERNAL_INTERRUPT_EXITING);
pub(super) const NMI_EXITING: Control = pin(PinbasedControls::NMI_EXITING);
pub(super) const VIRTUAL_NMIS: Control = pin(PinbasedControls::VIRTUAL_NMIS);
pub(super) const PREEMPTION_TIMER: Control = pin(PinbasedControls::VMX_PREEMPTION_TIMER);
pub(super) const POSTED_INTERRUPTS: Control = pin(PinbasedControls::POSTED_INTERRUPTS);

/// SDM Vol. 3C, table 25-6; the `x86` crate lacks it.
pub(super) const TERTIARY_CONTROLS: Control = Control { group: Group::Primary, bit: 1 << 17 };
pub(super) const TPR_SHADOW: Control = primary(PrimaryControls::USE_TPR_SHADOW);
pub(super) const NMI_WINDOW_EXITING: Control = primary(PrimaryControls::NMI_WINDOW_EXITING);
pub(super) const IO_BITMAPS: Control = primary(PrimaryControls::USE_IO_BITMAPS);
pub(super) const MONITOR_TRAP_FLAG: Control = primary(PrimaryControls::MONITOR_TRAP_FLAG);
pub(super) const MSR_BITMAPS: Control = primary(PrimaryControls::USE_MSR_BITMAPS);
pub(super) const SECONDARY_CONTROLS: Control = primary(PrimaryControls::SECONDARY_CONTROLS);

pub(super) const VIRTUALIZE_APIC_ACCESSES: Control = secondary(SecondaryControls::VIRTUALIZE_APIC);
pub(super) const ENABLE_EPT: Control = secondary(SecondaryControls::ENABLE_EPT);
pub(super) const VIRTUALIZE_X2APIC: Control = secondary(SecondaryControls::VIRTUALIZE_X2APIC);
pub(super) const ENABLE_VPID: Control = secondary(SecondaryControls::ENABLE_VPID);
pub(super) const UNRESTRICTED_GUEST: Control = secondary(SecondaryControls::UNRESTRICTED_GUEST);
pub(super) const VIRTUALIZE_APIC_REGISTERS: Control =
    secondary(SecondaryControls::VIRTUALIZE_APIC_REGISTER);
pub(super) const VIRTUAL_INTERRUPT_DELIVERY: Control =
    secondary(SecondaryControls::VIRTUAL_INTERRUPT_DELIVERY);
pub(super) const VM_FUNCTIONS: Control = secondary(SecondaryControls::ENABLE_VM_FUNCTIONS);
pub(super) const VMCS_SHADOWING: Control = secondary(SecondaryControls::VMCS_SHADOWING);
pub(super) const ENABLE_PML: Control = secondary(SecondaryControls::ENABLE_PML);
pub(super) const EPT_VIOLATION_VE: Control = secondary(SecondaryControls::EPT_VIOLATION_VE);
pub(super) const MODE_BASED_EPT: Control = secondary(SecondaryControls::MODE_BASED_EPT);
pub(super) const SUB_PAGE_EPT: Control = secondary(SecondaryControls::SUB_PAGE_EPT);
pub(super) const PT_GUEST_PHYSICAL: Control = secondary(SecondaryControls::INTEL_PT_GUEST_PHYSICAL);
pub(super) const TSC_SCALING: Control = secondary(SecondaryControls::USE_TSC_SCALING);

/// SDM Vol. 3C, table 25-10; the `x86` crate has no VM functions.
pub(super) const EPTP_SWITCHING: Control = Control { group: Group::VmFunctions, bit: 1 << 0 };

pub(super) const HOST_64_BIT: Control = exit(ExitControls::HOST_ADDRESS_SPACE_SIZE);
pub(super) const EXIT_LOAD_PERF: Control = exit(ExitControls::LOAD_IA32_PERF_GLOBAL_CTRL);
pub(super) const ACKNOWLEDGE_INTERRUPT: Control = exit(ExitControls::ACK_INTERRUPT_ON_EXIT);
pub(super) const EXIT_LOAD_PAT: Control = exit(ExitControls::LOAD_IA32_PAT);
pub(super) const EXIT_LOAD_EFER: Control = exit(ExitControls::LOAD_IA32_EFER);
pub(super) const SAVE_PREEMPTION_TIMER: Control = exit(ExitControls::SAVE_VMX_PREEMPTION_TIMER);
pub(super) const CLEAR_RTIT_CTL: Control = exit(ExitControls::CLEAR_IA32_RTIT_CTL);
/// SDM Vol. 3C, table 25-13; the `x86` crate lacks these three.
pub(super) const EXIT_LOAD_CET: Control = Control { group: Group::Exit, bit: 1 << 28 };
pub(super) const EXIT_LOAD_PKRS: Control = Control { group: Group::Exit, bit: 1 << 29 };
pub(super) const SECONDARY_EXIT_CONTROLS: Control = Control { group: Group::Exit, bit: 1 << 31 };

pub(super) const LOAD_DEBUG_CONTROLS: Control = entry(EntryControls::LOAD_DEBUG_CONTROLS);
pub(super) const IA32E_MODE_GUEST: Control = entry(EntryControls::IA32E_MODE_GUEST);
pub(super) const ENTRY_TO_SMM: Control = entry(EntryControls::ENTRY_TO_SMM);
pub(super) const DEACTIVATE_DUAL_MONITOR: Control = entry(EntryControls::DEACTIVATE_DUAL_MONITOR);
pub(super) const ENTRY_LOAD_PERF: Control = entry(EntryControls::LOAD_IA32_PERF_GLOBAL_CTRL);
pub(super) const ENTRY_LOAD_PAT: Control = entry(EntryControls::LOAD_IA32_PAT);
pub(super) const ENTRY_LOAD_EFER: Control = entry(EntryControls::LOAD_IA32_EFER);
pub(super) const ENTRY_LOAD_BNDCFGS: Control = entry(EntryControls::LOAD_IA32_BNDCFGS);
pub(super) const ENTRY_LOAD_RTIT_CTL: Control = entry(EntryControls::LOAD_IA32_RTIT_CTL);
/// SDM Vol. 3C, table 25-15; the `x86` crate lacks these four.
pub(super) const ENTRY_LOAD_UINV: Control = Control { group: Group::Entry, bit: 1 << 19 };
pub(super) const ENTRY_LOAD_CET: Control = Control { group: Group::Entry, bit: 1 << 20 };
pub(super) const ENTRY_LOAD_LBR_CTL: Control = Control { group: Group::Entry, bit: 1 << 21 };
pub(super) const ENTRY_LOAD_PKRS: Control = Control { group: Group::Entry, bit: 1 << 22 };

/// The controls that are 1, that the processor has, and whose group counts.
#[derive(Clone, Copy)]
pub(super) struct Active([u64; Group::COUNT]);

impl Active {
    pub fn read(vmcs: &impl Vmcs, limits: &Limits) -> Self {
        let mut active = Self([0; Group::COUNT]);
        for (group, field, activated_by, _) in GROUPS {
            if activated_by.is_none_or(|control| active.has(control)) {
                active.0[group as usize] = vmcs.read(field.encoding) & limits.of(group).may;
            }
        }
        active
    }

    pub fn has(&self, control: Control) -> bool {
        self.0[control.group as usize] & control.bit != 0
    }
}
