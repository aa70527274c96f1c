//! Tests of the planner through its public interface.

mod common;
mod messages;
mod properties;
mod rules;
