//! What is answered to programs: an object in a line, of JSON (RFC 8259).
//!
//! Memory is in bytes, time in seconds or in ticks of the TSC, as the name says; what is not there is `null`.

use super::access::Access;
use super::answers::answer;
use super::consoles::list_with;
use super::guest::Guest;
use super::inventory::Hex;
use super::plan::File;
use super::session::Channel;
use crate::vmx::exit::ExitReason;
use alloc::format;
use alloc::string::String;
use bulkhead_manifest::Tenure;
use bulkhead_plan::{Core, Plan, Share, Spare, Why};
use core::fmt;
use core::ops::Range;

/// Answers `list --json` for a guest: an object in a line.
pub fn list(guest: &Guest, attached: bool) {
    let exits = guest.shared().exits();
    answer(format_args!(
        "{{\"name\":{},\"state\":{},\"attached\":{attached},\"cores\":[{}],\"memory\":{},\"uptime\":{},\"exits\":{},\
         \"exit_ticks\":{},\"owner\":{},\"expired\":{}}}",
        Json(guest.name()),
        state(guest),
        core_numbers(guest),
        OrNull(guest.memory()),
        OrNull(guest.uptime()),
        exits.count(),
        exits.ticks(),
        Json(&guest.definition().tenure.owner),
        guest.has_expired(),
    ));
}

/// Answers `info --json`.
pub fn info(guest: &Guest) {
    let definition = guest.definition();
    let exits = guest.shared().exits();
    answer(format_args!(
        "{{\"name\":{},\"state\":{},{},\"cores\":[{}],\"memory\":{},\"command_line\":{},\"start\":\"{}\",\
         \"restart\":\"{}\",\"uptime\":{},\"exits\":{},\"exit_ticks\":{},\"denied\":{}}}",
        Json(guest.name()),
        state(guest),
        tenure(guest),
        core_numbers(guest),
        OrNull(guest.memory()),
        Json(&definition.command_line),
        definition.start.name(),
        definition.restart.name(),
        OrNull(guest.uptime()),
        exits.count(),
        exits.ticks(),
        guest.denied_accesses(),
    ));
}

/// Answers `exits --json`: an object for each reason, the most frequent first.
pub fn exits(guest: &Guest) {
    for (reason, count, ticks) in guest.shared().exits().rows() {
        answer(format_args!(
            "{{\"reason\":{},\"number\":{reason},\"exits\":{count},\"ticks\":{ticks}}}",
            Json(ExitReason::from(reason).name())
        ));
    }
}

/// Answers `inventory --json` for a guest: an object in a line.
pub fn inventory(guest: &Guest) {
    let file = |file: &File| {
        format!("{{\"name\":{},\"blake3\":\"{}\"}}", Json(&file.name), Hex(&file.digest))
    };
    let definition = guest.definition();
    answer(format_args!(
        "{{\"name\":{},\"state\":{},{},\"kernel\":{},\"initrd\":{},\
         \"command_line\":{{\"text\":{},\"blake3\":\"{}\"}}}}",
        Json(guest.name()),
        state(guest),
        tenure(guest),
        file(&definition.files.kernel),
        OrNull(definition.files.initrd.as_ref().map(file)),
        Json(&definition.command_line),
        Hex(&bulkhead_manifest::digest(definition.command_line.as_bytes())),
    ));
}

/// Answers `plan --json`: the hypervisor's share, an object for each guest, and what is left over.
pub fn plan(plan: &Plan) {
    answer(format_args!(
        "{{\"hypervisor\":{{\"cores\":[{}],\"memory\":[{}]}}}}",
        core(&plan.service),
        ranges(&plan.hypervisor)
    ));
    for Share { name, cores, memory, kernel, initrd } in &plan.guests {
        answer(format_args!(
            "{{\"guest\":{},\"cores\":[{}],\"memory\":[{}],\"kernel\":{},\"initrd\":{initrd}}}",
            Json(name),
            list_with(",", cores.iter().map(core)),
            ranges(core::slice::from_ref(memory)),
            Json(kernel)
        ));
    }
    answer(format_args!(
        "{{\"left_over\":{{\"cores\":[{}],\"memory\":[{}]}}}}",
        list_with(",", plan.spare.iter().map(spare)),
        ranges(&plan.free)
    ));
}

