//! A small bundle, and the means to take one apart and close it again.

use bulkhead_manifest::{
    BlobIndex, Bundle, Cores, Descriptor, Expiry, Guest, KernelKind, OnExpiry, Options, Restart,
    Start, Suspicion, Tenure, Writer,
};

/// Where the header's fields are.
pub const DESCRIPTOR_LENGTH: std::ops::Range<usize> = 12..16;
pub const TOTAL_LENGTH: std::ops::Range<usize> = 16..24;
pub const DIGEST: std::ops::Range<usize> = 24..56;
pub const HEADER: usize = 56;

pub fn guest(name: &str, kernel: BlobIndex, initrd: Option<BlobIndex>) -> Guest {
    Guest {
        name: name.into(),
        cores: Cores::Count(1),
        memory: 64 << 20,
        kind: KernelKind::BzImage,
        kernel,
        initrd,
        command_line: "console=ttyS0".into(),
        tenure: Tenure {
            owner: "web team".into(),
            purpose: "the shop".into(),
            classification: "public".into(),
            expires: Expiry::Never,
            on_expiry: OnExpiry::Report,
        },
        restart: Restart::Never,
        start: Start::AtBoot,
        suspicion: Suspicion::default(),
    }
}

/// Two guests that share a kernel, one with an initramfs: two pages and three bytes.
pub fn small() -> Vec<u8> {
    let mut writer = Writer::new(Options { framebuffer_log: true });
    let kernel = writer.add_blob("vmlinuz", b"a kernel".to_vec());
    let initrd = writer.add_blob("initramfs", b"rd!".to_vec());
    writer.add_guest(guest("linux", kernel, Some(initrd)));
    writer.add_guest(Guest {
        kind: KernelKind::Elf64,
        restart: Restart::OnReset,
        start: Start::ByHand,
        cores: Cores::Numbers(vec![3, 2]),
        ..guest("probe", kernel, None)
    });
    writer.finish().expect("a good bundle")
}

/// `bytes` with its descriptor's bytes put through `edit` and its header made to agree, the way a hand-made bundle would be.
pub fn with_descriptor_bytes(bytes: &[u8], edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let length = u32::from_le_bytes(bytes[DESCRIPTOR_LENGTH].try_into().unwrap()) as usize;
    let mut encoded = bytes[HEADER..HEADER + length].to_vec();
    edit(&mut encoded);
    let mut out = bytes[..HEADER].to_vec();
    out[DESCRIPTOR_LENGTH].copy_from_slice(&u32::try_from(encoded.len()).unwrap().to_le_bytes());
    out[DIGEST].copy_from_slice(blake3::hash(&encoded).as_bytes());
    out.extend(encoded);
    if let Some(rest) = bytes.get(out.len()..) {
        out.extend_from_slice(rest);
    } else {
        let total = out.len() as u64;
        out[TOTAL_LENGTH].copy_from_slice(&total.to_le_bytes());
    }
    out
}

/// `bytes` with its descriptor put through `edit` and its header made to agree.
pub fn with_descriptor(bytes: &[u8], edit: impl FnOnce(&mut Descriptor)) -> Vec<u8> {
    let mut descriptor = Bundle::parse(bytes).expect("a good bundle").descriptor().clone();
    edit(&mut descriptor);
    with_descriptor_bytes(bytes, |encoded| *encoded = postcard::to_allocvec(&descriptor).unwrap())
}

/// Reads everything there is to read: what the hypervisor does with a bundle.
pub fn read_all(bytes: &[u8]) -> Result<Vec<Vec<u8>>, bulkhead_manifest::BundleError> {
    let bundle = Bundle::parse(bytes)?;
    let _ = bundle.descriptor().fits(4, 1 << 30);
    let mut blobs = Vec::new();
    for guest in bundle.guests() {
        blobs.push(bundle.verify_blob(guest.kernel)?.to_vec());
        if let Some(initrd) = guest.initrd {
            blobs.push(bundle.verify_blob(initrd)?.to_vec());
        }
    }
    Ok(blobs)
}
