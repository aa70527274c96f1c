//! Hashes of passwords.

use crate::MAX_HASH;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use core::fmt;
use core::ops::RangeInclusive;

/// KiB of memory that a hash may take. The hypervisor keeps the most that one of the machine's hashes needs.
const MEMORY: RangeInclusive<u32> = 1024..=65536;
const PASSES: RangeInclusive<u32> = 1..=16;
/// Lanes are worked at one after the other.
const LANES: RangeInclusive<u32> = 1..=4;
/// Bytes of a salt.
const SALT: RangeInclusive<usize> = 16..=48;
/// Bytes of a hash.
const OUTPUT: RangeInclusive<usize> = 32..=64;
const LONGEST_OUTPUT: usize = *OUTPUT.end();
/// Bytes that [`make`] makes.
const MADE: usize = 32;

/// What it costs to check a password against a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// KiB of memory.
    pub memory: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes in it.
    pub lanes: u32,
}

impl Cost {
    /// For new hashes: of the ways that are seen as equally strong today, the one that takes the least memory, 7 MiB in
    /// five passes (OWASP, Password Storage Cheat Sheet).
    pub const USUAL: Self = Self { memory: 7168, passes: 5, lanes: 1 };
    /// The cheapest that a manifest may have.
    pub const LEAST: Self =
        Self { memory: *MEMORY.start(), passes: *PASSES.start(), lanes: *LANES.start() };
}

/// Why a text is no hash of a password's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHash {
    /// It is not of the form `$argon2id$v=19$m=…,t=…,p=…$salt$hash`.
    Form,
    /// It is not Argon2id, version 19.
    Algorithm,
    /// KiB of memory, passes, lanes: one is out of range.
    Cost(Cost),
    /// Bytes of its salt.
    Salt(usize),
    /// Bytes of its hash.
    Output(usize),
}

impl fmt::Display for BadHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |range: &RangeInclusive<usize>| (*range.start(), *range.end());
        match self {
            Self::Form => f.write_str("it has not the form $argon2id$v=19$m=…,t=…,p=…$salt$hash"),
            Self::Algorithm => f.write_str("it is not made by Argon2id, version 19"),
            Self::Cost(Cost { memory, passes, lanes }) => write!(
                f,
                "it has m={memory},t={passes},p={lanes}; m is {} to {}, t {} to {}, p {} to {}",
                MEMORY.start(),
                MEMORY.end(),
                PASSES.start(),
                PASSES.end(),
                LANES.start(),
                LANES.end()
            ),
            Self::Salt(bytes) => {
                let (least, most) = range(&SALT);
                write!(f, "its salt has {bytes} bytes, not {least} to {most}")
            }
            Self::Output(bytes) => {
                let (least, most) = range(&OUTPUT);
                write!(f, "its hash has {bytes} bytes, not {least} to {most}")
            }
        }
    }
}

/// What a hash is made of.
struct Parts {
    cost: Cost,
    salt: Salt,
    output: Output,
}

/// Checks that a text is a hash that can be worked with, and says what that costs.
///
/// # Errors
/// Why it is none.
pub fn read(hash: &str) -> Result<Cost, BadHash> {
    parts(hash).map(|parts| parts.cost)
}

fn parts(hash: &str) -> Result<Parts, BadHash> {
    if hash.len() > MAX_HASH {
        return Err(BadHash::Form);
    }
    let hash = PasswordHash::new(hash).map_err(|_| BadHash::Form)?;
    let (Some(salt), Some(output)) = (hash.salt, hash.hash) else { return Err(BadHash::Form) };
    if hash.algorithm != Algorithm::Argon2id.ident() || hash.version != Some(Version::V0x13.into())
    {
        return Err(BadHash::Algorithm);
    }
    let params = Params::try_from(&hash.params).map_err(|_| BadHash::Form)?;
    if !params.keyid().is_empty() || !params.data().is_empty() {
        return Err(BadHash::Form);
    }
    let cost = Cost { memory: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() };
    if !MEMORY.contains(&cost.memory)
        || !PASSES.contains(&cost.passes)
        || !LANES.contains(&cost.lanes)
    {
        return Err(BadHash::Cost(cost));
    }
    if !SALT.contains(&salt.len()) {
        return Err(BadHash::Salt(salt.len()));
    }
    if !OUTPUT.contains(&output.len()) {
        return Err(BadHash::Output(output.len()));
    }
    Ok(Parts { cost, salt, output })
}

/// Memory to check passwords in. What was worked out in it is wiped after each use.
pub struct Memory(Vec<Block>);

impl Memory {
    /// As much as the dearest of these hashes needs; those that are none do not count.
    pub fn for_hashes<'a>(hashes: impl IntoIterator<Item = &'a str>) -> Self {
        let blocks = blocks(hashes);
        let mut memory = Vec::new();
        memory.resize_with(blocks, Block::default);
        Self(memory)
    }

    /// Bytes that [`for_hashes`](Self::for_hashes) takes from the heap.
    pub fn bytes_for<'a>(hashes: impl IntoIterator<Item = &'a str>) -> usize {
        blocks(hashes) * size_of::<Block>()
    }

    fn wipe(&mut self) {
        self.0.fill_with(Block::default);
        // The compiler must not see that nobody reads the zeros.
        core::hint::black_box(&self.0);
    }
}

