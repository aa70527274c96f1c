//! Who may sign in.

use crate::hash::{BadHash, Memory, read};
use crate::role::Role;
use crate::{MAX_OPERATORS, NAME_RULE, is_name};
use alloc::string::String;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Somebody who may sign in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// His name, unique; see [`is_name`].
    pub name: String,
    /// What he may do.
    pub role: Role,
    /// Argon2id of his password, as a PHC string; see [`read`].
    pub hash: String,
}

/// What is wrong with the operators of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There are so many.
    TooMany(usize),
    /// This name is none.
    Name(String),
    /// Two have this name.
    DuplicateName(String),
    /// The password's hash of the one with this name cannot be used.
    Hash(String, BadHash),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany(count) => {
                write!(f, "{count} operators, at most {MAX_OPERATORS} are allowed")
            }
            Self::Name(name) => {
                write!(f, "operator \"{}\": a name must be {NAME_RULE}", name.escape_debug())
            }
            Self::DuplicateName(name) => {
                write!(f, "operator \"{name}\": another has this name; names are unique")
            }
            Self::Hash(name, bad) => write!(f, "operator \"{name}\": its password: {bad}"),
        }
    }
}

impl core::error::Error for Fault {}

/// Bytes of heap that the hypervisor takes for these operators: themselves, and what the dearest of their passwords is
/// checked in.
pub fn heap_for(operators: &[Operator]) -> usize {
    /// An allocation takes up to so many bytes more than was asked for, and two texts are two of them.
    const STEP: usize = 64;
    let each = operators.iter().map(|Operator { name, hash, .. }| {
        size_of::<Operator>() + (name.len() + hash.len()).next_multiple_of(STEP)
    });
    let hashes = operators.iter().map(|operator| operator.hash.as_str());
    each.sum::<usize>() + Memory::bytes_for(hashes)
}

/// Whether these can be the operators of a machine.
///
/// # Errors
/// The first rule that is broken.
pub fn check(operators: &[Operator]) -> Result<(), Fault> {
    if operators.len() > MAX_OPERATORS {
        return Err(Fault::TooMany(operators.len()));
    }
    for (place, Operator { name, hash, .. }) in operators.iter().enumerate() {
        if !is_name(name) {
            return Err(Fault::Name(name.clone()));
        }
        if operators.iter().take(place).any(|other| other.name == *name) {
            return Err(Fault::DuplicateName(name.clone()));
        }
        read(hash).map_err(|bad| Fault::Hash(name.clone(), bad))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{Cost, make};
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    fn operator(name: &str) -> Operator {
        let hash = make(b"correct horse", b"sixteen bytes...", Cost::LEAST).unwrap();
        Operator { name: name.into(), role: Role::Viewer, hash }
    }

    #[test]
    fn what_operators_take_is_no_less_than_their_texts_and_the_dearest_hash() {
        assert_eq!(heap_for(&[]), 0);
        let [a, b] = ["anna", "bert"].map(operator);
        let texts = 2 * (a.name.len() + a.hash.len() + size_of::<Operator>());
        let heap = heap_for(&[a, b]);
        assert!((1024 << 10) + texts <= heap && heap < (1025 << 10), "{heap}");
    }

    #[test]
    fn each_rule_is_named() {
        let many: Vec<_> = (0..=MAX_OPERATORS).map(|i| operator(&format!("o{i}"))).collect();
        assert_eq!(check(&many[1..]), Ok(()));
        assert_eq!(check(&[]), Ok(()));
        let said = |operators: &[Operator]| check(operators).unwrap_err().to_string();
        assert_eq!(said(&many), "65 operators, at most 64 are allowed");
        let (a, b) = (operator("anna"), operator("bert"));
        assert_eq!(
            said(&[a.clone(), b, a.clone()]),
            "operator \"anna\": another has this name; names are unique"
        );
        assert!(said(&[operator("A\x1b")]).starts_with("operator \"A\\u{1b}\": a name must be"));
        let plain = Operator { hash: "secret".into(), ..a };
        assert!(said(&[plain]).starts_with("operator \"anna\": its password: it has not the form"));
    }
}
