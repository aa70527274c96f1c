use super::*;
use crate::kernel_file::tests::{bzimage, elf64};
use bulkhead_manifest::Bundle;
use tempfile::TempDir;

/// A folder with a kernel of each kind, and a manifest in it of the given guests.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("vmlinuz", &bzimage());
        folder.write("probe.elf", &elf64(*b"code"));
        folder
    }

    fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.0.path().join(name), content).unwrap();
    }

    fn manifest(&self, guests: &[&str]) -> Manifest {
        let text: String = (0..)
            .zip(guests)
            .map(|(i, keys)| {
                format!(
                    "[[guest]]\nname = \"g{i}\"\ncores = 1\nmemory = \"8 MiB\"\n{keys}\n\
                     owner = \"me\"\npurpose = \"a test\"\nclassification = \"internal\"\n\
                     expires = \"never\"\n"
                )
            })
            .collect();
        Manifest::parse(&text, &self.0.path().join("m.toml")).unwrap()
    }

    fn pack(&self, guests: &[&str]) -> Result<Vec<u8>, ManifestError> {
        pack(&self.manifest(guests), Options::default(), |source| {
            anyhow::bail!("nothing resolves {source:?}")
        })
    }

    /// The messages, with the folder written as `DIR`.
    fn messages(&self, guests: &[&str]) -> Vec<String> {
        let error = self.pack(guests).expect_err("bad files");
        error
            .to_string()
            .replace(&self.0.path().display().to_string(), "DIR")
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

#[test]
fn what_is_packed_is_read() {
    let folder = Folder::new();
    folder.write("rd", b"initramfs");
    let keys = "kernel = \"vmlinuz\"\ninitrd = \"rd\"\ncmdline = \"quiet\"\nrestart = \"on-reset\"";
    let manifest = folder.manifest(&[keys, "kernel = \"probe.elf\""]);
    let options = Options { framebuffer_log: true };
    let bytes = pack(&manifest, options, |_| anyhow::bail!("nothing to resolve")).unwrap();
    let bundle = Bundle::parse(&bytes).unwrap();
    assert_eq!(*bundle.options(), options);
    let [linux, probe] = bundle.guests() else { panic!("two guests") };
    assert_eq!((linux.name.as_str(), linux.cores.count(), linux.memory), ("g0", 1, 8 << 20));
    assert_eq!((linux.kind, linux.command_line.as_str()), (KernelKind::BzImage, "quiet"));
    assert_eq!((linux.tenure.owner.as_str(), linux.restart), ("me", format::Restart::OnReset));
    assert_eq!(bundle.verify_blob(linux.kernel).unwrap(), bzimage());
    assert_eq!(bundle.blob(linux.kernel).unwrap().name, "vmlinuz");
    assert_eq!(bundle.verify_blob(linux.initrd.unwrap()).unwrap(), b"initramfs");
    assert_eq!((probe.kind, probe.initrd), (KernelKind::Elf64, None));
    assert_eq!(bytes, pack(&manifest, options, |_| anyhow::bail!("nothing to resolve")).unwrap());
}

#[test]
fn each_source_is_resolved_once_and_stored_once() {
    let folder = Folder::new();
    folder.write("copy", &bzimage());
    let debian =
        "kernel = { debian = \"linux-image-cloud-amd64\" }\ninitrd = { busybox = \"init\" }";
    let manifest = folder.manifest(&[debian, debian, "kernel = \"copy\""]);
    folder.write("made", b"initramfs");
    let mut asked = Vec::new();
    let bytes = pack(&manifest, Options::default(), |source| {
        asked.push(source.clone());
        Ok(folder.0.path().join(if matches!(source, Source::Debian { .. }) {
            "vmlinuz"
        } else {
            "made"
        }))
    })
    .unwrap();
    assert_eq!(
        asked,
        [
            Source::Debian { package: "linux-image-cloud-amd64".into(), file: None },
            Source::Busybox { script: folder.0.path().join("init"), modules: None }
        ]
    );
    let bundle = Bundle::parse(&bytes).unwrap();
    let names: Vec<_> = bundle.descriptor().blobs.iter().map(|blob| blob.name.as_str()).collect();
    assert_eq!(names, ["linux-image-cloud-amd64", "busybox initramfs"]);
}

#[test]
fn missing_files() {
    let folder = Folder::new();
    let start = "a relative path starts at the manifest's folder";
    assert_eq!(
        folder.messages(&["kernel = \"none\"", "kernel = \"vmlinuz\"\ninitrd = \"gone/rd\""]),
        [
            format!(
                "DIR/m.toml:5:10: guest \"g0\": kernel = \"none\": there is no file DIR/none; {start}"
            ),
            format!(
                "DIR/m.toml:15:10: guest \"g1\": initrd = \"gone/rd\": there is no file DIR/gone/rd; {start}"
            ),
        ]
    );
}

#[test]
fn files_that_are_no_kernels() {
    let folder = Folder::new();
    folder.write("init.sh", b"#!/bin/sh\n");
    folder.write("empty", b"");
    assert_eq!(
        folder.messages(&[
            "kernel = \"init.sh\"",
            "kernel = \"empty\"",
            "kernel = \".\"",
            "kernel = \"vmlinuz\"\ninitrd = \"empty\"",
            "kernel = \"vmlinuz\"\nkind = \"elf64\"",
        ]),
        [
            "DIR/m.toml:5:10: guest \"g0\": kernel = \"init.sh\": DIR/init.sh is a script; \
             a bzImage, an ELF64 executable, a PVH kernel or a Multiboot kernel is needed",
            "DIR/m.toml:14:10: guest \"g1\": kernel = \"empty\": DIR/empty is empty",
            "DIR/m.toml:23:10: guest \"g2\": kernel = \".\": DIR/. is not a regular file",
            "DIR/m.toml:33:10: guest \"g3\": initrd = \"empty\": DIR/empty is empty",
            "DIR/m.toml:42:10: guest \"g4\": kernel = \"vmlinuz\": DIR/vmlinuz is of kind bzimage, but kind = \"elf64\"; \
             write kind = \"bzimage\" or leave it out",
        ]
    );
}

#[test]
fn what_cannot_be_resolved() {
    let folder = Folder::new();
    let manifest = folder.manifest(&["kernel = { debian = \"linux-image-none\" }"]);
    let error = pack(&manifest, Options::default(), |_| {
        Err(anyhow::anyhow!("no such package").context("apt-get download failed"))
    });
    assert_eq!(
        error.unwrap_err().to_string().replace(&folder.0.path().display().to_string(), "DIR"),
        "DIR/m.toml:5:10: guest \"g0\": kernel = { debian = \"linux-image-none\" }: \
         apt-get download failed: no such package"
    );
}
