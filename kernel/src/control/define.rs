//! The command that gives a guest its cores and its memory.

use alloc::vec::Vec;
use bulkhead_manifest::{Cores, limits, parse_memory};

/// `define`, as it was typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Define<'a> {
    /// The guest.
    pub name: &'a str,
    /// The cores, if not those of the manifest.
    pub cores: Option<Cores>,
    /// Bytes of memory, if not those of the manifest.
    pub memory: Option<u64>,
}

/// What is right, for messages.
pub const RULE: &str = "define takes the name of one guest, and what is other than in its manifest: define NAME \
     [--cores 2, or --cores [1,3] for cores by their numbers] [--memory 256MiB, a multiple of 2 MiB from 4 MiB to 512 GiB]";

impl<'a> Define<'a> {
    /// Reads the words behind `define`. `None` if they are not as the [rule](RULE) says.
    pub fn parse(words: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let mut words = words.map(core::str::from_utf8);
        let name = words.next()?.ok()?;
        let (mut cores, mut memory) = (None, None);
        while let Some(option) = words.next() {
            let value = words.next()?.ok()?;
            match option.ok()? {
                "--cores" if cores.is_none() => cores = Some(parse_cores(value)?),
                "--memory" if memory.is_none() => memory = Some(parse_memory(value).ok()?),
                _ => return None,
            }
        }
        Some(Self { name, cores, memory })
    }
}

/// A count, or numbers in brackets, as in a manifest.
fn parse_cores(text: &str) -> Option<Cores> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok())?
    };
    let cores = match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(numbers) => {
            Cores::Numbers(numbers.split(',').map(number).collect::<Option<Vec<u32>>>()?)
        }
        None => Cores::Count(number(text)?),
    };
    limits::is_cores(&cores).then_some(cores)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn parse(line: &str) -> Option<Define<'_>> {
        Define::parse(line.split_whitespace().map(str::as_bytes))
    }

    #[test]
    fn what_is_not_said_is_as_in_the_manifest() {
        assert_eq!(parse("web"), Some(Define { name: "web", cores: None, memory: None }));
        let cores = Some(Cores::Numbers(vec![3, 1]));
        let memory = Some(256 << 20);
        let whole = Define { name: "web", cores, memory };
        assert_eq!(parse("web --cores [3,1] --memory 256MiB"), Some(whole.clone()));
        assert_eq!(parse("web --memory 256MiB --cores [3,1]"), Some(whole));
        let count = parse("web --cores 2").unwrap();
        assert_eq!(count.cores, Some(Cores::Count(2)));
    }

    #[test]
    fn anything_else_is_refused() {
        for line in [
            "",
            "web 2",
            "web --cores",
            "web --cores 0",
            "web --cores +1",
            "web --cores [0]",
            "web --cores [1,1]",
            "web --cores [1,]",
            "web --cores []",
            "web --cores [1",
            "web --cores 99999999999",
            "web --cores 1 --cores 2",
            "web --memory 5MiB",
            "web --memory 1",
            "web --memory 256 MiB",
            "web --disk 1",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_words_are_read(words: Vec<Vec<u8>>) {
            let _ = Define::parse(words.iter().map(Vec::as_slice));
        }
    }
}
