//! The Linux that is booted to measure: its first process, its initramfs, and a CD from which it boots on the bare
//! machine, to be measured itself or to be KVM's host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use bulkhead_boot::Source;

use super::On;
use crate::guests;
use crate::guests::cpio::Archive;
use crate::{packages, process, workspace};

/// The package with the kernel: of guests, of the bare machine and of KVM's host.
pub const PACKAGE: &str = "linux-image-cloud-amd64";
/// Where the kernel's 64-bit entry point is when a loader has put it at 1 MiB
/// (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol").
pub const ENTRY: u64 = 0x10_0200;
/// What all Linuxes that are measured are told. Not to print: the bare machine's port takes thousands of ticks for each
/// byte. The kernel would test its ciphers for a minute.
pub const MEASURED: &str = "console=ttyS0,115200 quiet cryptomgr.notests";
/// The rate of the emulated TSC in kHz. Bochs's CPUID says that of the processor that it models, by which Linux would
/// wait 350 times too long.
const RATE: &str = "tsc_early_khz=10000";
/// KVM, in the order in which its parts need each other, below `kernel/` in the folder of modules.
const MODULES: [&str; 3] =
    ["virt/lib/irqbypass.ko", "arch/x86/kvm/kvm.ko", "arch/x86/kvm/kvm-intel.ko"];
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What a Linux is made of.
#[derive(Debug)]
pub struct Linux {
    /// The kernel's file.
    pub kernel: PathBuf,
    /// The initramfs of those that are measured: the first process alone.
    pub initrd: PathBuf,
    init: Vec<u8>,
    folder: PathBuf,
    /// What Linux on the machine itself is told beside [`MEASURED`].
    on_machine: &'static str,
}

/// What KVM runs.
#[derive(Debug, Clone, Copy)]
pub struct KvmGuest<'a> {
    /// The kernel's file.
    pub kernel: &'a Path,
    /// The initramfs.
    pub initrd: Option<&'a Path>,
    /// The command line.
    pub command_line: &'a str,
    /// Virtual processors.
    pub processors: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
}

impl Linux {
    /// Fetches the kernel, builds the first process, makes the initramfs; all in a folder.
    pub fn prepare(folder: &Path, on: On) -> Result<Self> {
        packages::ensure(packages::LINUX_CD)?;
        let source = Source::Debian { package: PACKAGE.into(), file: None };
        let kernel = guests::resolve(&source)?;
        let init = build_init()?;
        let init = fs::read(&init).with_context(|| format!("reading {}", init.display()))?;
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let initrd = folder.join("initrd");
        fs::write(&initrd, archive(&init).finish()).context("writing the initramfs")?;
        let on_machine = if on == On::Bochs { RATE } else { "" };
        Ok(Self { kernel, initrd, init, folder: folder.to_path_buf(), on_machine })
    }

    /// The kernel's version, as its file's name says it.
    pub fn version(&self) -> String {
        let name = self.kernel.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.strip_prefix("vmlinuz-").map(String::from).unwrap_or(name)
    }

    /// A CD from which the same Linux boots that guests boot.
    pub fn bare(&self) -> Result<PathBuf> {
        let command_line = format!("{MEASURED} {} bench=boot", self.on_machine);
        self.cd("bare", &self.initrd, &command_line)
    }

    /// A CD from which Linux boots that runs a guest under KVM. Its own mitigations of speculation attacks are off, as
    /// Bulkhead has none.
    pub fn host(&self, name: &str, guest: &KvmGuest<'_>) -> Result<PathBuf> {
        let mut archive = archive(&self.init);
        for folder in ["modules", "guest"] {
            archive.folder(folder, 0o755);
        }
        let modules = self.modules()?;
        for module in MODULES {
            let path = modules.join(module);
            let content = read(&path)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            archive.file(&format!("modules/{name}"), 0o644, &content);
        }
        archive.file("guest/kernel", 0o644, &read(guest.kernel)?);
        if let Some(initrd) = guest.initrd {
            archive.file("guest/initrd", 0o644, &read(initrd)?);
        }
        archive.file("guest/command-line", 0o644, guest.command_line.as_bytes());
        let initrd = self.folder.join(format!("{name}.initrd"));
        fs::write(&initrd, archive.finish()).context("writing the initramfs")?;
        let KvmGuest { processors, memory_mib, .. } = guest;
        let command_line = format!(
            "{MEASURED} {} mitigations=off bench=host processors={processors} memory={memory_mib}",
            self.on_machine
        );
        self.cd(name, &initrd, &command_line)
    }

    /// The folder of the kernel's modules.
    fn modules(&self) -> Result<PathBuf> {
        // The package has the kernel in `boot/`.
        let package = self.kernel.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        let folder = package.join("lib/modules").join(self.version()).join("kernel");
        if !folder.is_dir() {
            bail!("{}: the package of the kernel has no modules there", folder.display());
        }
        Ok(folder)
    }

    fn cd(&self, name: &str, initrd: &Path, command_line: &str) -> Result<PathBuf> {
        let content = self.folder.join(format!("{name}.cd"));
        fs::create_dir_all(&content).with_context(|| format!("creating {}", content.display()))?;
        let copies = [
            (Path::new("/usr/lib/ISOLINUX/isolinux.bin"), "isolinux.bin"),
            (Path::new("/usr/lib/syslinux/modules/bios/ldlinux.c32"), "ldlinux.c32"),
            (self.kernel.as_path(), "kernel"),
            (initrd, "initrd"),
        ];
        for (from, to) in copies {
            fs::copy(from, content.join(to))
                .with_context(|| format!("copying {}", from.display()))?;
        }
        let menu = format!(
            "DEFAULT linux\nPROMPT 0\nLABEL linux\n KERNEL kernel\n INITRD initrd\n APPEND {command_line}\n"
        );
        fs::write(content.join("isolinux.cfg"), menu).context("writing the boot loader's menu")?;
        let image = self.folder.join(format!("{name}.iso"));
        let mut xorriso = Command::new("xorriso");
        xorriso.args(["-as", "mkisofs", "-quiet", "-b", "isolinux.bin", "-c", "boot.cat"]);
        xorriso.args(["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]);
        xorriso.arg("-o").arg(&image).arg(&content);
        process::capture(&mut xorriso, "writing the CD")?;
        Ok(image)
    }
}

/// An initramfs with the first process alone.
fn archive(init: &[u8]) -> Archive {
    let mut archive = Archive::new();
    for folder in ["dev", "proc"] {
        archive.folder(folder, 0o755);
    }
    // The kernel opens it for the first process before that could mount /dev.
    archive.character_device("dev/console", 0o600, 5, 1);
    archive.file("init", 0o755, init);
    archive
}

/// Builds the first process as a program that needs no other file.
fn build_init() -> Result<PathBuf> {
    let folder = workspace::target().join("static");
    let mut cargo = process::cargo();
    cargo.args(["build", "--release", "--package", "bulkhead-bench", "--bin", "bench-init"]);
    // With a target, so that build scripts are programs as usual.
    cargo.args(["--target", TARGET]).arg("--target-dir").arg(&folder);
    cargo.env("RUSTFLAGS", "-Ctarget-feature=+crt-static").env_remove("CARGO_ENCODED_RUSTFLAGS");
    process::run(&mut cargo, "building the first process of the measured Linux")?;
    Ok(folder.join(TARGET).join("release/bench-init"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}
