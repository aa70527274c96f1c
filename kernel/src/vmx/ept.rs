//! Extended page tables.
