//! Finding out how the physical machine is switched off (ACPI 6.5, 16.1.7).

/// Finds the sleep type of S5 in AML without interpreting it: the object is always
/// `Name (_S5_, Package {type, …})` with a constant, as firmware must have it
/// there before anything is evaluated.
pub fn find_s5(aml: &[u8]) -> Option<u8> {
    const NAME: &[u8] = b"_S5_";
    const PACKAGE: u8 = 0x12;
    const BYTE_PREFIX: u8 = 0x0A;
    const ZERO: u8 = 0x00;
    const ONE: u8 = 0x01;
    let mut rest = aml;
    loop {
        let at = rest.windows(NAME.len()).position(|window| window == NAME)?;
        rest = &rest[at + NAME.len()..];
        let mut bytes = rest.iter().copied();
        if bytes.next() != Some(PACKAGE) {
            continue;
        }
        // PkgLength: bits 7:6 of the lead byte say how many more there are.
        for _ in 0..bytes.next()? >> 6 {
            bytes.next()?;
        }
        let _elements = bytes.next()?;
        match bytes.next()? {
            BYTE_PREFIX => return bytes.next().filter(|&kind| kind < 8),
            constant @ (ZERO | ONE) => return Some(constant),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sleep_type_is_found_in_its_forms() {
        let byte = b"\x08_S5_\x12\x0a\x04\x0a\x05\x0a\x05\x00\x00";
        assert_eq!(find_s5(byte), Some(5));
        let zero = b"junk\x08_S5_\x12\x06\x04\x00\x00\x00\x00";
        assert_eq!(find_s5(zero), Some(0));
        let long = b"\x08_S5_\x12\x47\x00\x04\x01\x00\x00";
        assert_eq!(find_s5(long), Some(1));
    }

    #[test]
    fn a_mention_that_is_no_package_is_passed_over() {
        let aml = b"\x5b\x80_S5_\x70\x08_S5_\x12\x06\x04\x0a\x07\x00";
        assert_eq!(find_s5(aml), Some(7));
        for cut in 0..aml.len() - 1 {
            assert_eq!(find_s5(&aml[..cut]), None, "{cut}");
        }
        assert_eq!(find_s5(b"\x08_S5_\x12\x06\x04\x0a\x08"), None, "three bits");
    }
}
