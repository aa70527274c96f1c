//! The bundle format that the packer writes and the hypervisor reads.
#![no_std]
extern crate alloc;
