//! Which emulator: QEMU with KVM where that can really run a hypervisor, otherwise Bochs.

use std::fs;

use super::Kind;
use crate::process;

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Wanted {
    /// QEMU with KVM where nested VT-x is usable on this host, otherwise Bochs.
    #[default]
    Auto,
    /// Bochs, which emulates VT-x itself.
    Bochs,
    /// QEMU, with KVM where it is usable; without it, the machine has no VT-x.
    Qemu,
}

/// The emulator to use, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The emulator.
    pub kind: Kind,
    /// One line for the user.
    pub reason: String,
}

/// What the host says about nested VT-x: the first obstacle, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Nested {
    Usable,
    Not(String),
}

/// Chooses the emulator for this host.
pub fn choose(wanted: Wanted) -> Choice {
    decide(wanted, probe, process::on_path("qemu-system-x86_64"))
}

fn decide(wanted: Wanted, probe: impl FnOnce() -> Nested, qemu: bool) -> Choice {
    let (kind, reason) = match wanted {
        Wanted::Bochs => (Kind::Bochs, "Bochs, as asked for".to_string()),
        Wanted::Qemu => match probe() {
            Nested::Usable => {
                (Kind::QemuKvm, "QEMU with KVM, as asked for; nested VT-x works here".into())
            }
            Nested::Not(why) => (
                Kind::QemuTcg,
                format!("QEMU without KVM, as asked for; its processor has no VT-x ({why})"),
            ),
        },
        Wanted::Auto => match probe() {
            Nested::Usable if qemu => {
                (Kind::QemuKvm, "QEMU with KVM: nested VT-x works on this host".into())
            }
            Nested::Usable => (
                Kind::Bochs,
                "Bochs: nested VT-x works on this host, but QEMU (package qemu-system-x86) is \
                 not installed"
                    .into(),
            ),
            Nested::Not(why) => (Kind::Bochs, format!("Bochs: no nested VT-x here ({why})")),
        },
    };
    Choice { kind, reason }
}

fn probe() -> Nested {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !has_flag(&cpuinfo, "vmx") {
        return Nested::Not("the processor shows no vmx flag".into());
    }
    let nested = fs::read_to_string("/sys/module/kvm_intel/parameters/nested").unwrap_or_default();
    if !matches!(nested.trim(), "Y" | "1") {
        return Nested::Not("kvm_intel is not loaded with nested=1".into());
    }
    match virtual_machine() {
        Ok(true) => Nested::Usable,
        Ok(false) => Nested::Not("KVM offers its guests no VT-x".into()),
        Err(error) => Nested::Not(format!("/dev/kvm: {error}")),
    }
}

/// Really opens KVM and makes a virtual machine; says whether a processor in it would have VT-x.
fn virtual_machine() -> Result<bool, kvm_ioctls::Error> {
    /// CPUID.01H:ECX.VMX, SDM Vol. 3C, 24.6.
    const VMX: u32 = 1 << 5;
    let kvm = kvm_ioctls::Kvm::new()?;
    kvm.create_vm()?;
    let cpuid = kvm.get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)?;
    Ok(cpuid.as_slice().iter().any(|entry| entry.function == 1 && entry.ecx & VMX != 0))
}

/// Whether a processor in /proc/cpuinfo has a flag.
fn has_flag(cpuinfo: &str, flag: &str) -> bool {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .any(|(key, flags)| key.trim() == "flags" && flags.split_whitespace().any(|f| f == flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not() -> Nested {
        Nested::Not("the processor shows no vmx flag".into())
    }

    #[test]
    fn flags_are_whole_words_of_the_flags_line() {
        let cpuinfo = "model name\t: vmx\nflags\t\t: fpu ept_vmx sse\nvmx flags\t: vmx\n";
        assert!(!has_flag(cpuinfo, "vmx"));
        assert!(has_flag("flags\t\t: fpu vmx sse\n", "vmx"));
    }

    #[test]
    fn auto_takes_kvm_only_where_it_works_and_qemu_is_there() {
        assert_eq!(decide(Wanted::Auto, || Nested::Usable, true).kind, Kind::QemuKvm);
        assert_eq!(decide(Wanted::Auto, || Nested::Usable, false).kind, Kind::Bochs);
        let choice = decide(Wanted::Auto, not, true);
        assert_eq!(choice.kind, Kind::Bochs);
        assert!(choice.reason.contains("no vmx flag"), "{}", choice.reason);
    }

    #[test]
    fn what_is_asked_for_is_used() {
        let never = || panic!("not to be probed");
        assert_eq!(decide(Wanted::Bochs, never, true).kind, Kind::Bochs);
        assert_eq!(decide(Wanted::Qemu, not, true).kind, Kind::QemuTcg);
        assert_eq!(decide(Wanted::Qemu, || Nested::Usable, true).kind, Kind::QemuKvm);
    }
}
