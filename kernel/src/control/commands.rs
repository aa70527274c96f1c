//! The operator's commands, as they are typed.

use super::define::{self, Define};
use alloc::format;
use alloc::string::String;
use bulkhead_operators::Role;
use core::fmt;

/// Most bytes of a command, without escape and line end.
pub const MAX_COMMAND: usize = bulkhead_control::MAX_COMMAND;

/// How a guest is brought to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// It is asked to power itself off, and stopped when it has not after a while.
    Ask,
    /// Its cores leave it, whatever they do.
    Now,
}

/// What is done to a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Its cores stop where they are.
    Pause,
    /// They go on.
    Resume,
    /// It is started.
    Start,
    /// It ends.
    Stop(Manner),
    /// It ends and is started again.
    Restart(Manner),
    /// Its cores stop where they are, and its console is cut off.
    Quarantine,
    /// That is over; it is paused.
    Release,
    /// It ends, and has no cores and no memory any more.
    Destroy,
}

impl Order {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Start,
        Self::Pause,
        Self::Resume,
        Self::Stop(Manner::Ask),
        Self::Restart(Manner::Ask),
        Self::Quarantine,
        Self::Release,
        Self::Destroy,
    ];

    /// The role that it takes.
    pub fn role(self) -> Role {
        match self {
            Self::Pause
            | Self::Resume
            | Self::Start
            | Self::Stop(_)
            | Self::Restart(_)
            | Self::Quarantine => Role::Operator,
            Self::Release | Self::Destroy => Role::Administrator,
        }
    }

    /// The same, at once. `None` if it is not brought to its end by it.
    fn now(self) -> Option<Self> {
        match self {
            Self::Stop(_) => Some(Self::Stop(Manner::Now)),
            Self::Restart(_) => Some(Self::Restart(Manner::Now)),
            _ => None,
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Start => "start",
            Self::Stop(_) => "stop",
            Self::Restart(_) => "restart",
            Self::Quarantine => "quarantine",
            Self::Release => "release",
            Self::Destroy => "destroy",
        }
    }
}

