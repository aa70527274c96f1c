//! The operator's commands, and the line in which they are typed.

use bulkhead::control::commands::{Command, parse, without_password};
use bulkhead_line::{Edit, LONGEST, Line};
use bulkhead_manifest::limits;

/// A line is a command or there is a reason why not, in a line; as it is kept it has no password. Whatever keys are pressed,
/// a line that is edited has no more bytes than it may, and shows no password.
pub fn commands(data: &[u8]) -> String {
    let kept = without_password(data, |name| name == "anna");
    assert!(kept.is_ascii() && !kept.contains(char::is_control), "{kept:?}");
    let said = match parse(data) {
        Err(reason) => {
            let reason = reason.to_string();
            assert!(!reason.is_empty() && !reason.contains(char::is_control), "{reason:?}");
            format!("refused: {}", reason.split([':', ';']).next().unwrap_or_default())
        }
        Ok(command) => {
            let _ = command.role();
            check(&command, &kept);
            format!("{command:?}").split(['(', ' ']).next().unwrap_or_default().to_string()
        }
    };
    let lines = edit(data);
    format!("{said}; as keys {lines} lines")
}

fn check(command: &Command<'_>, kept: &str) {
    match command {
        Command::SignIn(name, _) => {
            let expected = ["sign-in (name not shown)".to_string(), format!("sign-in {name}")];
            assert!(expected.iter().any(|line| line == kept), "{kept}");
        }
        Command::Order(order, name) => {
            let again = format!("{} {name}", order.word());
            let again = parse(again.as_bytes()).expect("the same word and name");
            assert!(matches!(again, Command::Order(_, same) if same == *name));
        }
        Command::Define(define) => {
            assert!(define.cores.as_ref().is_none_or(limits::is_cores));
            assert!(define.memory.is_none_or(limits::is_memory));
        }
        _ => {}
    }
}

/// Presses keys. Gives the number of lines that were complete.
fn edit(keys: &[u8]) -> usize {
    let mut line = Line::default();
    let mut done = 0;
    // A few lines' worth: more takes the time of other inputs.
    for &key in keys.iter().take(4 * LONGEST) {
        match line.feed(key, &["one", "one-2", "web"]) {
            Edit::Done(text) => {
                done += 1;
                assert!(text.len() <= LONGEST);
                line.begin();
            }
            Edit::Cancelled => line.begin(),
            Edit::Choices(choices) => assert!(choices.len() > 1),
            Edit::Changed | Edit::Same => {}
        }
        let shown = line.shown();
        assert!(
            shown.chars().count() <= LONGEST && !shown.contains(|c: char| c.is_ascii_control()),
            "{shown:?}"
        );
        if let Some(("", rest)) = shown.split_once("sign-in ")
            && let Some((name, password)) = rest.trim_start().split_once(' ')
        {
            let hidden = password.trim_start_matches(' ');
            assert!(hidden.chars().all(|c| c == '*') || name.is_empty(), "{shown:?}");
        }
    }
    done
}
