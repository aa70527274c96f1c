//! Answers to commands: each goes where its command came from, and what came of it into the audit trail.

use super::audit;
use super::session::Channel;
use core::fmt;
use log::{error, info};
use spin::Mutex;

/// Whose command is answered now. Used by the service core alone.
static ANSWERED: Mutex<Channel> = Mutex::new(Channel::Console);

/// Answers go to this channel from now on.
pub fn begin(channel: Channel) {
    *ANSWERED.lock() = channel;
}

/// Answers a command, or goes on answering it: one line.
pub fn answer(answer: fmt::Arguments<'_>) {
    audit::result(false, answer);
    let channel = *ANSWERED.lock();
    info!("{}: {answer}", channel.who());
}

/// Refuses a command, in one line that says what would be right.
pub fn refuse(why: fmt::Arguments<'_>) {
    audit::result(true, why);
    let channel = *ANSWERED.lock();
    error!("{}: {why}", channel.who());
}
