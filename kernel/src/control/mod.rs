//! Boot, life cycle, console.

pub mod answers;
pub mod audit;
pub mod boot;
pub mod clock;
pub mod commands;
pub mod consoles;
pub mod cores;
pub mod costs;
pub mod framebuffer;
pub mod guest;
pub mod inventory;
pub mod life;
pub mod link;
pub mod listing;
pub mod log;
pub mod machine;
pub mod memory_map;
pub mod panic;
pub mod plan;
pub mod port;
pub mod power;
pub mod restarts;
pub mod service;
pub mod session;
pub mod shares;
pub mod wire;
