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
    /// What it is and does is shown.
    Info,
    /// Its exits so far are shown.
    Exits,
}

impl Order {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Start,
        Self::Pause,
        Self::Resume,
        Self::Stop(Manner::Ask),
        Self::Restart(Manner::Ask),
        Self::Quarantine,
        Self::Release,
        Self::Destroy,
        Self::Info,
        Self::Exits,
    ];

    /// The role that it takes.
    pub fn role(self) -> Role {
        match self {
            Self::Info | Self::Exits => Role::Viewer,
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
            Self::Info => "info",
            Self::Exits => "exits",
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
    Plan,
    /// The newest lines of the log are shown.
    Log,
    /// What of the hypervisor's memory is in use is shown.
    Memory,
    /// The audit trail is shown, as far as it was not.
    Audit,
    /// An operator of this name signs in with this password.
    SignIn(&'a str, &'a [u8]),
    /// Whoever is signed in no longer is.
    SignOut,
    /// Who is signed in is shown.
    Who,
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
            Self::Attach(_) | Self::SignIn(..) | Self::SignOut | Self::Who | Self::Help => None,
            Self::List(_)
            | Self::Inventory(_)
            | Self::Top(_)
            | Self::Plan
            | Self::Memory
            | Self::Audit => Some(Role::Viewer),
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

/// The commands, for messages.
pub const COMMANDS: &str = "attach NAME, start NAME, pause NAME, resume NAME, stop NAME [--now], restart NAME [--now], quarantine NAME, \
     release NAME, destroy NAME, define NAME [--cores CORES] [--memory SIZE], info NAME, exits NAME, examine NAME ADDRESS, dump NAME, registers NAME PROCESSOR, list [--json], inventory [--json], top [--json], plan, log, memory, audit, \
     sign-in NAME PASSWORD, sign-out, who, power-off [--now], help";

/// Why a line is no command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoCommand<'a> {
    /// There is no word in it.
    Empty,
    /// Its first word is none of the commands.
    Unknown(&'a [u8]),
    /// This command needs a guest's name, and nothing else.
    OneName(&'static str),
    /// This command needs a guest's name, and `--now` may follow.
    OneNameOrNow(&'static str),
    /// This command needs a guest's name and a number.
    NameAndNumber(&'static str, &'static str),
    /// `define` needs a name, and knows two options.
    Define,
    /// `sign-in` needs a name and a password.
    NameAndPassword,
    /// This command stands alone, or with `--json`.
    NoNameButForm(&'static str),
    /// This command stands alone, or with `--now`.
    NoNameButNow(&'static str),
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
            Self::OneNameOrNow(verb) => {
                write!(f, "{verb} takes the name of one guest: {verb} NAME, or {verb} NAME --now")
            }
            Self::NameAndNumber(verb, example) => {
                write!(f, "{verb} takes the name of one guest and a number: {verb} NAME {example}")
            }
            Self::Define => f.write_str(define::RULE),
            Self::NameAndPassword => {
                f.write_str("sign-in takes your name and your password: sign-in NAME PASSWORD")
            }
            Self::NoNameButForm(verb) => write!(f, "{verb} takes nothing but --json"),
            Self::NoNameButNow(verb) => write!(f, "{verb} takes nothing but --now"),
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
    let form = |verb| match (name, more) {
        (None, _) => Ok(Form::Table),
        (Some(b"--json"), None) => Ok(Form::Json),
        _ => Err(NoCommand::NoNameButForm(verb)),
    };
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
        b"list" => Ok(Command::List(form("list")?)),
        b"top" => Ok(Command::Top(form("top")?)),
        b"inventory" => Ok(Command::Inventory(form("inventory")?)),
        b"dump" => Ok(Command::Dump(named("dump")?)),
        b"define" => {
            let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            Define::parse(words.skip(1)).map(Command::Define).ok_or(NoCommand::Define)
        }
        b"log" => alone("log", Command::Log),
        b"plan" => alone("plan", Command::Plan),
        b"memory" => alone("memory", Command::Memory),
        b"audit" => alone("audit", Command::Audit),
        SIGN_IN => {
            let (name, password) = credentials(line).ok_or(NoCommand::NameAndPassword)?;
            Ok(Command::SignIn(name, password))
        }
        b"sign-out" => alone("sign-out", Command::SignOut),
        b"who" => alone("who", Command::Who),
        b"power-off" => match (name, more) {
            (None, _) => Ok(Command::PowerOff(Manner::Ask)),
            (Some(NOW), None) => Ok(Command::PowerOff(Manner::Now)),
            _ => Err(NoCommand::NoNameButNow("power-off")),
        },
        b"help" => alone("help", Command::Help),
        _ => {
            let order = Order::ALL.into_iter().find(|order| order.word().as_bytes() == first);
            let order = order.ok_or(NoCommand::Unknown(first))?;
            let Some(now) = order.now() else {
                return Ok(Command::Order(order, named(order.word())?));
            };
            match (name.map(core::str::from_utf8), more, rest) {
                (Some(Ok(name)), None, _) => Ok(Command::Order(order, name)),
                (Some(Ok(name)), Some(NOW), None) => Ok(Command::Order(now, name)),
                _ => Err(NoCommand::OneNameOrNow(order.word())),
            }
        }
    }
}

/// The word by which a guest is not asked.
const NOW: &[u8] = b"--now";

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
mod tests {
    use super::*;
    use std::format;
    use std::vec::Vec;

    #[test]
    fn commands_are_understood() {
        assert_eq!(parse(b"attach one"), Ok(Command::Attach("one")));
        assert_eq!(parse(b"  pause   one-2 "), Ok(Command::Order(Order::Pause, "one-2")));
        for order in Order::ALL {
            let line = format!("{} x", order.word());
            assert_eq!(parse(line.as_bytes()), Ok(Command::Order(order, "x")));
        }
        assert_eq!(parse(b"list"), Ok(Command::List(Form::Table)));
        assert_eq!(parse(b"list --json"), Ok(Command::List(Form::Json)));
        assert_eq!(parse(b"top --json"), Ok(Command::Top(Form::Json)));
        assert_eq!(parse(b"inventory --json"), Ok(Command::Inventory(Form::Json)));
        assert_eq!(parse(b"examine one 0xfF0"), Ok(Command::Examine("one", 0xFF0)));
        assert_eq!(parse(b"registers one 1"), Ok(Command::Registers("one", 1)));
        let define = Define { name: "one", cores: None, memory: Some(4 << 20) };
        assert_eq!(parse(b" define one --memory 4MiB"), Ok(Command::Define(define)));
        assert_eq!(parse(b"dump one"), Ok(Command::Dump("one")));
        assert_eq!(parse(b"log"), Ok(Command::Log));
        assert_eq!(parse(b"plan"), Ok(Command::Plan));
        assert_eq!(parse(b"memory"), Ok(Command::Memory));
        assert_eq!(parse(b"audit"), Ok(Command::Audit));
        assert_eq!(parse(b"power-off"), Ok(Command::PowerOff(Manner::Ask)));
        assert_eq!(parse(b"power-off --now"), Ok(Command::PowerOff(Manner::Now)));
        let now = |order| Ok(Command::Order(order, "one"));
        assert_eq!(parse(b"stop one --now"), now(Order::Stop(Manner::Now)));
        assert_eq!(parse(b"restart one --now"), now(Order::Restart(Manner::Now)));
        assert_eq!(parse(b"who"), Ok(Command::Who));
        assert_eq!(parse(b"sign-out"), Ok(Command::SignOut));
        let signed = Command::SignIn("anna", b"a  blank, or two");
        assert_eq!(parse(b" sign-in  anna a  blank, or two"), Ok(signed));
        assert_eq!(parse(b"help"), Ok(Command::Help));
    }

    #[test]
    fn passwords_are_not_kept() {
        let kept = |line: &[u8]| without_password(line, |name| name == "anna");
        assert_eq!(kept(b"sign-in anna secret"), "sign-in anna");
        for line in [
            "sign-in secret",
            "sign-in secret anna",
            "Sign-In anna secret",
            "sign-in",
            "sign-inn anna secret",
        ] {
            assert_eq!(kept(line.as_bytes()), "sign-in (name not shown)", "{line}");
        }
        assert_eq!(kept(b"stop one\x1b"), "stop one\\x1b");
        assert_eq!(kept(b""), "");
    }

    #[test]
    fn nothing_is_touched_without_a_role() {
        let free = |line: &str| parse(line.as_bytes()).unwrap().role().is_none();
        for line in ["attach a", "sign-in a b", "sign-out", "who", "help"] {
            assert!(free(line), "{line}");
        }
        for line in ["list", "inventory", "top", "plan", "memory", "audit", "info a", "exits a"] {
            assert_eq!(parse(line.as_bytes()).unwrap().role(), Some(Role::Viewer), "{line}");
        }
        for line in ["pause a", "resume a", "start a", "stop a", "restart a", "quarantine a"] {
            assert_eq!(parse(line.as_bytes()).unwrap().role(), Some(Role::Operator), "{line}");
        }
        for line in [
            "release a",
            "destroy a",
            "define a",
            "log",
            "dump a",
            "examine a 0",
            "registers a 0",
            "power-off",
        ] {
            assert_eq!(parse(line.as_bytes()).unwrap().role(), Some(Role::Administrator), "{line}");
        }
    }

    /// Those that an operator's line completes.
    #[test]
    fn each_command_can_be_completed() {
        for (name, takes_guest) in bulkhead_line::COMMANDS {
            let entry = if takes_guest { format!("{name} NAME") } else { name.into() };
            assert!(COMMANDS.split(", ").any(|one| one.trim().starts_with(&entry)), "{name}");
        }
        assert_eq!(bulkhead_line::COMMANDS.len(), COMMANDS.split(", ").count(), "one is missing");
    }

    #[test]
    fn all_commands_are_named_where_they_are_listed() {
        for order in Order::ALL {
            let now = if order.now().is_some() { " [--now]" } else { "" };
            assert!(COMMANDS.contains(&format!("{} NAME{now}, ", order.word())), "{order:?}");
        }
    }

    #[test]
    fn what_is_none_says_what_would_be_right() {
        let said = |line: &[u8]| format!("{}", parse(line).unwrap_err());
        assert_eq!(said(b" "), format!("no command; the commands are {COMMANDS}"));
        let unknown = format!("unknown command \"kill\\x1b\"; they are {COMMANDS}");
        assert_eq!(said(b"kill\x1b x"), unknown);
        let one = "pause takes the name of one guest: pause NAME";
        assert_eq!([said(b"pause"), said(b"pause a b"), said(b"pause \xff")], [one; 3]);
        let one = "stop takes the name of one guest: stop NAME, or stop NAME --now";
        for line in ["stop", "stop a b", "stop a --now b"] {
            assert_eq!(said(line.as_bytes()), one, "{line}");
        }
        assert_eq!(said(b"power-off a"), "power-off takes nothing but --now");
        assert_eq!(said(b"define"), define::RULE);
        assert_eq!(said(b"list all"), "list takes nothing but --json");
        assert_eq!(said(b"memory all"), "memory takes no name");
        let sign_in = "sign-in takes your name and your password: sign-in NAME PASSWORD";
        assert_eq!([said(b"sign-in"), said(b"sign-in anna"), said(b"sign-in anna ")], [sign_in; 3]);
        let examine = "examine takes the name of one guest and a number: examine NAME 0x100000";
        for line in [
            "examine",
            "examine a",
            "examine a b",
            "examine a 0x+1",
            "examine a 1 2",
            "examine a -1",
        ] {
            assert_eq!(said(line.as_bytes()), examine, "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_read(line: Vec<u8>) {
            let _ = parse(&line).map_err(|none| format!("{none}"));
        }
    }
}
