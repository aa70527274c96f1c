//! Checks a manifest and packs guests into a bundle.
