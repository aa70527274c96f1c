//! The manifest: any text.

use bulkhead_boot::{Manifest, packed, writer};
use bulkhead_manifest::{Bundle, KernelKind, Options};
use std::path::Path;

/// A text is a manifest, or each of its problems is said in a line and has its place in it. What is accepted is
/// what the hypervisor accepts, in a bundle of it.
pub fn manifest(data: &[u8]) -> String {
    let Ok(text) = str::from_utf8(data) else { return "no text".into() };
    let manifest = match Manifest::parse(text, Path::new("a/manifest.toml")) {
        Ok(manifest) => manifest,
        Err(error) => {
            let problems = error.problems();
            for problem in problems {
                let said = &problem.message;
                assert!(!said.is_empty() && !said.contains(char::is_control), "{said:?}");
                if let Some(place) = problem.place {
                    let line = text.split('\n').nth(place.line - 1).expect("a line of the text");
                    assert!((1..=line.chars().count() + 1).contains(&place.column), "{place:?}");
                }
            }
            let first = problems.first().expect("a reason");
            return format!("{} problems, first: {}", problems.len(), first.message);
        }
    };
    let mut writer = writer(&manifest, Options::default());
    for guest in manifest.guests() {
        let kernel = writer.add_blob(guest.kernel.source.name(), vec![1]);
        let initrd = guest.initrd.as_ref();
        let initrd = initrd.map(|initrd| writer.add_blob(initrd.source.name(), vec![2]));
        let kind = guest.kind.unwrap_or(KernelKind::Elf64);
        writer.add_guest(packed(guest, kind, kernel, initrd));
    }
    let bytes = writer.finish().expect("what a manifest may say, a bundle may");
    let bundle = Bundle::parse(&bytes).expect("what was written is read");
    let names = manifest.guests().iter().map(|guest| &guest.name);
    assert!(names.eq(bundle.guests().iter().map(|guest| &guest.name)));
    format!("{} guests, {} operators", manifest.guests().len(), manifest.operators().len())
}
