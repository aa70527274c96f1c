//! Who may do what to a machine: operators have a role, and prove by a password who they are.
//!
//! A manifest has hashes alone, made by Argon2id (RFC 9106) and written as PHC strings. What a hash costs to check is
//! bounded on both sides: by less it would be guessed, and more would keep the service core from its work.

#![no_std]

extern crate alloc;

mod hash;
mod operator;
mod role;

pub use hash::{BadHash, Cost, Memory, make, read, verify};
pub use operator::{Fault, Operator, check, heap_for};
pub use role::Role;

/// Most operators of a machine.
pub const MAX_OPERATORS: usize = 64;
/// Most bytes of an operator's name.
pub const MAX_NAME: usize = 31;
/// Fewest and most bytes of a password. With `sign-in` and the longest name it fits a command.
pub const PASSWORD_BYTES: core::ops::RangeInclusive<usize> = 10..=64;
/// Most bytes of a hash in its text form.
pub const MAX_HASH: usize = 255;

/// What [`is_name`] wants, for messages.
pub const NAME_RULE: &str = "1 to 31 characters from a-z, 0-9, '-' and '.', the first a letter";
/// What [`is_password`] wants, for messages.
pub const PASSWORD_RULE: &str =
    "10 to 64 bytes without control characters, and no blank at either end";

/// Whether an operator may be called this. Commands take names as words.
pub fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
    (1..=MAX_NAME).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(allowed)
}

/// Whether this can be typed as a password at every console. It says nothing of how good it is.
pub fn is_password(password: &str) -> bool {
    PASSWORD_BYTES.contains(&password.len())
        && !password.chars().any(char::is_control)
        && password.trim() == password
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[test]
    fn names_are_words() {
        for good in ["a", "anna", "anna.b", "ops-2", &"x".repeat(31)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "2a", "Anna", "a b", "a\n", "ä", &"x".repeat(32)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn passwords_can_be_typed() {
        assert!(is_password("ten bytes!") && is_password(&"ä".repeat(32)));
        let long: String = "x".repeat(65);
        for bad in ["nine byte", "\ttab in front", "blank at the end ", "a\x1bnd escape", &long] {
            assert!(!is_password(bad), "{bad}");
        }
    }
}
