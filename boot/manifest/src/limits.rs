//! The rules that a manifest and a bundle keep, stated once: the packer checks them with the manifest's line at hand, the
//! hypervisor checks them again on what it was given.

use crate::descriptor::Cores;

/// Most guests in a bundle. There are never more than cores.
pub const MAX_GUESTS: usize = 254;
/// Most blobs in a bundle: a kernel and an initramfs for each guest.
pub const MAX_BLOBS: usize = 2 * MAX_GUESTS;
/// Most bytes of an encoded descriptor. Large enough for [`MAX_GUESTS`] guests with the longest strings; it bounds what
/// reading a damaged header can cost.
pub const MAX_DESCRIPTOR: u32 = 1 << 20;
/// Alignment of each blob in bytes: a page, so that a blob can be mapped on its own.
pub const BLOB_ALIGNMENT: u64 = 4096;

/// Most bytes of a guest's name.
pub const MAX_NAME: usize = 31;
/// Most cores of a guest, and the highest number of one: the hypervisor uses at most 64 cores, 0 to 63, and core 0 is
/// its own.
pub const MAX_CORES: u32 = 63;
/// Bytes that a guest's memory is a multiple of: the large page of the EPT.
pub const MEMORY_GRANULE: u64 = 2 << 20;
/// Least bytes of a guest's memory: the first 2 MiB with boot structures and ACPI tables, and 2 MiB to load a kernel into.
pub const MIN_MEMORY: u64 = 4 << 20;
/// Most bytes of a guest's memory, 512 GiB: the window through which the hypervisor sees it is so
/// long. The sum over [`MAX_GUESTS`] guests cannot overflow.
pub const MAX_MEMORY: u64 = 512 << 30;
/// Most bytes of a command line, without its NUL: what x86 Linux reads.
pub const MAX_COMMAND_LINE: usize = 2047;
/// Most bytes of an owner's name.
pub const MAX_OWNER: usize = 63;
/// Most bytes of what a guest is for.
pub const MAX_PURPOSE: usize = 127;
/// Most bytes of a class's name.
pub const MAX_CLASS: usize = 31;
/// Most classes of a policy, and most sets of them.
pub const MAX_CLASSES: usize = 32;
/// Most quotas.
pub const MAX_QUOTAS: usize = MAX_GUESTS;
/// Most bytes of a blob's name.
pub const MAX_BLOB_NAME: usize = 255;

/// What [`is_name`] wants, for messages.
pub const NAME_RULE: &str = "1 to 31 characters from a-z, 0-9 and '-', the first not '-'";
/// What [`is_cores`] wants, for messages.
pub const CORES_RULE: &str = "1 to 63";
/// What [`is_memory`] wants, for messages.
pub const MEMORY_RULE: &str = "a multiple of 2 MiB from 4 MiB to 512 GiB";
/// What [`is_command_line`] wants, for messages.
pub const COMMAND_LINE_RULE: &str = "at most 2047 bytes, none of them NUL";
/// What [`is_owner`] wants, for messages.
pub const OWNER_RULE: &str = "1 to 63 bytes without control characters";
/// What [`is_purpose`] wants, for messages.
pub const PURPOSE_RULE: &str = "1 to 127 bytes without control characters";
/// What [`is_class`] wants, for messages.
pub const CLASS_RULE: &str = NAME_RULE;
/// What an expiry is, for messages.
pub const EXPIRY_RULE: &str = "the last day that it is needed, as in \"2027-12-31\", or \"never\"";
/// What [`is_blob_name`] wants, for messages.
pub const BLOB_NAME_RULE: &str = "1 to 255 bytes without control characters";

/// Whether a guest may be called this. Console commands take names as words, so nothing that needs quoting.
pub fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_NAME).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(allowed)
}

/// Whether a guest may have so many cores, or these: none of them core 0, which is the service core, and none twice.
pub fn is_cores(cores: &Cores) -> bool {
    let each_once = |numbers: &[u32]| {
        numbers.iter().enumerate().all(|(i, number)| {
            (1..=MAX_CORES).contains(number) && !numbers.iter().take(i).any(|n| n == number)
        })
    };
    (1..=MAX_CORES).contains(&cores.count()) && each_once(cores.numbers())
}

/// Whether a guest may have this many bytes of memory.
pub fn is_memory(bytes: u64) -> bool {
    bytes.is_multiple_of(MEMORY_GRANULE) && (MIN_MEMORY..=MAX_MEMORY).contains(&bytes)
}

/// Whether this can be a guest's command line.
pub fn is_command_line(line: &str) -> bool {
    line.len() <= MAX_COMMAND_LINE && !line.contains('\0')
}

/// Whether this can be an owner's name.
pub fn is_owner(owner: &str) -> bool {
    is_label(owner, MAX_OWNER)
}

/// Whether this can say what a guest is for.
pub fn is_purpose(purpose: &str) -> bool {
    is_label(purpose, MAX_PURPOSE)
}

/// Whether this can be a class's name.
pub fn is_class(class: &str) -> bool {
    is_name(class)
}

/// Whether this can be a blob's name.
pub fn is_blob_name(name: &str) -> bool {
    is_label(name, MAX_BLOB_NAME)
}

/// Text that the log prints as it is: a control character in it could drive the reader's terminal.
fn is_label(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "linux", "web-2", "0", "abcdefghijklmnopqrstuvwxyz01234"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "A", "a b", "a_b", "ä", "a\n", "abcdefghijklmnopqrstuvwxyz012345"] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn numbers_at_their_edges() {
        assert!(is_cores(&Cores::Count(1)) && is_cores(&Cores::Count(63)));
        assert!(!is_cores(&Cores::Count(0)) && !is_cores(&Cores::Count(64)));
        for (numbers, good) in [
            (&[1][..], true),
            (&[63, 2], true),
            (&[], false),
            (&[0], false),
            (&[1, 64], false),
            (&[2, 1, 2], false),
        ] {
            assert_eq!(is_cores(&Cores::Numbers(numbers.to_vec())), good, "{numbers:?}");
        }
        assert!(is_cores(&Cores::Numbers((1..=63).collect())));
        assert!(is_memory(MIN_MEMORY) && is_memory(MAX_MEMORY));
        assert!(
            !is_memory(0)
                && !is_memory(2 << 20)
                && !is_memory(MIN_MEMORY + 1)
                && !is_memory(MAX_MEMORY + (2 << 20))
        );
        assert!((MAX_GUESTS as u64).checked_mul(MAX_MEMORY).is_some());
    }

    #[test]
    fn texts_at_their_edges() {
        let of = |n: usize| "x".repeat(n);
        assert!(is_command_line("") && is_command_line(&of(2047)));
        assert!(!is_command_line(&of(2048)) && !is_command_line("a\0b"));
        assert!(is_owner("Web team, 2nd floor") && is_owner(&of(63)));
        assert!(
            !is_owner("") && !is_owner(&of(64)) && !is_owner("\x1b[2J") && !is_owner("\u{9b}2J")
        );
        assert!(is_blob_name(&of(255)) && !is_blob_name(&of(256)) && !is_blob_name(""));
    }
}
