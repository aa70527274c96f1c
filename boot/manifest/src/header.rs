//! The fixed part at the start of a bundle.

use serde::{Deserialize, Serialize};

/// The first bytes of every bundle.
pub const MAGIC: [u8; 8] = *b"BULKHEAD";
/// The format that this code reads and writes. It reads no other: packer and hypervisor come from one source tree.
pub const VERSION: u32 = 5;
/// Bytes before the descriptor.
pub const HEADER_LENGTH: usize = 56;

/// Fixed-width little-endian fields in this order, without padding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub magic: [u8; 8],
    #[serde(with = "postcard::fixint::le")]
    pub version: u32,
    #[serde(with = "postcard::fixint::le")]
    pub descriptor_length: u32,
    #[serde(with = "postcard::fixint::le")]
    pub total_length: u64,
    pub descriptor_digest: [u8; 32],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_documentation_says() {
        let header = Header {
            magic: MAGIC,
            version: 0x0403_0201,
            descriptor_length: 0x0807_0605,
            total_length: 0x100F_0E0D_0C0B_0A09,
            descriptor_digest: [0xEE; 32],
        };
        let bytes = postcard::to_allocvec(&header).expect("encodes");
        assert_eq!(bytes.len(), HEADER_LENGTH);
        assert_eq!(&bytes[..8], b"BULKHEAD");
        let counted: [u8; 16] = core::array::from_fn(|i| i as u8 + 1);
        assert_eq!(bytes[8..24], counted);
        assert_eq!(bytes[24..], [0xEE; 32]);
        assert_eq!(postcard::from_bytes::<Header>(&bytes), Ok(header));
    }
}
