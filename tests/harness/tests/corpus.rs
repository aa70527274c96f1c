//! Each target with all inputs that are kept: what fuzzing has found once is tried by every run of the tests.

use bulkhead_harness::{TARGETS, corpus, target};

/// Runs a target's cases, and a few of its own: nothing, and bytes all the same.
fn replay(name: &str) {
    let target = target(name).expect("a target");
    for bytes in [&[][..], &[0; 64], &[0xFF; 64], &[0x41; 600]] {
        (target.run)(bytes);
    }
    let cases = corpus::read(name).expect("its cases");
    assert!(!cases.is_empty(), "{name} has no corpus");
    for case in cases {
        // Shown where a case fails.
        println!("{name}: {}", case.comment);
        let said = (target.run)(&case.bytes);
        assert_eq!(said, (target.run)(&case.bytes), "the same input, another outcome");
    }
}

macro_rules! replayed {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn each_target_is_replayed_and_has_a_file_for_libfuzzer() {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
            let fuzz = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz");
            let manifest = std::fs::read_to_string(format!("{fuzz}/Cargo.toml")).unwrap();
            for name in names {
                let file = std::fs::read_to_string(format!("{fuzz}/fuzz_targets/{name}.rs")).unwrap();
                assert!(file.contains(&format!("targets::{name}(data)")), "{name}");
                assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
            }
        }
    };
}

replayed!(
    acpi, apic, bundle, bzimage, commands, console, decoder, elf, frames, ioapic, manifest,
    multiboot, platform, pvh, rtc, uart, walk,
);
