//! Bochs: the machine with VT-x on any host.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Machine, Medium, Ports};
use crate::image::Firmware;
use crate::packages;

/// The processor with everything that Bulkhead needs.
const CPU: &str = "corei7_skylake_x";
/// Bochs's own limit.
const MOST_CORES: u32 = 8;

/// The command that runs a machine, its configuration written to the machine's folder.
pub(super) fn command(machine: &Machine, ports: Ports) -> Result<Command> {
    packages::ensure(packages::BOCHS)?;
    if machine.firmware != Firmware::Bios {
        bail!("Bochs has no UEFI firmware; use --firmware bios, or --emulator qemu");
    }
    if !(1..=MOST_CORES).contains(&machine.cores) {
        bail!("Bochs has 1 to {MOST_CORES} cores, not {}", machine.cores);
    }
    let configuration = machine.folder.join("bochsrc");
    let debugger = machine.folder.join("debugger");
    write(&configuration, &configuration_of(machine, ports)?)?;
    // Debian's Bochs has its debugger compiled in and waits for a command.
    write(&debugger, &debugger_commands(machine.breakpoint))?;
    // Into a pipe Bochs would write its tick counts block by block: minutes apart.
    let mut command = Command::new("stdbuf");
    command.args(["--output=L", "bochs-bin", "-q", "-unlock"]);
    command.arg("-f").arg(configuration).arg("-rc").arg(debugger);
    // Its one display that runs without a screen. It wants a sound device, too.
    command.env("SDL_VIDEODRIVER", "dummy").env("SDL_AUDIODRIVER", "dummy");
    // It takes seconds since 1970, but sets its clock to the time of here.
    command.env("TZ", "UTC");
    command.current_dir(&machine.folder);
    Ok(command)
}

/// What the debugger is told: to let the machine run; at a breakpoint, to print the ticks first.
fn debugger_commands(breakpoint: Option<u64>) -> String {
    /// More often than anything that is looked for is executed.
    const MOST_STOPS: usize = 50;
    match breakpoint {
        None => "c\n".to_string(),
        Some(address) => {
            format!("lb {address:#x}\n{}c\n", "c\nptime\n".repeat(MOST_STOPS))
        }
    }
}

/// The ticks at the last stop at a breakpoint, in Bochs's output.
pub fn last_stop(output: &str) -> Option<u64> {
    let mut stops = output.lines().filter_map(|line| line.trim().strip_prefix("ptime: "));
    stops.next_back()?.trim().parse().ok()
}

