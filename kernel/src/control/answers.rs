//! Answers to commands: each goes where its command came from, and what came of it into the audit trail.

use super::audit;
use super::port;
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

/// Whether more of an answer can be said now. What is said on the console waits for its port where it has to.
pub fn wanted(channel: Channel) -> bool {
    match channel {
        Channel::Console => true,
        Channel::Control => port::is_idle(),
    }
}

/// Answers a command, or goes on answering it: one line.
pub fn answer(answer: fmt::Arguments<'_>) {
    audit::result(false, answer);
    match *ANSWERED.lock() {
        Channel::Console => info!("console: {answer}"),
        Channel::Control => port::answer(answer),
    }
}

/// Goes on with an answer by a line that says itself what it is about, as other lines of the log do.
pub fn answer_more(line: fmt::Arguments<'_>) {
    match *ANSWERED.lock() {
        Channel::Console => info!("{line}"),
        Channel::Control => port::answer(line),
    }
}

/// Refuses a command, in one line that says what would be right.
pub fn refuse(why: fmt::Arguments<'_>) {
    audit::result(true, why);
    match *ANSWERED.lock() {
        Channel::Console => error!("console: {why}"),
        Channel::Control => port::refuse(why),
    }
}

/// The answer is whole.
pub fn end() {
    match *ANSWERED.lock() {
        // Nobody waits for it there.
        Channel::Console => {}
        Channel::Control => port::end(),
    }
}
