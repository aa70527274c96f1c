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
    assert_eq!(parse(b"plan"), Ok(Command::Plan(Form::Table)));
    assert_eq!(parse(b"plan --json"), Ok(Command::Plan(Form::Json)));
    assert_eq!(parse(b"memory --json"), Ok(Command::Memory(Form::Json)));
    assert_eq!(parse(b"info one"), Ok(Command::Info("one", Form::Table)));
    assert_eq!(parse(b"exits one --json"), Ok(Command::Exits("one", Form::Json)));
    assert_eq!(parse(b"audit"), Ok(Command::Audit(Form::Table)));
    assert_eq!(parse(b"power-off"), Ok(Command::PowerOff(Manner::Ask)));
    assert_eq!(parse(b"power-off --now"), Ok(Command::PowerOff(Manner::Now)));
    let now = |order| Ok(Command::Order(order, "one"));
    assert_eq!(parse(b"stop one --now"), now(Order::Stop(Manner::Now)));
    assert_eq!(parse(b"restart one --now"), now(Order::Restart(Manner::Now)));
    assert_eq!(parse(b"who"), Ok(Command::Who(Form::Table)));
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
    assert_eq!(said(b"log all"), "log takes no name");
    let info = "info takes the name of one guest: info NAME, or info NAME --json";
    for line in ["info", "info a b", "info --json a", "info a --json b"] {
        assert_eq!(said(line.as_bytes()), info, "{line}");
    }
    let sign_in = "sign-in takes your name and your password: sign-in NAME PASSWORD";
    assert_eq!([said(b"sign-in"), said(b"sign-in anna"), said(b"sign-in anna ")], [sign_in; 3]);
    let examine = "examine takes the name of one guest and a number: examine NAME 0x100000";
    for line in
        ["examine", "examine a", "examine a b", "examine a 0x+1", "examine a 1 2", "examine a -1"]
    {
        assert_eq!(said(line.as_bytes()), examine, "{line}");
    }
}

proptest::proptest! {
    #[test]
    fn any_line_is_read(line: Vec<u8>) {
        let _ = parse(&line).map_err(|none| format!("{none}"));
    }
}
