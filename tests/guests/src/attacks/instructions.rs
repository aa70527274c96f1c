//! Instructions that a guest has not, and registers with bits that it has not.

use super::{Attack, survived};

const UD: &str = "#UD at each";
const GP: &str = "#GP at each, and the register is as before";

/// See the module.
pub(super) const ATTACKS: &[Attack] = &[
    survived("enters_vmx_operation", "VMXON, VMXOFF, VMLAUNCH, VMRESUME", UD),
    survived("uses_vmx_structures", "VMCLEAR, VMPTRLD, VMPTRST, VMREAD, VMWRITE", UD),
    survived("invalidates_translations_of_others", "INVEPT and INVVPID of every type", UD),
    survived("switches_its_ept_by_vmfunc", "VMFUNC with every function from 0 to 63", UD),
    survived(
        "calls_the_hypervisor_with_every_number",
        "VMCALL with 0 to 65,535, every power of two, and all ones",
        "-1000, \"no such call\", at each",
    ),
    survived(
        "calls_the_hypervisor_with_wild_arguments",
        "VMCALL with addresses of hypervisor, neighbour and nothing in all registers",
        "-1000, and no other register has changed",
    ),
    survived("calls_the_hypervisor_as_others_do", "VMMCALL, TDCALL, SEAMCALL", UD),
    survived("uses_smx", "GETSEC with leaves 0 to 8", UD),
    survived("uses_sgx", "ENCLS, ENCLU, ENCLV with leaves 0 to 15", UD),
    survived("leaves_system_management_mode", "RSM", UD),
    survived("uses_svm", "VMRUN, VMLOAD, VMSAVE, STGI, CLGI, SKINIT, INVLPGA", UD),
    survived("waits_for_memory", "MONITOR, MWAIT, UMONITOR, UMWAIT, TPAUSE", UD),
    survived("uses_what_is_hidden", "PCONFIG, LOADIWKEY, XSAVES, XRSTORS, ENQCMDS, SETSSBSY", UD),
    survived(
        "flushes_the_caches",
        "INVD and WBINVD over a page that was just written",
        "nothing is lost",
    ),
    survived("counts_events", "RDPMC with every counter", "#GP at each"),
    survived(
        "sets_bad_states_in_xcr0",
        "XSETBV with every bit alone, all ones, and sets that are not whole; XCR1 to XCR15",
        "#GP at each, and XCR0 is as before",
    ),
    survived("sets_reserved_bits_of_cr0", "bits 32 to 63; NW without CD; PG without PE", GP),
    survived("sets_reserved_bits_of_cr3", "each bit above those that CPUID admits", GP),
    survived(
        "sets_bits_of_cr4_that_it_has_not",
        "VMXE, SMXE, MCE, PCE, PKE, CET, LA57, and every reserved bit",
        GP,
    ),
    survived("sets_reserved_bits_of_cr8", "bits 4 to 63", GP),
    survived("sets_reserved_bits_of_dr6_and_dr7", "bits 32 to 63", GP),
    survived("uses_control_registers_that_there_are_not", "CR1, CR5, CR6, CR7, CR9 to CR15", UD),
];
