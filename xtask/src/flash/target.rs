//! What a device is, and whether it may be overwritten.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The kinds of things that a path may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A whole disk.
    Disk {
        /// Whether it is made to be taken out: removable media, a USB disk, an SD card.
        removable: bool,
    },
    /// A loop device: a file that looks like a disk.
    Loop,
    /// A part of a disk.
    Partition {
        /// The disk.
        of: String,
    },
    /// A plain file.
    File,
    /// Something else.
    Other,
}

/// What is known about a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As the user named it.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Its size in bytes.
    pub size: u64,
    /// Where it, or a part of it, is in use: mount points, swap, other devices.
    pub uses: Vec<String>,
}

/// Why a device must not be overwritten with an image of a size, if it must not.
pub fn refusal(target: &Target, image: u64, allow_loop: bool) -> Option<String> {
    let path = target.path.display();
    let reason = match &target.kind {
        Kind::Partition { of } => {
            format!("{path} is a partition; the image is for a whole disk, such as {of}")
        }
        Kind::Disk { removable: false } => format!(
            "{path} is not removable; an image goes to removable media, a USB disk or an SD card"
        ),
        Kind::Other => format!("{path} is not a disk; `lsblk` lists the disks of this machine"),
        Kind::Loop | Kind::File if !allow_loop => format!(
            "{path} is no removable disk but a file or a loop device; --allow-loop accepts these"
        ),
        _ if !target.uses.is_empty() => {
            format!("{path} is in use: {}; end that first", target.uses.join(", "))
        }
        _ if image > target.size => {
            format!("{path} has {} bytes; the image has {image}", target.size)
        }
        _ => return None,
    };
    Some(reason)
}

/// Finds out what a path names.
pub fn examine(path: &Path) -> Result<Target> {
    let real = path.canonicalize().with_context(|| path.display().to_string())?;
    let data = real.metadata().with_context(|| path.display().to_string())?;
    let kind = if data.is_file() {
        Kind::File
    } else if data.file_type().is_block_device() {
        let device = device_number(data.rdev());
        kind_of_block_device(&Path::new("/sys/dev/block").join(device))
    } else {
        Kind::Other
    };
    let (size, uses) = match &kind {
        Kind::File => (data.len(), loops_over(&real)),
        Kind::Other => (0, Vec::new()),
        _ => {
            let system = Path::new("/sys/dev/block").join(device_number(data.rdev()));
            // In units of 512 bytes, whatever the disk's own sectors are.
            (number(&system.join("size")) * 512, uses_of(&system)?)
        }
    };
    Ok(Target { path: path.to_path_buf(), kind, size, uses })
}

fn device_number(device: u64) -> String {
    format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device))
}

fn kind_of_block_device(system: &Path) -> Kind {
    let Ok(real) = system.canonicalize() else { return Kind::Other };
    if real.join("partition").exists() {
        let disk = real.parent().and_then(Path::file_name).unwrap_or_default();
        return Kind::Partition { of: format!("/dev/{}", disk.to_string_lossy()) };
    }
    if real.join("loop").is_dir() {
        return Kind::Loop;
    }
    // The kernel's `removable` speaks of the medium alone: not of a USB disk that holds a hard
    // disk, and not of an SD card in a reader of its own.
    let on_usb =
        real.components().any(|part| part.as_os_str().to_string_lossy().starts_with("usb"));
    let is_card = text(&real.join("device/type")) == "SD";
    Kind::Disk { removable: number(&real.join("removable")) == 1 || on_usb || is_card }
}