fn blocks<'a>(hashes: impl IntoIterator<Item = &'a str>) -> usize {
    let most = hashes.into_iter().filter_map(|hash| read(hash).ok()).map(|cost| cost.memory).max();
    // A KiB each; `usize` holds a `u32` on every machine that this runs on.
    most.map_or(0, |kib| kib as usize)
}

/// Whether this is the password of the hash. Takes the same time whether it is or not. False, too, if the text is no
/// hash, or the memory was made for others.
pub fn verify(hash: &str, password: &[u8], memory: &mut Memory) -> bool {
    let Ok(Parts { cost, salt, output }) = parts(hash) else { return false };
    let mut found = [0; LONGEST_OUTPUT];
    let found = &mut found[..output.len()];
    let worked = work(cost, password, &salt, found, memory.0.as_mut_slice());
    memory.wipe();
    // Compared in constant time.
    worked.is_some() && Output::new(found).is_ok_and(|found| found == output)
}

/// Makes the hash of a password, in its text form. `None` if the cost is out of range or the salt too short or too long.
pub fn make(password: &[u8], salt: &[u8], cost: Cost) -> Option<String> {
    let salt = Salt::new(salt).ok()?;
    let mut memory = Vec::new();
    memory.resize_with(cost.memory as usize, Block::default);
    let mut output = [0; MADE];
    let params = work(cost, password, &salt, &mut output, &mut memory)?;
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params).ok()?,
        salt: Some(salt),
        hash: Some(Output::new(&output).ok()?),
    };
    let hash = hash.to_string();
    read(&hash).is_ok().then_some(hash)
}

fn work(
    Cost { memory, passes, lanes }: Cost,
    password: &[u8],
    salt: &Salt,
    output: &mut [u8],
    blocks: &mut [Block],
) -> Option<Params> {
    let params = Params::new(memory, passes, lanes, Some(output.len())).ok()?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    argon2.hash_password_into_with_memory(password, salt, output, blocks).ok()?;
    Some(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    const SALT: &[u8] = b"sixteen bytes...";

    fn made() -> String {
        make(b"correct horse", SALT, Cost::LEAST).unwrap()
    }

    #[test]
    fn a_password_is_known_again_and_no_other() {
        let hash = made();
        assert!(hash.starts_with("$argon2id$v=19$m=1024,t=1,p=1$"), "{hash}");
        let mut memory = Memory::for_hashes([hash.as_str()]);
        assert!(verify(&hash, b"correct horse", &mut memory));
        for wrong in [b"correct horsf".as_slice(), b"correct hors", b"", b"correct horse "] {
            assert!(!verify(&hash, wrong, &mut memory));
        }
        assert!(memory.0.iter().all(|block| block.as_ref().iter().all(|word| *word == 0)));
        assert_eq!(memory.0.len(), 1024);
    }

    #[test]
    fn memory_that_is_too_small_is_no_match_and_no_panic() {
        let hash = made();
        assert!(!verify(&hash, b"correct horse", &mut Memory::for_hashes([])));
        assert_eq!(Memory::bytes_for([hash.as_str(), "none"]), 1 << 20);
    }

    #[test]
    fn what_is_no_hash_says_why() {
        let good = made();
        assert_eq!(read(&good), Ok(Cost::LEAST));
        let with = |from: &str, to: &str| read(&good.replacen(from, to, 1)).unwrap_err();
        assert_eq!(read(""), Err(BadHash::Form));
        assert_eq!(read("secret"), Err(BadHash::Form));
        assert_eq!(with("argon2id", "argon2i"), BadHash::Algorithm);
        assert_eq!(with("v=19", "v=16"), BadHash::Algorithm);
        for (cost, memory, passes, lanes) in [
            ("m=1023,t=1,p=1", 1023, 1, 1),
            ("m=65537,t=1,p=1", 65537, 1, 1),
            ("m=1024,t=17,p=1", 1024, 17, 1),
            ("m=1024,t=1,p=5", 1024, 1, 5),
        ] {
            let bad = with("m=1024,t=1,p=1", cost);
            assert_eq!(bad, BadHash::Cost(Cost { memory, passes, lanes }));
            assert!(format!("{bad}").starts_with(&format!("it has {cost}; m is 1024 to 65536,")));
        }
        assert_eq!(with("m=1024", "x=1024"), BadHash::Form);
        let short = good.rsplit_once('$').unwrap().0;
        assert_eq!(read(short), Err(BadHash::Form));
        assert_eq!(read(&format!("{short}$AAAAAAAAAAAAAAAAAAAAAA")), Err(BadHash::Output(16)));
        assert!(make(b"x", b"short", Cost::LEAST).is_none());
        assert!(make(b"x", SALT, Cost { memory: 1, ..Cost::LEAST }).is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text: String, at in 0_usize..90, byte in 0x20_u8..0x7F) {
            let _ = read(&text).map_err(|bad| format!("{bad}"));
            let mut hash = made().into_bytes();
            if let Some(there) = hash.get_mut(at) {
                *there = byte;
            }
            let _ = read(core::str::from_utf8(&hash).unwrap()).map_err(|bad| format!("{bad}"));
        }
    }
}
