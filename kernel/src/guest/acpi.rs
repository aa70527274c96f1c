//! The ACPI tables that a guest is given.
