//! Reading what guests and the hypervisor say of costs.

use std::collections::BTreeMap;

/// The figures in the lines `bench: NAME NUMBER`. A line that says `absent`, or anything but a number, is none.
pub fn figures(text: &str) -> BTreeMap<String, f64> {
    let line = |line: &str| {
        let (name, number) = line.trim().strip_prefix("bench: ")?.split_once(' ')?;
        Some((name.to_string(), number.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// What a guest says went wrong.
pub fn error(text: &str) -> Option<&str> {
    let mut errors = text.lines().filter_map(|line| line.trim().strip_prefix("bench: error "));
    errors.next()
}

/// A number in digits with a comma between each three.
fn number(text: &str) -> Option<f64> {
    text.replace(',', "").parse().ok()
}

/// The number in front of `behind` and after `before`, in the last line that has both.
fn between(log: &str, before: &str, behind: &str) -> Option<f64> {
    let in_line = |line: &str| {
        let (_, rest) = line.split_once(before)?;
        number(rest.split_once(behind)?.0.trim())
    };
    log.lines().rev().find_map(in_line)
}

/// Ticks that a guest ran.
pub fn ran(log: &str, guest: &str) -> Option<f64> {
    between(log, &format!("guest {guest}: ran "), " ticks, of which ")
}

/// Exits of a guest so far, in the first whole answer to `exits NAME`.
pub fn exits_so_far(log: &str, guest: &str) -> Option<f64> {
    between(log, &format!("guest {guest} has "), " exits so far, in ")
}

/// Exits of a guest when it stopped.
pub fn exits(log: &str, guest: &str) -> Option<f64> {
    let guest = format!("guest {guest}: ");
    let in_line = |line: &str| {
        let (_, rest) = line.split_once(&guest)?;
        let (before, _) = rest.split_once(" exits")?;
        number(before.rsplit(' ').next()?)
    };
    log.lines().rev().find_map(in_line)
}

/// Ticks from the hypervisor's entry to a guest's first instruction, without what grows with the guest: digests,
/// scrubbing, copying.
pub fn start(log: &str, guest: &str) -> Option<f64> {
    let line = format!("guest {guest}: first instruction ");
    let line = log.lines().rev().find(|text| text.contains(&line))?;
    let all = between(line, "first instruction ", " ticks after ")?;
    let digests = between(line, "of which ", " for digests")?;
    let scrubbing = between(line, "for digests, ", " for scrubbing")?;
    let copying = between(line, "for scrubbing, ", " for copying")?;
    Some(all - digests - scrubbing - copying)
}

/// The most KiB of the hypervisor's heap that were in use, and how many it has.
pub fn heap(log: &str) -> Option<(f64, f64)> {
    let used = between(log, "memory: at most ", " KiB of the heap's ")?;
    Some((used, between(log, " KiB of the heap's ", " KiB were in use")?))
}

/// KiB that the hypervisor takes, by the names of the cases.
pub fn memory(log: &str, guest: &str) -> BTreeMap<String, f64> {
    let image = between(log, "memory: image ", " KiB");
    let heap = between(log, ", heap ", " KiB, tables and stacks");
    let tables = between(log, "tables and stacks ", " KiB of which");
    let cores = between(log, "KiB of which ", " KiB for ");
    let of_guest = format!("memory: guest {guest}: ");
    let guest_own = between(log, &of_guest, " KiB, and ");
    let ept = log.lines().rev().find_map(|line| {
        number(
            line.split_once(&of_guest)?.1.split_once(" KiB, and ")?.1.split_once(" KiB of EPT")?.0,
        )
    });
    let all = image.zip(heap).zip(tables).map(|((image, heap), tables)| image + heap + tables);
    let named = [
        ("memory", all),
        ("memory-image", image),
        ("memory-heap", heap),
        ("memory-cores", cores),
        ("memory-guest", guest_own),
        ("memory-ept", ept),
    ];
    named.into_iter().filter_map(|(name, kib)| Some((name.to_string(), kib?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_and_all_else_is_not() {
        let text = "x\r\nbench: cpuid 154.6\r\nbench: icr-other absent\r\nbench: end\r\n....\n\
                    bench: error no RAM\r\n";
        assert_eq!(figures(text), [("cpuid".to_string(), 154.6)].into());
        assert_eq!(error(text), Some("no RAM"));
        assert_eq!(error("bench: end"), None);
    }

    const LOG: &str = "\
        [   1.000000] memory: image 500 KiB, heap 1,024 KiB, tables and stacks 600 KiB of which 320 KiB for 4 cores\r\n\
        [   1.000001] memory: guest linux: 96 KiB, and 1,020 KiB of EPT\r\n\
        [   1.100000] guest linux: first instruction 23,456,789 ticks after the hypervisor's entry, of which \
        10,000,000 for digests, 3,000,000 for scrubbing, 456,789 for copying its image\r\n\
        [   1.100000] guest other: first instruction 5 ticks after the hypervisor's entry, of which \
        1 for digests, 1 for scrubbing, 1 for copying its image\r\n\
        [   1.500000] console: guest linux has 1,012 exits so far, in 5,000 ticks\r\n\
        [   2.000000] guest linux: ran 1,234,567 ticks, of which 1,000 in 14 exits\r\n\
        [   2.000000] memory: at most 980 KiB of the heap's 1,024 KiB were in use\r\n";

    #[test]
    fn the_hypervisors_lines_are_read() {
        assert_eq!(ran(LOG, "linux"), Some(1_234_567.0));
        assert_eq!(ran(LOG, "other"), None);
        assert_eq!(exits(LOG, "linux"), Some(14.0));
        assert_eq!(exits_so_far(LOG, "linux"), Some(1012.0));
        assert_eq!(exits_so_far(LOG, "other"), None);
        assert_eq!(start(LOG, "linux"), Some(10_000_000.0));
        assert_eq!(heap(LOG), Some((980.0, 1024.0)));
        let memory = memory(LOG, "linux");
        let kib = |name: &str| memory.get(name).copied();
        assert_eq!(kib("memory"), Some(2124.0));
        assert_eq!((kib("memory-cores"), kib("memory-guest")), (Some(320.0), Some(96.0)));
        assert_eq!((kib("memory-heap"), kib("memory-ept")), (Some(1024.0), Some(1020.0)));
    }

    #[test]
    fn a_log_without_them_gives_nothing() {
        assert_eq!(start("guest linux: starting", "linux"), None);
        assert!(memory("", "linux").is_empty());
    }
}
