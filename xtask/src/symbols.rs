//! Names for the addresses of a backtrace, from the line tables of the unstripped hypervisor.

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Result, anyhow};

/// The hypervisor's symbols.
pub struct Symbols {
    loader: addr2line::Loader,
    /// Added by the boot stages to every address that the file speaks of.
    base: u64,
}

impl std::fmt::Debug for Symbols {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Symbols").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Symbols {
    /// Reads the symbols of an ELF file.
    pub fn open(elf: &Path) -> Result<Self> {
        let loader = addr2line::Loader::new(elf)
            .map_err(|error| anyhow!("reading symbols of {}: {error}", elf.display()))?;
        Ok(Self { loader, base: 0 })
    }

    /// Says where the file was loaded.
    pub fn set_base(&mut self, base: u64) {
        self.base = base;
    }

    /// The functions that a return address lies in, innermost first: more than one where they were
    /// inlined into each other. Each is `function at file:line`.
    pub fn describe(&self, return_address: u64) -> Vec<String> {
        // A return address is that of the instruction after the call, which may belong to the
        // next line or even to the next function.
        let Some(address) = return_address.checked_sub(self.base).and_then(|a| a.checked_sub(1))
        else {
            return vec![format!("not in the hypervisor, which begins at {:#x}", self.base)];
        };
        // Line tables name functions without their modules; the symbol table has the whole name,
        // of the function that the others were inlined into.
        let symbol = self.loader.find_symbol(address).map(demangled);
        let mut lines = Vec::new();
        if let Ok(mut frames) = self.loader.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                let name = frame.function.as_ref().and_then(|name| name.demangle().ok());
                let name = name.map(Cow::into_owned);
                let place = frame.location.map(|location| {
                    let file = short(location.file.unwrap_or("?"));
                    format!("{file}:{}", location.line.unwrap_or(0))
                });
                lines.push((name, place));
            }
        }
        match (lines.last_mut(), symbol) {
            (Some((name, _)), Some(symbol)) => *name = Some(symbol),
            (None, Some(symbol)) => lines.push((Some(symbol), None)),
            (None, None) => return vec![format!("no symbol for {address:#x}")],
            (Some(_), None) => {}
        }
        let lines = lines.into_iter().map(|(name, place)| {
            let name = name.as_deref().unwrap_or("?");
            place.map_or_else(|| name.to_string(), |place| format!("{name} at {place}"))
        });
        lines.collect()
    }
}

fn demangled(symbol: &str) -> String {
    addr2line::demangle_auto(symbol.into(), None).into_owned()
}

/// A source file as it is called in the repository.
fn short(file: &str) -> &str {
    let root = crate::workspace::root().to_str().unwrap_or_default();
    match file.strip_prefix(root) {
        Some(inside) if !root.is_empty() => inside.trim_start_matches('/'),
        _ => file,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_very_program_has_a_name_and_a_line() {
        let mut symbols = Symbols::open(&std::env::current_exe().unwrap()).unwrap();
        // The tests are position-independent: where one function is tells where all are.
        let here = an_address_of_this_very_program_has_a_name_and_a_line as *const () as u64;
        let name = "an_address_of_this_very_program_has_a_name_and_a_line";
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let base = maps.split('-').next().unwrap();
        symbols.set_base(u64::from_str_radix(base, 16).unwrap());
        let lines = symbols.describe(here + 5);
        assert!(lines.iter().any(|l| l.contains(name) && l.contains("symbols.rs:")), "{lines:?}");
    }

    #[test]
    fn an_address_below_the_hypervisor_is_not_named() {
        let mut symbols = Symbols::open(&std::env::current_exe().unwrap()).unwrap();
        symbols.set_base(0x8000_0000_0000);
        assert!(symbols.describe(0x1000)[0].contains("not in the hypervisor"));
    }
}
