//! The bundle: any bytes where the packer's ought to be.

use bulkhead_manifest::{
    Bundle, Descriptor, Guest, HEADER_LENGTH, MAGIC, VERSION, Writer, heap_to_parse,
};

/// Bytes are a bundle, or there is a reason why not. The same is asked once more of them with a header that fits them: no
/// fuzzer finds a digest. What is accepted is written again as it was.
pub fn bundle(data: &[u8]) -> String {
    let as_they_are = parse(data);
    let mended = mend(data);
    match parse(&mended) {
        Ok(said) => said,
        Err(why) => match as_they_are {
            Ok(said) => said,
            Err(_) => why,
        },
    }
}

/// The bytes with magic, version and the descriptor's digest as they have to be. Lengths are theirs, as far as there are so
/// many bytes.
fn mend(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    bytes.resize(bytes.len().max(HEADER_LENGTH), 0);
    let [wanted, rest] = [&bytes[12..16], &bytes[HEADER_LENGTH..]];
    let wanted = u32::from_le_bytes(wanted.try_into().expect("four bytes"));
    let length = rest.len().min(wanted as usize);
    let digest = blake3::hash(&rest[..length]);
    let total = u64::from_le_bytes(bytes[16..24].try_into().expect("eight bytes"));
    let total = total.min(bytes.len() as u64);
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&(length as u32).to_le_bytes());
    bytes[16..24].copy_from_slice(&total.to_le_bytes());
    bytes[24..56].copy_from_slice(digest.as_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> Result<String, String> {
    let bundle = match Bundle::parse(bytes) {
        Ok(bundle) => bundle,
        Err(error) => {
            let said = error.to_string();
            assert!(!said.is_empty() && !said.contains('\n'), "{said:?}");
            return Err(format!("refused: {said}"));
        }
    };
    let descriptor = bundle.descriptor();
    assert!(bundle.total_length() <= bytes.len() as u64);
    assert!(heap_to_parse(bytes) >= held(descriptor), "more memory than was said beforehand");
    let encoded = postcard::to_allocvec(descriptor).expect("it is encoded");
    assert_eq!(postcard::from_bytes::<Descriptor>(&encoded).as_ref(), Ok(descriptor));
    let mut altered = 0;
    for guest in bundle.guests() {
        for index in [Some(guest.kernel), guest.initrd].into_iter().flatten() {
            altered += u32::from(bundle.verify_blob(index).is_err());
        }
    }
    write_again(&bundle, bytes);
    Ok(format!("{} guests, {altered} of their files altered", bundle.guests().len()))
}

/// Bytes that a descriptor's lists and texts hold at the least.
fn held(descriptor: &Descriptor) -> usize {
    let guests = &descriptor.guests;
    let texts = guests
        .iter()
        .map(|guest| guest.name.len() + guest.command_line.len() + 4 * guest.cores.numbers().len());
    size_of_val(guests.as_slice())
        + size_of_val(descriptor.blobs.as_slice())
        + size_of_val(descriptor.operators.as_slice())
        + size_of_val(descriptor.quotas.as_slice())
        + texts.sum::<usize>()
}

/// What the reader accepts, the writer does, and it is read as the same.
fn write_again(bundle: &Bundle<'_>, bytes: &[u8]) {
    let descriptor = bundle.descriptor();
    let mut writer = Writer::new(*bundle.options());
    bundle.operators().iter().for_each(|operator| writer.add_operator(operator.clone()));
    if let Some(policy) = &descriptor.policy {
        writer.set_policy(policy.clone());
    }
    descriptor.quotas.iter().for_each(|quota| writer.add_quota(quota.clone()));
    let indices: Vec<_> = descriptor
        .blobs
        .iter()
        .map(|blob| {
            let content = &bytes[blob.offset as usize..][..blob.length as usize];
            writer.add_blob(blob.name.clone(), content.to_vec())
        })
        .collect();
    let guests: Vec<Guest> = bundle
        .guests()
        .iter()
        .map(|guest| Guest {
            kernel: indices[guest.kernel.0 as usize],
            initrd: guest.initrd.map(|index| indices[index.0 as usize]),
            ..guest.clone()
        })
        .collect();
    guests.iter().for_each(|guest| writer.add_guest(guest.clone()));
    let written = writer.finish().expect("what is read can be written");
    let again = Bundle::parse(&written).expect("what is written can be read");
    assert_eq!(again.guests(), guests);
    assert_eq!(again.operators(), bundle.operators());
    assert_eq!(again.descriptor().policy, descriptor.policy);
    assert_eq!(again.descriptor().quotas, descriptor.quotas);
    for guest in again.guests() {
        let kernel = again.verify_blob(guest.kernel).expect("its digest fits");
        assert!(!kernel.is_empty(), "an empty kernel");
    }
}
