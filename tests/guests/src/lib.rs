//! The runtime that the bare-metal test guests share.
#![no_std]
