//! Device models: plain logic, host-tested, which know nothing of VMX.
//!
//! A model is a struct with a method per kind of access. It never touches hardware, never
//! allocates on an access, and has no input that makes it panic: what a guest writes is either
//! meaningful or ignored. All models of one guest sit behind one lock: the guest's cores reach
//! them on exits, the service core when it moves console bytes.
//!
//! * [`uart`]: the 16550A of the console, with back-pressure towards the guest.

pub mod queue;
pub mod uart;
