//! What the log says at boot of what protects the hypervisor on this machine.

use crate::arch::protection::Found;
use core::fmt;

/// How each protection stands.
fn standings(found: Found) -> [(&'static str, Standing); 10] {
    use Standing::{Missing, Needless, On};
    let has = |flag: Found| found.contains(flag);
    let one_of = |on: bool, needless: bool, what: &'static str| match (on, needless) {
        (_, true) => Needless,
        (true, _) => On,
        (false, false) => Missing(what),
    };
    let barrier = "a defect of the hypervisor's has one barrier less before it";
    [
        ("NX", one_of(has(Found::NX), false, "data of the hypervisor's can be executed")),
        ("SMEP", one_of(has(Found::SMEP), false, barrier)),
        ("SMAP", one_of(has(Found::SMAP), false, barrier)),
        // Root mode runs nothing at CPL 3.
        ("UMIP", one_of(has(Found::UMIP), !has(Found::UMIP), "")),
        (
            if has(Found::ENHANCED_IBRS) { "enhanced IBRS, IBPB" } else { "IBRS, IBPB" },
            one_of(
                has(Found::IBRS),
                false,
                "what a guest has trained may steer branches of the hypervisor's, and of the \
                 next guest on its cores",
            ),
        ),
        // With enhanced IBRS the processor does what is needed, but for one call.
        ("return-stack refill", one_of(true, has(Found::ENHANCED_IBRS), "")),
        (
            "BHI_DIS_S",
            one_of(
                has(Found::BHI_CTRL),
                has(Found::BHI_NO) || !has(Found::ENHANCED_IBRS),
                "a guest's branch history may steer branches of the hypervisor's",
            ),
        ),
        (
            "MD_CLEAR",
            one_of(
                has(Found::MD_CLEAR),
                has(Found::BUFFERS_NO),
                "a guest may read what the hypervisor has left in the core's buffers",
            ),
        ),
        (
            "L1D_FLUSH",
            one_of(
                has(Found::L1D_FLUSH),
                has(Found::L1TF_NO),
                "a guest may read what the hypervisor has left in the core's L1 cache",
            ),
        ),
        (
            "PSCHANGE_MC_NO",
            one_of(
                false,
                has(Found::PSCHANGE_MC_NO),
                "a guest can stop the machine by changing the size of a page that it executes",
            ),
        ),
    ]
}

/// How a protection stands.
enum Standing {
    /// It is in use.
    On,
    /// The processor lacks it: what follows.
    Missing(&'static str),
    /// The processor says that it does without.
    Needless,
}

/// What is on, as a list.
#[derive(Clone, Copy, Debug)]
pub struct On(pub Found);

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WP")?;
        for (name, standing) in standings(self.0) {
            if matches!(standing, Standing::On) {
                write!(f, ", {name}")?;
            }
        }
        Ok(())
    }
}

/// What is missing, as a list, each with what follows; "nothing" if nothing is.
#[derive(Clone, Copy, Debug)]
pub struct Missing(pub Found);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (name, standing) in standings(self.0) {
            if let Standing::Missing(what) = standing {
                write!(f, "{between}{name} ({what})")?;
                between = "; ";
            }
        }
        if between.is_empty() { f.write_str("nothing") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    /// What every processor of the last years has.
    const BASIC: Found = Found::NX.union(Found::SMEP).union(Found::SMAP);

    #[test]
    fn what_an_old_processor_lacks_is_named_with_what_follows() {
        assert_eq!(On(BASIC).to_string(), "WP, NX, SMEP, SMAP, return-stack refill");
        let missing = Missing(BASIC).to_string();
        for name in ["IBRS, IBPB (", "MD_CLEAR (", "L1D_FLUSH (", "PSCHANGE_MC_NO ("] {
            assert!(missing.contains(name), "{missing}");
        }
        assert!(!missing.contains("BHI"), "it concerns enhanced IBRS: {missing}");
    }

    #[test]
    fn microcode_fills_gaps() {
        let found = BASIC | Found::IBRS | Found::MD_CLEAR | Found::L1D_FLUSH;
        assert_eq!(
            On(found).to_string(),
            "WP, NX, SMEP, SMAP, IBRS, IBPB, return-stack refill, MD_CLEAR, L1D_FLUSH"
        );
        let missing = Missing(found).to_string();
        assert!(missing.starts_with("PSCHANGE_MC_NO (") && !missing.contains(';'), "{missing}");
    }

    #[test]
    fn what_a_processor_is_free_of_is_neither_on_nor_missing() {
        let free = Found::BUFFERS_NO | Found::L1TF_NO | Found::PSCHANGE_MC_NO;
        let found = BASIC | Found::UMIP | Found::IBRS | Found::ENHANCED_IBRS | free;
        assert_eq!(On(found).to_string(), "WP, NX, SMEP, SMAP, UMIP, enhanced IBRS, IBPB");
        assert!(Missing(found).to_string().starts_with("BHI_DIS_S ("), "{}", Missing(found));
        let found = found | Found::BHI_CTRL;
        assert!(On(found).to_string().ends_with("IBPB, BHI_DIS_S"), "{}", On(found));
        assert_eq!(Missing(found).to_string(), "nothing");
    }
}
