//! Building, running and testing Bulkhead, as a library that the integration tests use too.
