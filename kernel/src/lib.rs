//! Bulkhead: a Type-1 hypervisor that splits a machine into partitions and
//! then gets out of the way.
//!
//! Read this page first. A folder is a concern, and imports point one way:
//!
//! ```text
//! control → guest → { device, vmx } → memory → arch
//! ```
//!
//! * [`arch`]: the processor. The only place for `unsafe` instructions and
//!   register layouts.
//! * [`memory`]: who owns which frame, and who maps it where.
//! * [`vmx`]: VMCS, EPT, entry and exit; knows nothing of guests' policy.
//! * [`device`]: device models; plain logic that knows nothing of VMX.
//! * [`guest`]: policy: what each exit means, CPUID, MSRs, loaders.
//! * [`control`]: boot, life cycle, console.
//!
//! The library is plain enough to build on the host, where its logic is tested
//! with `cargo test`; the binary in `main.rs` is the bare-metal entry.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod arch;
pub mod control;
pub mod device;
pub mod guest;
pub mod memory;
pub mod vmx;
