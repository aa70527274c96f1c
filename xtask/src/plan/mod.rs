//! The plan of a manifest, made on the host: which guest will get which cores and which memory.
//!
//! The rules are in the crate `bulkhead-plan`, which the hypervisor uses too. Here is what it takes to apply them without
//! a boot: the [`machine`], and a [`picture`] of the outcome.

pub mod machine;
pub mod picture;
pub(crate) mod svg;

use bulkhead_boot::Manifest;
use bulkhead_plan::Request;
use bulkhead_plan::footprint::Demand;

/// What the guests of a manifest ask for. Nothing is fetched.
pub fn requests(manifest: &Manifest) -> Vec<Request> {
    let request = |guest: &bulkhead_boot::Guest| Request {
        name: guest.name.clone(),
        cores: guest.cores.clone(),
        memory: guest.memory,
        kernel: guest.kernel.source.name(),
        initrd: guest.initrd.is_some(),
    };
    manifest.guests().iter().map(request).collect()
}

/// What the guests of a manifest make the hypervisor need memory for.
pub fn demands(manifest: &Manifest) -> impl Iterator<Item = Demand> {
    manifest.guests().iter().map(|guest| {
        let kernel = guest.kernel.source.name();
        Demand {
            cores: guest.cores.count(),
            memory: guest.memory,
            text: guest.name.len() + kernel.len() + guest.command_line.len() + guest.tenure.text(),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bulkhead_plan::{Machine, Plan};

    use super::*;

    /// The example of the documentation is what `cargo xtask plan example.toml --machine boot.log` prints and draws.
    #[test]
    fn the_documentation_is_true() {
        let page = include_str!("../../../docs/plan.md");
        let block = |language: &str| {
            let start = page.split_once(&format!("```{language}\n")).unwrap().1;
            start.split_once("```").unwrap().0
        };
        let manifest = Manifest::parse(block("toml"), Path::new("example.toml")).unwrap();
        let machine = Machine::find_in(block("text")).unwrap();
        let plan = Plan::new(&machine, &requests(&manifest)).unwrap();
        assert_eq!(block("text"), format!("{machine}\n{plan}\n"));
        let drawn = picture::picture("example.toml on the machine of boot.log", &machine, &plan);
        assert!(drawn == include_str!("../../../docs/plan.svg"), "draw docs/plan.svg again");
    }
}
