//! QEMU: with KVM where the host has nested VT-x, without it for boot tests.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Machine, Medium, Ports};
use crate::image::Firmware;
use crate::packages;

const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// The command that runs a machine.
pub(super) fn command(machine: &Machine, ports: Ports, kvm: bool) -> Result<Command> {
    packages::ensure(packages::QEMU)?;
    let mut command = Command::new("qemu-system-x86_64");
    command.args(arguments(machine, ports, kvm)?);
    if machine.firmware == Firmware::Uefi {
        packages::ensure(packages::OVMF)?;
        // The firmware writes its variables: a copy of its own for each machine.
        let variables = machine.folder.join("ovmf-variables.fd");
        fs::copy(OVMF_VARS, &variables)
            .with_context(|| format!("copying {OVMF_VARS} to {}", variables.display()))?;
        let code = format!("if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}");
        command.arg("-drive").arg(code);
        command.arg("-drive").arg(drive("if=pflash,unit=1,format=raw,file=", &variables)?);
    }
    Ok(command)
}

fn arguments(machine: &Machine, ports: Ports, kvm: bool) -> Result<Vec<OsString>> {
    let cpu = match &machine.cpu {
        Some(model) => model.clone(),
        None if kvm => "host,+vmx,+x2apic".to_string(),
        None => "max".to_string(),
    };
    // The image stays as it is: what the machine writes goes to a temporary file.
    let medium = match machine.medium {
        Medium::Disk => "if=ide,index=0,media=disk,format=raw,snapshot=on,file=",
        Medium::Cd => "if=ide,index=0,media=cdrom,format=raw,readonly=on,file=",
    };
    let disk = drive(medium, &machine.image)?;
    let mut arguments: Vec<OsString> = ["-accel", if kvm { "kvm" } else { "tcg" }, "-cpu", &cpu]
        .map(OsString::from)
        .into_iter()
        .collect();
    let Machine { cores, threads, .. } = machine;
    let smp = if *threads == 1 { cores.to_string() } else { format!("{cores},threads={threads}") };
    arguments.extend(["-smp", &smp].map(OsString::from));
    arguments.extend(["-m", &format!("{}M", machine.memory_mib)].map(OsString::from));
    arguments.extend(["-drive".into(), disk]);
    for port in [Some(ports.first), ports.second].into_iter().flatten() {
        let serial = format!("tcp:127.0.0.1:{port},nodelay=on");
        arguments.extend(["-serial", &serial].map(OsString::from));
    }
    arguments.extend(["-display", "none", "-monitor", "none"].map(OsString::from));
    arguments.extend(["-nic", "none", "-no-reboot"].map(OsString::from));
    Ok(arguments)
}

/// A `-drive` argument: in it, a comma in a path is written twice.
fn drive(options: &str, path: &Path) -> Result<OsString> {
    match path.to_str() {
        Some(path) => Ok(format!("{options}{}", path.replace(',', ",,")).into()),
        None => bail!("{}: QEMU cannot take a path that is not UTF-8", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: Ports = Ports { first: 4711, second: Some(4712) };

    #[test]
    fn arguments_say_what_the_machine_is() {
        let mut machine = Machine::new("/images/a,b.img", "/logs");
        machine.cores = 3;
        let arguments = arguments(&machine, PORTS, true).unwrap();
        let line = arguments.join(&OsString::from(" ")).into_string().unwrap();
        assert!(line.contains("-accel kvm -cpu host,+vmx,+x2apic -smp 3 -m 512M"), "{line}");
        assert!(line.contains("file=/images/a,,b.img"), "{line}");
        (machine.cores, machine.threads) = (4, 2);
        let arguments = super::arguments(&machine, PORTS, true).unwrap();
        assert!(arguments.contains(&OsString::from("4,threads=2")), "{arguments:?}");
        let serial = |port| format!("-serial tcp:127.0.0.1:{port},nodelay=on");
        let serial = format!("{} {}", serial(4711), serial(4712));
        assert!(line.contains(&serial), "{line}");
    }

    #[test]
    fn without_kvm_the_processor_is_an_emulated_one() {
        let arguments = arguments(&Machine::new("/i", "/l"), PORTS, false).unwrap();
        let line = arguments.join(&OsString::from(" ")).into_string().unwrap();
        assert!(line.contains("-accel tcg -cpu max"), "{line}");
    }
}