/// A command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command<'a> {
    /// What is typed goes to this guest from now on.
    Attach(&'a str),
    /// Something is done to this guest.
    Order(Order, &'a str),
    /// So many bytes of this guest's memory are shown, from a guest-physical address on.
    Examine(&'a str, u64),
    /// The registers of a processor of this guest's are shown.
    Registers(&'a str, u32),
    /// What this guest is and does is shown.
    Info(&'a str, Form),
    /// This guest's exits so far are shown.
    Exits(&'a str, Form),
    /// The guests are listed.
    List(Form),
    /// What guests are made of is listed.
    Inventory(Form),
    /// What their processors do is shown.
    Top(Form),
    /// All of this guest's memory is shown.
    Dump(&'a str),
    /// A guest is given cores and memory.
    Define(Define<'a>),
    /// Who has what of the machine is shown.
    Plan(Form),
    /// The newest lines of the log are shown.
    Log,
    /// What of the hypervisor's memory is in use is shown.
    Memory(Form),
    /// The audit trail is shown, as far as it was not.
    Audit(Form),
    /// An operator of this name signs in with this password.
    SignIn(&'a str, &'a [u8]),
    /// Whoever is signed in no longer is.
    SignOut,
    /// Who is signed in is shown.
    Who(Form),
    /// All guests are stopped, and the machine is switched off.
    PowerOff(Manner),
    /// The commands are listed.
    Help,
}

impl Command<'_> {
    /// The role that it takes. `None` if it is for everybody: what is typed goes to some guest in any case, and what a
    /// guest lets in is the guest's to decide, so to which one it goes is no privilege.
    pub fn role(&self) -> Option<Role> {
        match self {
            Self::Attach(_) | Self::SignIn(..) | Self::SignOut | Self::Who(_) | Self::Help => None,
            Self::Info(..)
            | Self::Exits(..)
            | Self::List(_)
            | Self::Inventory(_)
            | Self::Top(_)
            | Self::Plan(_)
            | Self::Memory(_)
            | Self::Audit(_) => Some(Role::Viewer),
            Self::Order(order, _) => Some(order.role()),
            // A guest's secrets are in its memory and in its registers, which the log has of a fault.
            Self::Examine(..)
            | Self::Log
            | Self::Registers(..)
            | Self::Dump(_)
            | Self::Define(_)
            | Self::PowerOff(_) => Some(Role::Administrator),
        }
    }
}

/// For whom an answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// For people.
    Table,
    /// For programs.
    Json,
}

impl Form {
    fn json_if(json: bool) -> Self {
        if json { Self::Json } else { Self::Table }
    }
}

/// The commands, for messages.
pub const COMMANDS: &str = "attach NAME, start NAME, pause NAME, resume NAME, stop NAME [--now], restart NAME [--now], quarantine NAME, \
     release NAME, destroy NAME, define NAME [--cores CORES] [--memory SIZE], info NAME [--json], exits NAME [--json], examine NAME ADDRESS, dump NAME, registers NAME PROCESSOR, list [--json], inventory [--json], top [--json], plan [--json], log, memory [--json], audit [--json], \
     sign-in NAME PASSWORD, sign-out, who [--json], power-off [--now], help";

/// Why a line is no command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoCommand<'a> {
    /// There is no word in it.
    Empty,
    /// Its first word is none of the commands.
    Unknown(&'a [u8]),
    /// This command needs a guest's name, and nothing else.
    OneName(&'static str),
    /// This command needs a guest's name, and this option may follow.
    OneNameOr(&'static str, &'static str),
    /// This command needs a guest's name and a number.
    NameAndNumber(&'static str, &'static str),
    /// `define` needs a name, and knows two options.
    Define,
    /// `sign-in` needs a name and a password.
    NameAndPassword,
    /// This command stands alone, or with this option.
    NoNameBut(&'static str, &'static str),
    /// This command stands alone.
    NoName(&'static str),
}

impl fmt::Display for NoCommand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "no command; the commands are {COMMANDS}"),
            Self::Unknown(word) => {
                write!(f, "unknown command \"{}\"; they are {COMMANDS}", word.escape_ascii())
            }
            Self::OneName(verb) => write!(f, "{verb} takes the name of one guest: {verb} NAME"),
            Self::OneNameOr(verb, option) => {
                write!(
                    f,
                    "{verb} takes the name of one guest: {verb} NAME, or {verb} NAME {option}"
                )
            }
            Self::NameAndNumber(verb, example) => {
                write!(f, "{verb} takes the name of one guest and a number: {verb} NAME {example}")
            }
            Self::Define => f.write_str(define::RULE),
            Self::NameAndPassword => {
                f.write_str("sign-in takes your name and your password: sign-in NAME PASSWORD")
            }
            Self::NoNameBut(verb, option) => write!(f, "{verb} takes nothing but {option}"),
            Self::NoName(verb) => write!(f, "{verb} takes no name"),
        }
    }
}

/// Reads a command line.
///
/// # Errors
/// If it is none of the commands, or has too few or too many words.
pub fn parse(line: &[u8]) -> Result<Command<'_>, NoCommand<'_>> {
    let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    let first = words.next().ok_or(NoCommand::Empty)?;
    let (name, more, rest) = (words.next(), words.next(), words.next());
    let named = |verb| match (name.map(core::str::from_utf8), more) {
        (Some(Ok(name)), None) => Ok(name),
        _ => Err(NoCommand::OneName(verb)),
    };
    let alone =
        |verb, command| if name.is_none() { Ok(command) } else { Err(NoCommand::NoName(verb)) };
    let is = |word: &[u8], option: &str| word == option.as_bytes();
    // Whether the option is there.
    let alone_or = |verb, option| match (name, more) {
        (None, _) => Ok(false),
        (Some(word), None) if is(word, option) => Ok(true),
        _ => Err(NoCommand::NoNameBut(verb, option)),
    };
    let named_or = |verb, option| match (name.map(core::str::from_utf8), more, rest) {
        (Some(Ok(name)), None, _) => Ok((name, false)),
        (Some(Ok(name)), Some(word), None) if is(word, option) => Ok((name, true)),
        _ => Err(NoCommand::OneNameOr(verb, option)),
    };
    let form = |verb| alone_or(verb, JSON).map(Form::json_if);
    let named_form = |verb| named_or(verb, JSON).map(|(name, json)| (name, Form::json_if(json)));
    let with_number = |verb, example| match (name.map(core::str::from_utf8), more) {
        (Some(Ok(name)), Some(word)) if rest.is_none() => {
            Ok((name, number(word).ok_or(NoCommand::NameAndNumber(verb, example))?))
        }
        _ => Err(NoCommand::NameAndNumber(verb, example)),
    };
    match first {
        b"examine" => {
            let (name, address) = with_number("examine", "0x100000")?;
            Ok(Command::Examine(name, address))
        }
        b"registers" => {
            let (name, processor) = with_number("registers", "0")?;
            Ok(Command::Registers(name, u32::try_from(processor).unwrap_or(u32::MAX)))
        }
        b"attach" => Ok(Command::Attach(named("attach")?)),
        b"info" => named_form("info").map(|(name, form)| Command::Info(name, form)),
        b"exits" => named_form("exits").map(|(name, form)| Command::Exits(name, form)),
        b"list" => Ok(Command::List(form("list")?)),
        b"top" => Ok(Command::Top(form("top")?)),
        b"inventory" => Ok(Command::Inventory(form("inventory")?)),
        b"dump" => Ok(Command::Dump(named("dump")?)),
        b"define" => {
            let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            Define::parse(words.skip(1)).map(Command::Define).ok_or(NoCommand::Define)
        }
        b"log" => alone("log", Command::Log),
        b"plan" => Ok(Command::Plan(form("plan")?)),
        b"memory" => Ok(Command::Memory(form("memory")?)),
        b"audit" => Ok(Command::Audit(form("audit")?)),
        SIGN_IN => {
            let (name, password) = credentials(line).ok_or(NoCommand::NameAndPassword)?;
            Ok(Command::SignIn(name, password))
        }
        b"sign-out" => alone("sign-out", Command::SignOut),
        b"who" => Ok(Command::Who(form("who")?)),
        b"power-off" => {
            let now = alone_or("power-off", NOW)?;
            Ok(Command::PowerOff(if now { Manner::Now } else { Manner::Ask }))
        }
        b"help" => alone("help", Command::Help),
        _ => {
            let order = Order::ALL.into_iter().find(|order| order.word().as_bytes() == first);
            let order = order.ok_or(NoCommand::Unknown(first))?;
            let Some(now) = order.now() else {
                return Ok(Command::Order(order, named(order.word())?));
            };
            let (name, is_now) = named_or(order.word(), NOW)?;
            Ok(Command::Order(if is_now { now } else { order }, name))
        }
    }
}

/// The word by which an answer is for programs.
const JSON: &str = "--json";

/// The word by which a guest is not asked.
const NOW: &str = "--now";

/// The word that a password follows.
const SIGN_IN: &[u8] = b"sign-in";

/// The name and the password behind `sign-in`; blanks within the password belong to it.
fn credentials(line: &[u8]) -> Option<(&str, &[u8])> {
    let rest = line.trim_ascii().strip_prefix(SIGN_IN)?.trim_ascii_start();
    let end = rest.iter().position(u8::is_ascii_whitespace)?;
    let (name, password) = rest.split_at(end);
    Some((core::str::from_utf8(name).ok()?, password.trim_ascii()))
}

/// A command line as it may be kept: a password is not kept, nor a name that may be one in the wrong place.
pub fn without_password(line: &[u8], is_operator: impl Fn(&str) -> bool) -> String {
    if !bulkhead_line::may_have_password(line) {
        return format!("{}", line.escape_ascii());
    }
    match credentials(line) {
        Some((name, _)) if is_operator(name) => format!("sign-in {name}"),
        _ => "sign-in (name not shown)".into(),
    }
}

/// A number, decimal or hexadecimal behind `0x`.
fn number(word: &[u8]) -> Option<u64> {
    let word = core::str::from_utf8(word).ok()?;
    match word.strip_prefix("0x") {
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok(),
        None if !word.starts_with('+') => word.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
