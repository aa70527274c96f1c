//! Tests of the bundle format through its public interface.

mod common;
mod damage;
mod messages;