/// The ticks that a line of Bochs's output reports: it prints those of each second.
pub fn ticks_in(line: &str) -> u64 {
    let Some(rest) = line.trim_start().strip_prefix("IPS: ") else { return 0 };
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// MiB of a machine's memory that Bochs can keep in its own.
const MOST_IN_MEMORY: u32 = 2048;

fn configuration_of(machine: &Machine, ports: Ports) -> Result<String> {
    let image = quoted(&machine.image)?;
    let log = quoted(&machine.folder.join("bochs.log"))?;
    let cpu = machine.cpu.as_deref().unwrap_or(CPU);
    let Machine { cores, threads, memory_mib, instructions_per_second, .. } = machine;
    let count = match threads {
        1 => cores.to_string(),
        // Packages, physical cores in each, threads in each of those.
        threads => format!("1:{}:{threads}", cores / threads),
    };
    // The rest waits in a file, should the machine use it.
    let host = memory_mib.min(&MOST_IN_MEMORY);
    let (device, boot) = match machine.medium {
        Medium::Disk => (format!("type=disk, path=\"{image}\", mode=flat"), "disk"),
        Medium::Cd => (format!("type=cdrom, path=\"{image}\", status=inserted"), "cdrom"),
    };
    let connected = |name: &str, port: u16| {
        format!("{name}: enabled=1, mode=socket-client, dev=127.0.0.1:{port}\n")
    };
    let com1 = connected("com1", ports.first);
    let clock = machine.clock.map_or_else(|| "utc".into(), |seconds| seconds.to_string());
    let com2 = ports.second.map(|port| connected("com2", port)).unwrap_or_default();
    // The cirrus card, as the boot stages choose a mode of Bochs's own card that they cannot use.
    // `print_timestamps` is what prints the ticks of each second.
    Ok(format!(
        "display_library: sdl2\n\
         cpu: model={cpu}, count={count}, ips={instructions_per_second}, reset_on_triple_fault=0\n\
         memory: guest={memory_mib}, host={host}\n\
         romimage: file=/usr/share/bochs/BIOS-bochs-latest\n\
         vgaromimage: file=/usr/share/vgabios/vgabios.cirrus.bin\n\
         vga: extension=cirrus\n\
         pci: enabled=1, chipset=i440fx, slot1=cirrus\n\
         ata0-master: {device}\n\
         boot: {boot}\n\
         {com1}{com2}\
         clock: sync=none, time0={clock}\n\
         print_timestamps: enabled=1\n\
         panic: action=fatal\n\
         log: \"{log}\"\n"
    ))
}

/// A path as it may stand in quotes in the configuration.
fn quoted(path: &Path) -> Result<String> {
    match std::path::absolute(path)?.to_str() {
        Some(text) if !text.contains(['"', '\n', '$']) => Ok(text.to_string()),
        _ => bail!("{}: Bochs cannot take a path with quotes, `$` or line ends", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: Ports = Ports { first: 4711, second: Some(4712) };

    #[test]
    fn the_configuration_says_what_the_machine_is() {
        let mut machine = Machine::new("/images/a b.img", "/logs");
        machine.cores = 4;
        machine.memory_mib = 1024;
        machine.cpu = Some("core2_penryn_t9600".into());
        machine.clock = Some(2_145_916_770);
        let text = configuration_of(&machine, PORTS).unwrap();
        let cpu = "cpu: model=core2_penryn_t9600, count=4, ips=10000000, reset_on_triple_fault=0";
        assert!(text.lines().any(|line| line == cpu), "{text}");
        assert!(text.contains("memory: guest=1024, host=1024\n"));
        assert!(text.contains("clock: sync=none, time0=2145916770\n"));
        assert!(text.contains("path=\"/images/a b.img\""));
        assert!(text.contains("com1: enabled=1, mode=socket-client, dev=127.0.0.1:4711\n"));
        assert!(text.contains("com2: enabled=1, mode=socket-client, dev=127.0.0.1:4712\n"));
        let text = configuration_of(&machine, Ports { second: None, ..PORTS }).unwrap();
        assert!(!text.contains("com2"), "{text}");
        assert!(text.contains("log: \"/logs/bochs.log\"\n"));
    }

    #[test]
    fn threads_are_counted_by_physical_core() {
        let mut machine = Machine::new("/images/a.img", "/logs");
        (machine.cores, machine.threads) = (8, 2);
        let text = configuration_of(&machine, PORTS).unwrap();
        assert!(text.contains(", count=1:4:2, ips="), "{text}");
    }

    #[test]
    fn a_path_that_would_end_its_quotes_is_refused() {
        let machine = Machine::new("/images/\".img", "/logs");
        assert!(configuration_of(&machine, PORTS).is_err());
    }

    #[test]
    fn a_cd_is_no_disk() {
        let mut machine = Machine::new("/images/a.iso", "/logs");
        machine.medium = Medium::Cd;
        let text = configuration_of(&machine, PORTS).unwrap();
        assert!(
            text.contains("type=cdrom, path=\"/images/a.iso\", status=inserted\nboot: cdrom\n")
        );
    }

    #[test]
    fn the_last_stop_counts() {
        assert!(debugger_commands(Some(0x1000)).starts_with("lb 0x1000\nc\nptime\nc\n"));
        assert_eq!(last_stop("ptime: 7\nIPS: 3\n<bochs:4> ptime: 6\nptime: 9\n"), Some(9));
        assert_eq!(last_stop("IPS: 3\n"), None);
    }

    #[test]
    fn ticks_are_read_from_the_lines_of_each_second() {
        assert_eq!(ticks_in("IPS: 32352955\taverage = 32352955\t\t(1s)\n"), 32_352_955);
        assert_eq!(ticks_in("Next at t=0\n"), 0);
        assert_eq!(ticks_in("IPS: \n"), 0);
    }
}