/// Where a disk or one of its partitions is in use.
fn uses_of(system: &Path) -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let real = system.canonicalize()?;
    let mut devices = vec![real.clone()];
    for entry in fs::read_dir(&real)? {
        let part = entry?.path();
        if part.join("partition").exists() {
            devices.push(part);
        }
    }
    let mut uses = Vec::new();
    for device in devices {
        let name = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
        uses.extend(mounts_of(&mounts, &text(&device.join("dev"))));
        if is_swap(&swaps, &name) {
            uses.push(format!("swap on {name}"));
        }
        // Volumes, RAID sets and encrypted disks made of it.
        for holder in fs::read_dir(device.join("holders")).into_iter().flatten().flatten() {
            uses.push(format!("part of {}", holder.file_name().to_string_lossy()));
        }
    }
    Ok(uses)
}

/// The mount points of a device in /proc/self/mountinfo.
fn mounts_of(mounts: &str, device: &str) -> Vec<String> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let of_device = fields.filter(|fields| fields.get(2) == Some(&device) && !device.is_empty());
    of_device.filter_map(|fields| Some(format!("mounted on {}", fields.get(4)?))).collect()
}

/// Whether a device is listed in /proc/swaps.
fn is_swap(swaps: &str, name: &str) -> bool {
    let names = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    names.into_iter().any(|path| path.strip_prefix("/dev/") == Some(name))
}

/// The loop devices that show a file as a disk.
fn loops_over(file: &Path) -> Vec<String> {
    let mut loops = Vec::new();
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        if Path::new(&text(&entry.path().join("loop/backing_file"))) == file {
            loops.push(format!("shown as a disk by {}", entry.file_name().to_string_lossy()));
        }
    }
    loops
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_string()
}

fn number(path: &Path) -> u64 {
    text(path).parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(kind: Kind) -> Target {
        Target { path: "/dev/sdx".into(), kind, size: 1 << 30, uses: Vec::new() }
    }

    fn refused(target: &Target, allow_loop: bool) -> String {
        refusal(target, 1 << 20, allow_loop).unwrap_or_default()
    }

    #[test]
    fn a_free_removable_disk_is_accepted() {
        assert_eq!(refusal(&target(Kind::Disk { removable: true }), 1 << 20, false), None);
    }

    #[test]
    fn what_is_not_a_whole_removable_disk_is_refused() {
        let of = "/dev/sdy".to_string();
        assert!(refused(&target(Kind::Partition { of }), true).contains("such as /dev/sdy"));
        assert!(refused(&target(Kind::Disk { removable: false }), true).contains("not removable"));
        assert!(refused(&target(Kind::Other), true).contains("not a disk"));
    }

    #[test]
    fn files_and_loop_devices_need_leave() {
        for kind in [Kind::File, Kind::Loop] {
            assert!(refused(&target(kind.clone()), false).contains("--allow-loop"));
            assert_eq!(refused(&target(kind), true), "");
        }
    }

    #[test]
    fn what_is_in_use_or_too_small_is_refused() {
        let mut disk = target(Kind::Disk { removable: true });
        disk.uses.push("mounted on /media/x".into());
        assert!(refused(&disk, false).contains("mounted on /media/x"));
        disk.uses.clear();
        disk.size = 1000;
        assert!(refused(&disk, false).contains("1000 bytes"));
    }

    #[test]
    fn mounts_and_swap_are_found() {
        let mounts = "36 35 8:1 / /mnt/a rw - ext4 /dev/sda1 rw\n37 35 8:17 / /b rw - ext4 x rw\n";
        assert_eq!(mounts_of(mounts, "8:17"), ["mounted on /b"]);
        assert!(mounts_of(mounts, "8:2").is_empty());
        assert!(mounts_of(mounts, "").is_empty());
        let swaps = "Filename Type\n/dev/sda2 partition\n";
        assert!(is_swap(swaps, "sda2"));
        assert!(!is_swap(swaps, "sda"));
    }

    #[test]
    fn the_disk_below_the_root_is_never_accepted() {
        // Whatever machine this runs on: the null device is no disk, a folder neither.
        for path in ["/dev/null", "/"] {
            let target = examine(Path::new(path)).unwrap();
            assert_eq!(target.kind, Kind::Other);
            assert!(refusal(&target, 0, true).is_some());
        }
    }
}
