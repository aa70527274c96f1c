//! Files from Debian packages that are not installed: `apt-get download` fetches them and checks
//! their signatures, `dpkg-deb` unpacks them below `target/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{process, progress};

/// The kernel in a package, or in the package that it depends on: the file that is named, or else
/// the only one in `boot/`.
pub fn kernel(package: &str, file: Option<&str>) -> Result<PathBuf> {
    if let Some(file) = file {
        let place = unpacked(package)?;
        if !place.join(file).is_file() {
            let kernels = kernels_in(&place.join("boot"))?.join(", ");
            bail!(
                "the Debian package {package} has no file {file}; its kernels in boot/: {kernels}"
            );
        }
        return Ok(place.join(file));
    }
    let image = image(package, MOST_METAPACKAGES)?;
    match the_only(&image.package, &image.kernels)? {
        Some(kernel) => Ok(image.folder.join("boot").join(kernel)),
        None => bail!(
            "the Debian package {} has no kernel in boot/, and depends on no linux-image-*; \
             linux-image-cloud-amd64 is one that has a kernel",
            image.package
        ),
    }
}

/// Modules of the kernel in a package, or in the package that it depends on: their names and files.
pub fn modules(package: &str, names: &[String]) -> Result<Vec<(String, Vec<u8>)>> {
    let Image { package, folder, .. } = image(package, MOST_METAPACKAGES)?;
    let found = modules_below(&folder.join("lib/modules"))?;
    let module = |name: &String| {
        let path = found.get(name).with_context(|| {
            format!(
                "the Debian package {package} has no file {name}.ko; what is built into its kernel needs no module"
            )
        })?;
        let module = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        Ok((name.clone(), module))
    };
    names.iter().map(module).collect()
}

/// How many metapackages may lead to the package with the kernel.
const MOST_METAPACKAGES: u32 = 2;

/// A package with a kernel's image, unpacked.
struct Image {
    package: String,
    folder: PathBuf,
    /// The kernels in its `boot/`.
    kernels: Vec<String>,
}

/// The package itself, if it has kernels or depends on no other that could, or the one that it depends on, over so many
/// others: a metapackage such as linux-image-cloud-amd64 depends on the one for the current version.
fn image(package: &str, others: u32) -> Result<Image> {
    let folder = unpacked(package)?;
    let kernels = kernels_in(&folder.join("boot"))?;
    if kernels.is_empty()
        && let Some(others) = others.checked_sub(1)
        && let Some(next) = image_it_depends_on(&show(package)?)
    {
        return image(&next, others);
    }
    Ok(Image { package: package.into(), folder, kernels })
}

/// The modules anywhere below a folder, by their names; where two have one name, the last path counts.
fn modules_below(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in
            fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?
        {
            let entry = entry?;
            // No link is followed: one could lead out of the package.
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if let Some(name) =
                entry.file_name().to_str().and_then(|name| name.strip_suffix(".ko"))
            {
                found.insert(name.into(), entry.path());
            }
        }
    }
    Ok(found)
}

/// The one file among a package's kernels, if there is any.
fn the_only<'a>(package: &str, kernels: &'a [String]) -> Result<Option<&'a str>> {
    match kernels {
        [] => Ok(None),
        [kernel] => Ok(Some(kernel)),
        [first, ..] => bail!(
            "the Debian package {package} has several kernels in boot/: {}; name one of them, for \
             example {{ debian = \"{package}\", file = \"boot/{first}\" }}",
            kernels.join(", ")
        ),
    }
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

/// The names of the files in a folder that are kernels, in order.
fn kernels_in(folder: &Path) -> Result<Vec<String>> {
    let mut kernels = Vec::new();
    if !folder.is_dir() {
        return Ok(kernels);
    }
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if !path.is_file() {
            continue;
        }
        let content = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        if bulkhead_boot::recognise(&content).is_ok() {
            kernels.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    kernels.sort();
    Ok(kernels)
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
    fn of_several_kernels_one_has_to_be_named() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(the_only("linux", &[]).unwrap(), None);
        assert_eq!(the_only("linux", &names(&["vmlinuz-6"])).unwrap(), Some("vmlinuz-6"));
        assert_eq!(
            the_only("memtest86+", &names(&["a.bin", "b.bin"])).unwrap_err().to_string(),
            "the Debian package memtest86+ has several kernels in boot/: a.bin, b.bin; name one of \
             them, for example { debian = \"memtest86+\", file = \"boot/a.bin\" }"
        );
    }

    #[test]
    fn kernels_are_found_by_their_content() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [("config", "# text"), ("b.bin", ""), ("a.bin", "")] {
            let mut content = content.as_bytes().to_vec();
            if content.is_empty() {
                // A Multiboot header that says what goes where.
                for word in [0x1BAD_B002_u32, 1 << 16, 0_u32.wrapping_sub(0x1BAD_B002 + (1 << 16))]
                {
                    content.extend(word.to_le_bytes());
                }
            }
            fs::write(folder.path().join(name), content).unwrap();
        }
        assert_eq!(kernels_in(folder.path()).unwrap(), ["a.bin", "b.bin"]);
        assert!(kernels_in(&folder.path().join("none")).unwrap().is_empty());
    }

    #[test]
    fn the_file_name_is_taken_from_apts_line() {
        let line = "'http://mirror.example/p/b_1%3a1.deb' b_1%3a1.deb 267 SHA256:e7d0\n";
        assert_eq!(named_in_uris(line), Some("b_1%3a1.deb"));
        assert_eq!(named_in_uris("'x' ../../b.deb 1 SHA256:0"), None);
        assert_eq!(named_in_uris(""), None);
    }
}
