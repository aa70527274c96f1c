//! The service core's part in who is signed in: the commands, and what is said of them.

use super::access::{Denied, SignedIn};
use super::answers::{answer, refuse};
use super::audit;
use super::commands::{Command, Form};
use super::json;
use super::log as console;
use super::service::Service;
use super::session::Channel;
use alloc::format;
use alloc::string::String;
use bulkhead_operators::Role;
use log::info;

/// Seconds since the log began.
fn now() -> u64 {
    console::micros() / 1_000_000
}

impl Service {
    /// Who gives commands on a channel, for the audit trail.
    pub(super) fn who(&self, channel: Channel) -> String {
        match self.access.who(channel as usize) {
            Some((name, ..)) => format!("{name}@{}", channel.who()),
            None => channel.who().into(),
        }
    }

    /// Whether a command may be given on a channel.
    pub(super) fn may(&mut self, channel: Channel, command: &Command<'_>) -> Result<(), Denied> {
        match command.role() {
            Some(role) => self.access.may(channel as usize, role, now()),
            None => Ok(()),
        }
    }

    pub(super) fn sign_in(&mut self, channel: Channel, name: &str, password: &[u8]) {
        // Whoever was there no longer is.
        self.forget_lines(channel);
        match self.access.sign_in(channel as usize, name, password, now) {
            Ok(SignedIn { role, wrong: 0 }) => {
                answer(format_args!("{name} is signed in as {role}"))
            }
            Ok(SignedIn { role, wrong }) => answer(format_args!(
                "{name} is signed in as {role}; wrong passwords were given here before: {wrong}"
            )),
            Err(why) => refuse(format_args!("{why}")),
        }
    }

    pub(super) fn sign_out(&mut self, channel: Channel) {
        self.forget_lines(channel);
        match self.access.sign_out(channel as usize) {
            Some(name) => answer(format_args!("{name} is signed out")),
            None => refuse(format_args!("nobody is signed in")),
        }
    }

    /// What whoever is signed in there has typed is not for the next one.
    fn forget_lines(&mut self, channel: Channel) {
        if channel == Channel::Console && self.access.who(channel as usize).is_some() {
            self.consoles.forget_lines();
        }
    }

    /// Signs out whoever is at a channel that somebody else takes over.
    pub(super) fn leave(&mut self, channel: Channel) {
        let who = self.who(channel);
        if self.access.sign_out(channel as usize).is_some() {
            audit::record(
                audit::HYPERVISOR,
                format_args!("{who} is signed out: the next client came"),
            );
        }
    }

    /// Answers `who`.
    pub(super) fn say_who(&self, form: Form) {
        if form == Form::Json {
            return json::who(&self.access, now());
        }
        for channel in Channel::ALL {
            match self.access.who(channel as usize) {
                Some((name, role, since)) => answer(format_args!(
                    "{}: {name}, {role}, for {} s",
                    channel.who(),
                    now().saturating_sub(since)
                )),
                None => answer(format_args!("{}: nobody", channel.who())),
            }
        }
    }

    /// Whoever is at a channel is not idle: a long answer goes there.
    pub(super) fn is_busy(&mut self, channel: Channel) {
        // The least role is enough to be known.
        let _ = self.access.may(channel as usize, Role::Viewer, now());
    }

    /// Signs out those who have given no command for long.
    pub(super) fn sign_out_idle(&mut self) {
        while let Some((place, name)) = self.access.expire(now()) {
            let channel = Channel::ALL.get(place).map_or("", |channel| channel.who());
            info!("{channel}: {name} is signed out: no command for long");
            audit::record(
                audit::HYPERVISOR,
                format_args!("{name}@{channel} is signed out: no command for long"),
            );
            if place == Channel::Console as usize {
                self.consoles.forget_lines();
            }
        }
    }
}