fn core(Core { number, apic_id, .. }: &Core) -> String {
    format!("{{\"number\":{number},\"apic_id\":{apic_id}}}")
}

/// A core that nobody has: whether it can be had, and of which core it is the other thread.
fn spare(Spare { core: Core { number, apic_id, .. }, why }: &Spare) -> String {
    let sibling = match why {
        Why::SiblingOf(core) => Some(core),
        Why::Free | Why::CannotRun => None,
    };
    format!(
        "{{\"number\":{number},\"apic_id\":{apic_id},\"free\":{},\"sibling_of\":{}}}",
        *why == Why::Free,
        OrNull(sibling)
    )
}

fn ranges(ranges: &[Range<u64>]) -> String {
    let range = |range: &Range<u64>| {
        format!("{{\"start\":{},\"bytes\":{}}}", range.start, range.end.wrapping_sub(range.start))
    };
    list_with(",", ranges.iter().map(range))
}

/// Answers `memory --json`: bytes of the heap, and frames for tables and stacks; of each how many are in use, and how
/// many there are.
pub fn memory(heap: (usize, usize), frames: (u64, u64)) {
    answer(format_args!(
        "{{\"heap_used\":{},\"heap\":{},\"frames_used\":{},\"frames\":{}}}",
        heap.0, heap.1, frames.0, frames.1
    ));
}

/// Answers `audit --json`: what the chain has come to.
pub fn audit(records: u64, digest: impl fmt::Display) {
    answer(format_args!("{{\"records\":{records},\"digest\":\"{digest}\"}}"));
}

/// Answers `who --json`: an object for each channel. `now` is in seconds.
pub fn who<const N: usize>(access: &Access<N>, now: u64) {
    for channel in Channel::ALL {
        let present = access.who(channel as usize);
        answer(format_args!(
            "{{\"channel\":\"{}\",\"operator\":{},\"role\":{},\"seconds\":{}}}",
            channel.who(),
            OrNull(present.map(|(name, ..)| Json(name))),
            OrNull(present.map(|(_, role, _)| format!("\"{role}\""))),
            OrNull(present.map(|(_, _, since)| now.saturating_sub(since)))
        ));
    }
}

fn state(guest: &Guest) -> String {
    format!("\"{}\"", guest.life())
}

/// Whose it is, what for, and until when: the members of an object.
fn tenure(guest: &Guest) -> String {
    let Tenure { owner, purpose, classification, expires, on_expiry } = &guest.definition().tenure;
    format!(
        "\"owner\":{},\"purpose\":{},\"classification\":{},\"expires\":{},\"on_expiry\":\"{}\",\"expired\":{}",
        Json(owner),
        Json(purpose),
        Json(classification),
        Json(&format!("{expires}")),
        on_expiry.name(),
        guest.has_expired()
    )
}

fn core_numbers(guest: &Guest) -> String {
    list_with(",", guest.cores().iter().map(|core| core.index))
}

/// A string as JSON writes it (RFC 8259, 7).
pub struct Json<'a>(pub &'a str);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                // Those that drive terminals beyond what JSON forbids, too.
                character if character.is_control() => write!(f, "\\u{:04x}", character as u32)?,
                character => write!(f, "{character}")?,
            }
        }
        f.write_str("\"")
    }
}

struct OrNull<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for OrNull<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("null"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn strings_are_json() {
        for (text, json) in [
            ("web", "\"web\""),
            ("a \"b\" \\ c", "\"a \\\"b\\\" \\\\ c\""),
            ("\r\u{1b}\u{9b}é", "\"\\u000d\\u001b\\u009bé\""),
        ] {
            assert_eq!(Json(text).to_string(), json);
        }
        assert_eq!(OrNull::<u8>(None).to_string(), "null");
        assert_eq!(OrNull(Some(Json("x"))).to_string(), "\"x\"");
        assert_eq!(Hex(&[0, 0xA5]).to_string(), "00a5");
        assert_eq!(
            ranges(&[0..16, 32..33]),
            "{\"start\":0,\"bytes\":16},{\"start\":32,\"bytes\":1}"
        );
    }
}
