//! The plan of a manifest, made on the host: which guest will get which cores and which memory.
//!
//! The rules are in the crate `bulkhead-plan`, which the hypervisor uses too. Here is what it takes to apply them without
//! a boot: the [`machine`], and a [`picture`] of the outcome.

pub mod machine;
pub mod picture;
mod svg;

use bulkhead_boot::Manifest;
use bulkhead_plan::Request;

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
