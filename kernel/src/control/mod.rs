//! Boot, life cycle, console.
