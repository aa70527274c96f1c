//! Files from Debian packages that are not installed: `apt-get download` fetches them and checks
//! their signatures, `dpkg-deb` unpacks them below `target/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{process, progress};

/// The kernel in a package, or in the package that it depends on.
pub fn kernel(package: &str) -> Result<PathBuf> {
    let mut name = package.to_string();
    // A metapackage such as linux-image-cloud-amd64 depends on the one for the current version.
    for _ in 0..3 {
        if let Some(kernel) = kernel_in(&unpacked(&name)?)? {
            return Ok(kernel);
        }
        match image_it_depends_on(&show(&name)?) {
            Some(next) => name = next,
            None => break,
        }
    }
    bail!(
        "the Debian package {name} has no boot/vmlinuz-*, and depends on no linux-image-*; \
         linux-image-cloud-amd64 is one that has a kernel"
    )
}

/// The folder with a package's files: fetched and unpacked, unless that was done before.
pub fn unpacked(package: &str) -> Result<PathBuf> {
    let archive = archive_name(package)?;
    let folder = super::folder("debian");
    let place = folder.join(archive.trim_end_matches(".deb"));
    if place.is_dir() {
        return Ok(place);
    }
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let file = folder.join(&archive);
    if !file.is_file() {
        let _shown = progress::step(&format!("Fetching the Debian package {package}"));
        download(package, &folder)?;
    }
    let unfinished = folder.join(format!("{archive}.unpacking"));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.arg("--extract").arg(&file).arg(&unfinished);
    process::capture(&mut dpkg, &format!("unpacking {archive}"))?;
    fs::rename(&unfinished, &place)
        .with_context(|| format!("moving what was unpacked to {}", place.display()))?;
    // Unpacked, the archive is of no more use.
    fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
    Ok(place)
}

/// The file name under which apt would download a package: it holds the version.
fn archive_name(package: &str) -> Result<String> {
    let ask = || {
        let mut apt = Command::new("apt-get");
        apt.args(["--print-uris", "download", package]);
        process::capture(&mut apt, &format!("looking up the Debian package {package}"))
    };
    let line = match ask() {
        Ok(line) => line,
        // A machine fresh from its image has no lists of packages at all.
        Err(_) if rustix::process::geteuid().is_root() => {
            update()?;
            ask()?
        }
        Err(error) => return Err(error).context("if the package exists: sudo apt-get update"),
    };
    match named_in_uris(&line) {
        Some(name) => Ok(name.to_string()),
        None => bail!("apt-get names no file for the Debian package {package}: `{}`", line.trim()),
    }
}

/// The file name in a line of `apt-get --print-uris`.
fn named_in_uris(line: &str) -> Option<&str> {
    // 'URI' NAME SIZE HASH
    let name = line.split_whitespace().nth(1)?;
    (name.ends_with(".deb") && !name.contains('/')).then_some(name)
}

fn download(package: &str, folder: &Path) -> Result<()> {
    let fetch = || {
        let mut apt = Command::new("apt-get");
        apt.args(["--quiet=2", "download", package]).current_dir(folder);
        if rustix::process::geteuid().is_root() {
            // As root, apt fetches as the user `_apt`, who may not write here.
            apt.args(["-o", "APT::Sandbox::User=root"]);
        }
        process::capture(&mut apt, &format!("fetching the Debian package {package}"))
    };
    match fetch() {
        Ok(_) => Ok(()),
        // The lists may name a version that the mirror no longer has.
        Err(_) if rustix::process::geteuid().is_root() => {
            update()?;
            fetch().map(|_| ())
        }
        Err(error) => Err(error).context("if the mirror has a newer version: sudo apt-get update"),
    }
}

fn update() -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.args(["--quiet=2", "update"]);
    process::capture(&mut apt, "updating the list of Debian packages").map(|_| ())
}

fn show(package: &str) -> Result<String> {
    let mut apt = Command::new("apt-cache");
    apt.args(["show", "--no-all-versions", package]);
    process::capture(&mut apt, &format!("looking up the Debian package {package}"))
}

/// The first `linux-image-*` among the dependencies in a package's description.
fn image_it_depends_on(description: &str) -> Option<String> {
    let depends = description.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    let mut names = depends.split([',', '|']).filter_map(|one| one.split_whitespace().next());
    names.find(|name| name.starts_with("linux-image-")).map(String::from)
}

fn kernel_in(package: &Path) -> Result<Option<PathBuf>> {
    let boot = package.join("boot");
    if !boot.is_dir() {
        return Ok(None);
    }
    for entry in fs::read_dir(&boot).with_context(|| format!("reading {}", boot.display()))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("vmlinuz-") {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_behind_a_metapackage_is_found() {
        let text = "Package: linux-image-cloud-amd64\nDepends: linux-base (>= 4) | x, \
                    linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\nDescription: Linux";
        let image = image_it_depends_on(text);
        assert_eq!(image.as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(image_it_depends_on("Depends: libc6\n"), None);
        assert_eq!(image_it_depends_on("Package: x\n"), None);
    }

    #[test]
    fn the_file_name_is_taken_from_apts_line() {
        let line = "'http://mirror.example/p/b_1%3a1.deb' b_1%3a1.deb 267 SHA256:e7d0\n";
        assert_eq!(named_in_uris(line), Some("b_1%3a1.deb"));
        assert_eq!(named_in_uris("'x' ../../b.deb 1 SHA256:0"), None);
        assert_eq!(named_in_uris(""), None);
    }
}
