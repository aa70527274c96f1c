//! Integration tests of Bulkhead: what they share.
