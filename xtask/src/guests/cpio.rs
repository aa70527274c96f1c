//! Archives in the format that Linux unpacks as its first file system: "newc" cpio, as described
//! in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.

/// An archive being written.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

/// The file types of `st_mode`.
mod kind {
    pub const FOLDER: u32 = 0o040_000;
    pub const FILE: u32 = 0o100_000;
    pub const LINK: u32 = 0o120_000;
    pub const CHARACTER_DEVICE: u32 = 0o020_000;
}

impl Archive {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a folder.
    pub fn folder(&mut self, path: &str, permissions: u32) {
        self.entry(path, kind::FOLDER | permissions, (0, 0), &[]);
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.entry(path, kind::FILE | permissions, (0, 0), content);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, kind::LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// Adds a character device.
    pub fn character_device(&mut self, path: &str, permissions: u32, major: u32, minor: u32) {
        self.entry(path, kind::CHARACTER_DEVICE | permissions, (major, minor), &[]);
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.entries += 1;
        let length = u32::try_from(content.len()).expect("no file in an initramfs has 4 GiB");
        let name_length = u32::try_from(path.len() + 1).expect("paths are short");
        // Times are zero, so that the same content gives the same archive.
        let fields = [
            self.entries, // inode
            mode,
            0, // user
            0, // group
            1, // links
            0, // time
            length,
            0, // the device that holds the file: major and minor
            0,
            major,
            minor,
            name_length,
            0, // checksum, which this variant of the format has not
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn a_header_is_as_the_kernel_reads_it() {
        let mut archive = Archive::new();
        archive.character_device("dev/console", 0o600, 5, 1);
        let bytes = archive.finish();
        let text = String::from_utf8(bytes).unwrap();
        let header = "07070100000001000021800000000000000000000000010000000000000000\
                      0000000000000000000000050000000100000\
                      00c00000000dev/console\0";
        assert!(text.starts_with(header), "{text}");
        assert!(text.contains("TRAILER!!!\0"));
        assert_eq!(text.len() % 4, 0);
    }

    #[test]
    fn cpio_lists_what_was_put_in() {
        let mut archive = Archive::new();
        archive.folder("bin", 0o755);
        archive.file("bin/odd", 0o755, b"12345");
        archive.link("bin/link", "odd");
        archive.file("empty", 0o644, b"");
        let bytes = archive.finish();
        let cpio = Command::new("cpio")
            .args(["--list", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        // A second opinion, where that program is installed.
        let Ok(mut cpio) = cpio else { return };
        cpio.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = cpio.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8_lossy(&output.stdout), "bin\nbin/odd\nbin/link\nempty\n");
    }
}
