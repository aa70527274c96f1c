//! An initramfs with busybox: every applet under its usual name, a script as the first process, and modules of the kernel's.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use bulkhead_boot::Modules;

use super::cpio::Archive;
use super::debian;
use crate::process;

/// Makes the initramfs in which a script is `/init`.
pub fn initramfs(script: &Path, modules: Option<&Modules>) -> Result<PathBuf> {
    let init = fs::read(script).with_context(|| format!("reading {}", script.display()))?;
    if !init.starts_with(b"#!") {
        bail!(
            "{}: the script of a busybox initramfs begins with `#!`, for example `#!/bin/sh`",
            script.display()
        );
    }
    let program = debian::unpacked("busybox-static")?.join("bin/busybox");
    let mut list = Command::new(&program);
    let applets = process::capture(list.arg("--list-full"), "asking busybox for its applets")?;
    let busybox = fs::read(&program).with_context(|| format!("reading {}", program.display()))?;
    let modules = match modules {
        None => Vec::new(),
        Some(Modules { package, names }) => debian::modules(package, names)?,
    };
    let archive = build(&init, &busybox, applets.lines(), &modules);

    let folder = super::folder("initramfs");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let name = script.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    // Two scripts of one name are told apart by their content.
    let place = folder.join(format!("{name}-{:016x}.cpio", fingerprint(&archive)));
    super::write_whole(&place, &archive).with_context(|| format!("writing {}", place.display()))?;
    Ok(place)
}

fn build<'a>(
    init: &[u8],
    busybox: &[u8],
    applets: impl Iterator<Item = &'a str>,
    modules: &[(String, Vec<u8>)],
) -> Vec<u8> {
    let mut archive = Archive::new();
    let applets: BTreeSet<&str> = applets.filter(|path| !path.is_empty()).collect();
    let mut folders: BTreeSet<&str> =
        ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp"].into();
    if !modules.is_empty() {
        folders.extend(["lib", "lib/modules"]);
    }
    for applet in &applets {
        let parents = Path::new(applet).ancestors().skip(1).filter_map(Path::to_str);
        folders.extend(parents.filter(|parent| !parent.is_empty()));
    }
    for folder in folders {
        archive.folder(folder, if folder == "tmp" { 0o1777 } else { 0o755 });
    }
    // The kernel opens it for the first process before that could mount /dev.
    archive.character_device("dev/console", 0o600, 5, 1);
    archive.file("bin/busybox", 0o755, busybox);
    for applet in applets.into_iter().filter(|path| *path != "bin/busybox") {
        archive.link(applet, "/bin/busybox");
    }
    for (name, module) in modules {
        archive.file(&format!("lib/modules/{name}.ko"), 0o644, module);
    }
    archive.file("init", 0o755, init);
    archive.finish()
}

/// FNV-1a: stable from build to build, which is all that a file name needs.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_what_is_in_them() {
        let applets = ["usr/bin/awk", "sbin/init", "bin/busybox", "linuxrc"];
        let modules = [("button".into(), b"\x7fELF".to_vec())];
        let archive = build(b"#!/bin/sh\n", b"\x7fELF", applets.into_iter(), &modules);
        let at = |name: &str| {
            let name = format!("{name}\0");
            archive.windows(name.len()).position(|window| window == name.as_bytes())
        };
        assert!(at("usr").unwrap() < at("usr/bin").unwrap());
        assert!(at("usr/bin").unwrap() < at("usr/bin/awk").unwrap());
        assert!(at("lib/modules").unwrap() < at("lib/modules/button.ko").unwrap());
        assert!(at("dev").unwrap() < at("dev/console").unwrap());
        assert!(at("init").is_some() && at("linuxrc").is_some());
    }

    #[test]
    fn a_script_without_interpreter_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("init");
        fs::write(&script, "echo hello\n").unwrap();
        let error = initramfs(&script, None).unwrap_err().to_string();
        assert!(error.contains("#!/bin/sh"), "{error}");
    }
}
