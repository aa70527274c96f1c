//! Decodes the instruction behind an access to emulated MMIO.
