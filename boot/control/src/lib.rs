//! The control protocol: how a program commands the hypervisor over a serial line. `docs/console.md` describes it.
//!
//! Both sides send frames. A client sends a [`Kind::Command`]; the hypervisor answers with lines, and with
//! [`Kind::Done`] or [`Kind::Refused`] after the last. A frame that cannot be used is dropped, and answered with
//! [`Kind::Unusable`]. Nothing on the line can make this crate allocate or panic.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod decoder;
pub mod dump;
mod frame;

pub use decoder::Decoder;
pub use frame::{Encoded, Frame, Kind, Unusable, Why, encode};

/// The protocol's version. Byte 0 of a frame and its checksum are the same in all versions, so that a side can say that
/// it does not know one.
pub const VERSION: u8 = 1;
/// GS: what begins and ends a frame begins with it, and it is not inside of one. It is also the byte that switches between
/// speakers where frames share a port with the consoles.
pub const ESCAPE: u8 = 0x1D;
/// STX: behind [`ESCAPE`], a frame begins.
pub const START: u8 = 0x02;
/// ETX: behind [`ESCAPE`], it ends.
pub const END: u8 = 0x03;
/// Most bytes of a command.
pub const MAX_COMMAND: usize = 128;
/// Most bytes of a frame's payload.
pub const MAX_PAYLOAD: usize = 192;

/// Bytes before the payload: version, kind, id, number.
const HEADER: usize = 1 + 1 + 4 + 2;
/// Bytes behind it.
const CHECKSUM: usize = 4;
/// Most bytes of a frame as it is before it is encoded.
const MAX_FRAME: usize = HEADER + MAX_PAYLOAD + CHECKSUM;
/// Most bytes of a frame on the line between its begin and its end.
pub const MAX_BODY: usize = MAX_FRAME + 1;
/// Most bytes of a frame on the line.
pub const MAX_ENCODED: usize = 2 + MAX_BODY + 2;
// So that the encoding takes one byte more and no second one.
const _: () = assert!(MAX_FRAME <= 254);
