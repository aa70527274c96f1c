//! Boot, life cycle, console.

pub mod framebuffer;
